"""How fast other libraries' encoders embed through `load_encoder`, beside sentence-transformers on the same repo.

    pip install -e '.[bench]'
    python benchmarks/bench_load_encoder.py [--sections texts images memory] [--repeats 5] [--inputs 64 16] [--quick]

BERT-base and ViT-B/16 with random weights, saved with the files of sentence-transformers. `load_encoder` opens such a
repo by its modules, or, with a pooling, the plain transformer in it; all ways give the same embeddings, which is
checked. They run in turn, several times, in one process. A rate is that of the median, and a ratio the median of the
ratios of each turn. "of CPU seconds" is the same of what the processor spent on this process alone: it tells the ways
apart on a machine that others use, where a clock does not. "memory" is the peak of `hf-encoders embed`, in a process of
its own for each number of rows.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from measuring import machine, measure
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoTokenizer, BertConfig, BertModel, ViTConfig, ViTImageProcessor, ViTModel

from hf_encoders import load_encoder
from hf_encoders.progress import quiet_libraries

SAMPLES = Path(__file__).parent.parent / "samples"
THEIRS = "sentence-transformers"
GOALS = {"torch": 1.0, "openvino": 1.3}
ROWS = 2_000, 8_000
CHECKED = 8  # inputs
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
# The options of `encode...` for each way of ours; "modules" are sentence-transformers', the others are ours alone.
WAYS: dict[str, dict[str, Any]] = {"torch": {}, "openvino": {"backend": "openvino"}}
# Prints its peak in kilobytes. The peak that the system tells of a process that ended counts its parent's memory too.
EMBED = """
import sys
from pathlib import Path
from hf_encoders.commands.main import command
command(["embed", *sys.argv[1:]])
(peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(peak.split()[1])
"""


def main(argv: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    sections = {"texts": measure_texts, "images": measure_images, "memory": measure_memory}
    parser.add_argument("--sections", nargs="+", choices=sections, default=list(sections))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--inputs", type=int, nargs=2, default=(64, 16), metavar="N", help="how many texts and images")
    parser.add_argument("--quick", action="store_true", help="small networks: whether it runs")
    args = parser.parse_args(argv)
    quiet_libraries()
    print(f"{machine()}, {torch.get_num_threads()} threads; medians of {args.repeats}")
    for name in args.sections:
        with tempfile.TemporaryDirectory() as folder:
            sections[name](Path(folder), args)


def measure_texts(folder: Path, args: argparse.Namespace) -> None:
    """Sentences of mixed length through BERT-base, each mean-pooled."""
    captions = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet"))["caption"][:]
    generator = np.random.default_rng(0)
    count = args.inputs[0]
    texts = [" and ".join(generator.choice(captions, size)) for size in generator.integers(1, 9, size=count)]
    repo = text_repo(folder / "repo", SMALL if args.quick else {})
    compare(f"{count} texts of 1 to 8 captions, BERT-base", repo, "text", "mean", texts, args.repeats)


def measure_images(folder: Path, args: argparse.Namespace) -> None:
    """JPEG files of 640x480 through ViT-B/16, the pooler's output."""
    rooms = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet"))["image"]
    paths = [str(folder / f"{index}.jpg") for index in range(args.inputs[1])]
    for index, path in enumerate(paths):
        rooms[index].resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
    repo = image_repo(folder / "repo", SMALL if args.quick else {})
    compare(f"{len(paths)} JPEG files of 640x480, ViT-B/16", repo, "image", "pooler", paths, args.repeats)


def measure_memory(folder: Path, args: argparse.Namespace) -> None:
    """The peak of `embed` for few and for many rows, with small networks."""
    rows = (20, 80) if args.quick else ROWS
    rooms = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet"))
    small = rooms.select(range(100))
    tables = {
        "text": small.select_columns("caption"),
        "image": Dataset.from_dict({"image": [each.resize((64, 64)) for each in small["image"]]}),
    }
    repos = {"text": text_repo(folder / "texts", SMALL), "image": image_repo(folder / "images", SMALL)}
    print("\n| `embed`, small networks | rows | peak MiB | ratio |\n|---|---|---|---|")
    for modality, table in tables.items():
        first = 0.0
        for count in rows:
            path = folder / f"{modality}-{count}.parquet"
            table.select(np.arange(count) % len(table)).to_parquet(path)
            options = [str(repos[modality]), str(path), "--output", f"{path}.out", "--modality", modality]
            peak = measure(["-c", EMBED, *options], 1).printed / 1024
            first = first or peak
            print(f"| {modality}s | {count:,} | {peak:.0f} | {peak / first:.2f} |", flush=True)
    print("\nGoal: a ratio of about 1.")


def compare(title: str, repo: Path, modality: str, pooling: Any, inputs: list[str], repeats: int) -> None:
    """Print the rates of all ways for a repo, and their ratios to sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(repo), device="cpu")
    encoders = {"modules": load_encoder(repo), "transformer": load_encoder(repo, pooling=pooling)}
    ways: dict[str, Callable[[], Any]] = {THEIRS: partial(theirs.encode, inputs, show_progress_bar=False)}
    for how, encoder in encoders.items():
        for name, options in WAYS.items():
            ways[f"load_encoder, {how}, {name}"] = partial(encoder.tower(modality).encode, inputs, **options)
    few = inputs[:CHECKED]
    expected = torch.as_tensor(theirs.encode(few, show_progress_bar=False))
    for encoder in encoders.values():  # also compiles
        for options in WAYS.values():
            found = encoder.tower(modality).encode(few, **options)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    seconds = seconds_in_turn(ways, repeats)
    print(f"\n| {title} | a second | of {THEIRS} | of CPU seconds | goal |\n|---|---|---|---|---|")
    for name, times in seconds.items():
        by_clock, by_processor = np.median(seconds[THEIRS] / times, axis=0)
        goal = GOALS.get(name.rpartition(", ")[2], "")
        rate = len(inputs) / np.median(times[:, 0])
        print(f"| {name} | {rate:.1f} | {by_clock:.2f} | {by_processor:.2f} | {goal} |", flush=True)


def seconds_in_turn(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, NDArray[np.float64]]:
    """[repeats, 2] of each way: seconds by the clock, and those of the processor."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start, busy = time.perf_counter(), time.process_time()
            way()
            seconds[name].append((time.perf_counter() - start, time.process_time() - busy))
    return {name: np.array(times) for name, times in seconds.items()}


def text_repo(folder: Path, sizes: Mapping[str, Any]) -> Path:
    """A BERT of random weights with mean pooling, as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    torch.manual_seed(0)
    config = BertConfig(**sizes)
    plain = folder / "plain"
    BertModel(config, add_pooling_layer=False).save_pretrained(plain)
    limit = config.max_position_embeddings
    AutoTokenizer.from_pretrained(SAMPLES / "multimodal-rooms", model_max_length=limit).save_pretrained(plain)
    modules = [Transformer(str(plain)), Pooling(config.hidden_size, "mean")]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder


def image_repo(folder: Path, sizes: Mapping[str, Any]) -> Path:
    """A ViT of random weights whose pooler gives the embedding, as a conversion writes it."""
    torch.manual_seed(0)
    ViTModel(ViTConfig(**sizes)).save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    settings = {
        "transformer_task": "feature-extraction",
        "modality_config": {"image": {"method": "forward", "method_output_name": "pooler_output"}},
        "module_output_name": "sentence_embedding",
    }
    (folder / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]))
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    return folder


if __name__ == "__main__":
    main()
