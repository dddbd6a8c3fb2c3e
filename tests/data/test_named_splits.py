"""A parquet file in a folder that is called as a split: `datasets` finds "train" and "test" alone."""

import json

import pytest
from datasets import Dataset

from hf_encoders.commands.main import main
from hf_encoders.data.collection import open_collection
from hf_encoders.data.splits import data_revision, load_joined
from hf_encoders.fingerprint import sha256
from tests.conftest import SAMPLES
from tests.helpers.legacy_files import run_command
from tests.helpers.multimodal_models import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("named") / "scenes"
    path.mkdir()
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select_columns(["caption", "depth"])
    rows.select(range(8)).to_parquet(path / "train.parquet")
    rows.select(range(8, 13)).to_parquet(path / "unseen.parquet")
    return path


def test_it_is_a_split_of_the_folder(folder):
    assert len(load_joined([str(folder)], "unseen", ["caption"])) == 5
    assert open_collection(str(folder), "depth", split="unseen").rows == 5
    assert data_revision(str(folder), "unseen") == {"dataset_sha256": sha256(folder / "unseen.parquet")}


@pytest.mark.parametrize("split", ["other", "../scenes/unseen"])
def test_what_is_none_is_refused(split, folder):
    with pytest.raises(ValueError, match="no split"):
        load_joined([str(folder)], split, ["caption"])
    with pytest.raises(ValueError, match="no split"):
        open_collection(str(folder), "depth", split=split)


def test_evaluation_and_embedding_take_it(folder, tmp_path, monkeypatch):
    tiny_model().save_pretrained(tmp_path / "model")
    words = [str(tmp_path / "model"), str(folder), "--split", "unseen"]

    def run(*argv):
        monkeypatch.setattr("sys.argv", ["hf-encoders", *map(str, argv)])
        return run_command(lambda _: main())

    tasks = ["--tasks", "retrieval", "--modalities", "text", "depth"]
    status, _, error = run("evaluate", *words, *tasks, "--output", tmp_path / "metrics.json")
    assert status == 0, error
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["split"] == "unseen" and report["dataset_sha256"] == sha256(folder / "unseen.parquet")
    status, out, error = run("embed", *words, "--modality", "depth", "--output", tmp_path / "out")
    assert status == 0 and out.startswith("5 rows"), error
