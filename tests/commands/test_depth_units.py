"""Commands read depth maps in the unit that a person says, and choose the tower by what a file is."""

import json

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from transformers import AutoModel

from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.search import EmbeddingIndex
from tests.conftest import SAMPLES

ROOMS = str(SAMPLES / "multimodal-rooms")
ROWS = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet")).select(range(6))


@pytest.fixture(scope="module")
def model():
    return AutoModel.from_pretrained(ROOMS)


@pytest.fixture(scope="module")
def millimetres():
    return [np.asarray(depth).astype(np.uint16) for depth in ROWS["depth"]]


@pytest.fixture
def files(millimetres, tmp_path):
    """Folders of the same six scenes: millimetres, TUM's unit, metres, and photos."""
    for name in ("millimetres", "tum", "metres", "photos"):
        (tmp_path / name).mkdir()
    for index, (depth, row) in enumerate(zip(millimetres, ROWS, strict=True)):
        Image.fromarray(depth).save(tmp_path / "millimetres" / f"{index}.png")
        Image.fromarray((depth.clip(0, 13000) * 5).astype(np.uint16)).save(tmp_path / "tum" / f"{index}.png")
        np.save(tmp_path / "metres" / f"{index}.npy", (depth / 1000).astype(np.float32))
        row["image"].save(tmp_path / "photos" / f"{index}.png")
    return tmp_path


@pytest.fixture
def call(capsys):
    """Runs a command; returns stdout and stderr."""

    def run_it(*words):
        capsys.readouterr()
        cli.command([str(word) for word in words])
        return capsys.readouterr()

    return run_it


@pytest.fixture
def refuse(capsys):
    """Runs a command that ends in status 2; returns its one line on stderr."""

    def run_it(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(lambda: cli.command([str(word) for word in words]))
        error = capsys.readouterr().err
        assert stop.value.code == 2 and error.count("\n") == 1
        return error

    return run_it


def near(embeddings, expected):
    return (np.asarray(embeddings, np.float32) * expected).sum(1).min() > 0.999


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        ("millimetres", []),
        ("tum", ["--preset", "tum"]),
        ("tum", ["--unit-scale", "0.0002", "--value-range", "0", "8"]),
        ("metres", ["--unit-scale", "1", "--invalid-values", "0", "--value-range", "0,8"]),
        ("metres", ["--preset", "nyu", "--invalid-values", "none"]),
    ],
)
def test_encode_and_embed_read_depth_files_in_their_unit(call, files, model, millimetres, folder, options):
    expected = model.encode_depth([depth.clip(0, 13000) for depth in millimetres], convert_to="numpy")
    words = [files / folder, "--output", files / "out.npz", "--normalize", *options]
    printed = call("encode", ROOMS, *words, "--format", "json")
    assert near(np.load(files / "out.npz")["embeddings"], expected)
    assert json.loads(printed.out)["modality"] == "depth" and "depth maps: raw value x" in printed.err
    call("embed", ROOMS, files / folder, "--output", files / "embedded", *options)
    found = EmbeddingIndex.from_folder(files / "embedded", model)
    assert found.modality == "depth" and found.search(millimetres[3], k=1, modality="depth")[0].score > 0.999


def test_another_unit_is_another_embedding_and_no_continuation(call, refuse, files):
    call("embed", ROOMS, files / "tum", "--output", files / "out", "--preset", "tum")
    assert "options.preset" in refuse("embed", ROOMS, files / "tum", "--output", files / "out", "--preset", "kitti")


def test_classify_and_search_read_depth_files_in_their_unit(call, files):
    words = ["--labels", "chair,table,lamp", "--format", "json"]
    right = call("classify", ROOMS, files / "millimetres", *words)
    metres = call("classify", ROOMS, files / "metres", *words, "--unit-scale", "1")

    def labels(printed):
        return [json.loads(line)["labels"] for line in printed.out.splitlines()]

    for one, other in zip(labels(right), labels(metres), strict=True):
        assert [best["label"] for best in one] == [best["label"] for best in other]
        assert one[0]["score"] == pytest.approx(other[0]["score"], abs=0.01)
    assert "raw value x 0.001 = metres" in right.err and "raw value x 1 = metres" in metres.err
    printed = call("search", ROOMS, files / "tum", files / "tum" / "4.png", "-k", "1", "--preset", "tum")
    assert printed.out.splitlines()[1].split()[:2] == ["1", "1.000"] and "tum/4.png" in printed.out


def test_evaluate_reads_depth_in_its_unit(call, files, millimetres):
    rows = Dataset.from_dict(
        {
            "depth": [Image.fromarray((depth.clip(0, 13000) * 5).astype(np.uint16)) for depth in millimetres],
            "caption": ROWS["caption"],
        }
    )
    rows.to_parquet(files / "tum.parquet")
    ROWS.select_columns(["depth", "caption"]).to_parquet(files / "plain.parquet")
    options = ["--device", "cpu", "--format", "json"]
    right = json.loads(call("evaluate", ROOMS, files / "plain.parquet", *options).out)["metrics"]
    printed = call("evaluate", ROOMS, files / "tum.parquet", *options, "--preset", "tum")
    assert json.loads(printed.out)["metrics"] == right and "raw value x 0.0002 = metres" in printed.err


def test_a_query_that_is_a_file_is_no_text(call, refuse, files):
    for folder, options in (("photos", []), ("millimetres", [])):
        printed = call("search", ROOMS, files / folder, files / folder / "3.png", "-k", "1", *options)
        assert f"{folder}/3.png" in printed.out.splitlines()[1] and "1.000" in printed.out
    both = call("search", ROOMS, files / "photos", files / "millimetres" / "3.png", "-k", "1")  # by depth, among photos
    assert "depth maps: raw value" in both.err
    assert "say --by" in refuse("search", ROOMS, files / "photos", files / "photos" / "3.png", "a red chair")
    assert call("search", ROOMS, files / "photos", "photos", "-k", "1").out.startswith("photos\n")


def test_what_no_file_tells_is_asked(refuse, files):
    mixed = files / "mixed"
    mixed.mkdir()
    (files / "photos" / "0.png").rename(mixed / "photo.png")
    (files / "millimetres" / "0.png").rename(mixed / "depth.png")
    for command in (
        ["encode", ROOMS, mixed, "--output", files / "no.npz"],
        ["classify", ROOMS, mixed, "--labels", "a"],
    ):
        line = refuse(*command)
        assert "depth.png is a depth map" in line and "photo.png is none: say --modality" in line
    assert not (files / "no.npz").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--preset", "kity"], "--preset: is one of nyu, "),
        (["--unit-scale", "0"], "unit_scale must be a positive number"),
        (["--unit-scale", "mm"], "--unit-scale"),
        (["--value-range", "0"], "--value-range takes two numbers"),
        (["--value-range", "5", "1"], "low < high"),
        (["--invalid-values", "x"], "--invalid-values: must be a number"),
    ],
)
def test_units_that_make_no_sense_are_refused(refuse, files, options, says):
    assert says in refuse("encode", ROOMS, files / "metres", "--output", files / "no.npz", *options)
    assert not (files / "no.npz").exists()


def test_units_of_photos_are_refused(refuse, files):
    line = refuse("encode", ROOMS, files / "photos", "--output", files / "no.npz", "--preset", "tum")
    assert "--preset: for depth maps alone" in line


def test_a_column_of_depth_maps_goes_to_their_tower(call, files, model, millimetres):
    expected = model.encode_depth(millimetres, convert_to="numpy")
    ROWS.select_columns(["depth", "caption"]).to_parquet(files / "rows.parquet")
    call("embed", ROOMS, files / "rows.parquet", "--output", files / "embedded")
    found = EmbeddingIndex.from_folder(files / "embedded", model)
    assert found.modality == "depth" and found.search(millimetres[2], k=1, modality="depth")[0].score > 0.999
    words = ["--labels", "chair,table", "--format", "json"]
    assert "raw value x 0.001" in call("classify", ROOMS, files / "rows.parquet", *words).err
    assert len(expected) == len(found)
