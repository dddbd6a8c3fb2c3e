"""`--format json`: stdout holds JSON and nothing else, which says what the table says."""

import argparse
import json

import numpy as np
import pytest

from hf_encoders.commands import main as cli
from hf_encoders.commands.runner import Result, perform
from tests.conftest import SAMPLES, SMALL_CHECKPOINT

OBJECTS = SAMPLES / "objects" / "test.parquet"


@pytest.fixture
def printed(capsys):
    """Runs a command and returns its stdout."""

    def printed(*words, form="json"):
        capsys.readouterr()
        cli.command([*map(str, words), "--format", form])
        return capsys.readouterr().out

    return printed


@pytest.fixture
def multimodal(tiny_multimodal, tmp_path):
    tiny_multimodal.save_pretrained(tmp_path / "multimodal")
    return tmp_path / "multimodal"


@pytest.fixture
def depth(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path / "depth")
    return tmp_path / "depth"


@pytest.fixture
def few(objects_test, tmp_path):
    objects_test.select(range(4)).to_parquet(tmp_path / "few.parquet")
    return tmp_path / "few.parquet"


@pytest.fixture
def maps(tmp_path):
    (tmp_path / "maps").mkdir()
    for number in range(3):
        np.save(tmp_path / "maps" / f"{number}.npy", np.random.RandomState(number).rand(40, 50))
    return tmp_path / "maps"


@pytest.mark.parametrize("command", [["search", "a lamp", "-k", "3"], ["classify", "--labels", "chair,lamp"]])
def test_rows_are_json_lines_those_of_the_file(command, multimodal, few, printed, tmp_path):
    words = [command[0], multimodal, few, *command[1:]]
    lines = printed(*words).splitlines()
    output = tmp_path / "out.jsonl"
    assert json.loads(printed(*words, "--output", output)) == {"output": str(output), "results": len(lines)}
    assert [json.loads(line) for line in lines] == [json.loads(line) for line in output.read_text().splitlines()]
    assert len(printed(*words, form="table").splitlines()) == 4


def test_embeddings_of_files_are_counted(depth, maps, printed, tmp_path):
    said = json.loads(printed("encode", depth, maps, "--output", tmp_path / "out.npz"))
    rows, dimensions = np.load(tmp_path / "out.npz")["embeddings"].shape
    output = str(tmp_path / "out.npz")
    units = {"unit_scale": 1.0, "value_range": None, "invalid_values": [0.0]}
    assert said == {
        "output": output,
        "modality": "depth",
        "rows": rows,
        "dimensions": dimensions,
        "skipped": [],
        **units,
    }


def test_embeddings_of_a_data_set_are_counted(multimodal, few, printed, tmp_path):
    said = json.loads(printed("embed", multimodal, few, "--output", tmp_path / "out", "--shard-rows", 3))
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (said["rows"], said["shards"], said["bad_rows"]) == (4, 2, 0)
    assert (said["dimensions"], said["dtype"]) == (manifest["dimensions"], manifest["dtype"])
    again = printed("embed", multimodal, few, "--output", tmp_path / "out", "--shard-rows", 3, form="table")
    assert again.startswith(f"4 rows → {tmp_path / 'out'}: 2 shards, embeddings [4, {said['dimensions']}] float32;")


def test_metrics_are_those_of_the_file(multimodal, few, printed, tmp_path):
    words = ["evaluate", multimodal, few, "--device", "cpu", "--output", tmp_path / "metrics.json"]
    assert json.loads(printed(*words)) == json.loads((tmp_path / "metrics.json").read_text())


def test_a_conversion_and_its_proofs(printed, tmp_path):
    repo = tmp_path / "repo"
    converted = json.loads(printed("convert", SMALL_CHECKPOINT, "--output", repo))
    assert converted["report"] == json.loads((repo / "conversion_report.json").read_text())
    assert converted["output"] == str(repo) and converted["pushed_to"] is None
    verified = json.loads(printed("verify", repo, "--against", SMALL_CHECKPOINT))
    assert verified["measure"] == converted["report"]["verification"]["measure"]
    exported = json.loads(printed("export-legacy", repo, tmp_path / "encoder.pth"))
    assert exported == {"output": str(tmp_path / "encoder.pth"), "notes": []}


def test_an_export_prints_its_report(depth, printed, tmp_path):
    said = json.loads(printed("export", depth, "--to", "onnx", "--output", tmp_path / "out"))
    report = json.loads((tmp_path / "out" / "onnx" / "export_report.json").read_text())
    assert said == {"output": str(tmp_path / "out"), **report}


def test_what_libraries_print_is_not_on_stdout(capsys):
    def run(args):
        print("half done")
        return Result([], {"score": float("nan"), "name": "é\udcff"})

    perform(run, argparse.Namespace(token=None, format="json"))
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"score": None, "name": "é\udcff"} and captured.out.isascii()
    assert captured.err == "half done\n"
