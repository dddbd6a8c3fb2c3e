"""Collections of real depth maps to embed, as parquet files, folders and WebDataset shards; the command in-process."""

import io
import json
import shutil
import tarfile

from datasets import Dataset, load_dataset

from hf_encoders import command_line
from hf_encoders.commands import embed


def run_embed(model, dataset, output, *options):
    """The command, as a person would call it."""
    arguments = [model, dataset, "--output", output, "--modality", "depth", *options]
    command_line.run(lambda: embed.command([str(argument) for argument in arguments]))


def rows_of(output):
    return load_dataset("parquet", data_files=str(output / "data" / "*.parquet"), split="train").with_format("numpy")


def manifest_of(output):
    return json.loads((output / "manifest.json").read_text(encoding="utf-8"))


def write_parquet(rows: Dataset, path):
    """In row groups of 7 rows, which no shard and no batch is a multiple of."""
    rows.to_parquet(path, batch_size=7)
    return path


def write_folder(rows: Dataset, folder):
    """At two levels, in the order of the rows."""
    for number, depth in enumerate(rows["depth"]):
        path = folder / ("a" if number < 3 else "b/c") / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        depth.save(path)
    return folder


def grow(maps):
    """The folder of the fixture `maps` gets two files, one of them in the middle; one goes, and one is another now."""
    for name in ("005.png", "015.png"):
        (maps.parent / name).rename(maps / "b/c" / name)
    (maps / "a" / "001.png").unlink()
    shutil.copyfile(maps / "a" / "000.png", maps / "b/c" / "012.png")


def write_tars(rows: Dataset, folder, sizes):
    """Shards of so many rows."""
    first = 0
    for number, size in enumerate(sizes):
        with tarfile.open(folder / f"{number}.tar", "w") as tar:
            for index in range(first, first + size):
                row, png = rows[index], io.BytesIO()
                row["depth"].save(png, "png")
                words = json.dumps({"caption": row["caption"]}).encode()
                for name, content in {"depth.png": png.getvalue(), "json": words}.items():
                    entry = tarfile.TarInfo(f"scene{index:03}.{name}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        first += size
    return folder
