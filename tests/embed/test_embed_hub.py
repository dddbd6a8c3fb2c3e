"""`hf-encoders embed` of a data set that is streamed from the Hub."""

from pathlib import Path

import numpy as np
import pytest
from datasets import config

from tests.helpers.embedding_files import manifest_of, rows_of, run_embed, write_parquet
from tests.helpers.multimodal_models import tiny_model

SHARDS = ("--shard-rows", 4, "--batch-size", 4)


@pytest.fixture
def on_hub(hub, hub_client, objects_test, tmp_path, monkeypatch):
    """Fifteen scenes in two files, of one and of two row groups of seven rows at most."""
    monkeypatch.setattr(config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    hub_client.create_repo("org/scenes", repo_type="dataset", exist_ok=True)
    for name, rows in {"0": range(6), "1": range(6, 15)}.items():
        file = write_parquet(objects_test.select(rows), tmp_path / f"{name}.parquet")
        hub_client.upload_file(
            path_or_fileobj=file, path_in_repo=f"data/train-{name}.parquet", repo_id="org/scenes", repo_type="dataset"
        )
    return "org/scenes"


def test_a_streamed_data_set(on_hub, objects_test, tmp_path, capsys):
    model = tiny_model()
    model.save_pretrained(tmp_path / "model")
    output = tmp_path / "out"
    with pytest.raises(SystemExit):
        run_embed(tmp_path / "model", on_hub, output, "--split", "test")
    assert f"{on_hub}: no split 'test'; it has train" in capsys.readouterr().err
    run_embed(tmp_path / "model", on_hub, output, *SHARDS)
    rows = rows_of(output)
    assert rows["id"][:].tolist() == [
        *(f"0-{row}" for row in range(6)),
        *(f"1-{row}" for row in range(7)),
        "2-0",
        "2-1",
    ]
    assert list(rows["caption"][:]) == objects_test["caption"][:15]
    expected = model.encode_depth(objects_test.select(range(15))["depth"], convert_to="numpy")
    np.testing.assert_allclose(rows["embedding"][:], expected, atol=1e-5)
    before = manifest_of(output)
    assert [shard["rows"] for shard in before["shards"]] == [4, 2, 4, 3, 2]
    assert len(before["dataset"]["revision"]) == 40
    (output / "records" / "0000001-00001.json").unlink()
    run_embed(tmp_path / "model", on_hub, output, *SHARDS)
    assert manifest_of(output) == before


def test_shards_go_to_a_data_set_on_the_hub_and_the_next_run_goes_on(
    on_hub, hub_client, objects_test, tmp_path, caplog
):
    hub_client.create_repo("org/embeddings", repo_type="dataset", exist_ok=True)
    tiny_model().save_pretrained(tmp_path / "model")
    source = write_parquet(objects_test.select(range(9)), tmp_path / "scenes.parquet")
    output = "hf://datasets/org/embeddings/run"
    run_embed(tmp_path / "model", source, output, *SHARDS)
    run_embed(tmp_path / "model", source, tmp_path / "out", *SHARDS)
    folder = Path(hub_client.snapshot_download("org/embeddings", repo_type="dataset"), "run")
    assert manifest_of(folder)["shards"] == manifest_of(tmp_path / "out")["shards"]
    assert rows_of(folder)["id"][:].tolist() == list(range(9))
    commits = len(hub_client.list_repo_commits("org/embeddings", repo_type="dataset"))
    hub_client.delete_file("run/records/0000001-00000.json", "org/embeddings", repo_type="dataset")
    run_embed(tmp_path / "model", source, output, *SHARDS)
    assert len(hub_client.list_repo_commits("org/embeddings", repo_type="dataset")) <= commits + 4
    assert hub_client.file_exists("org/embeddings", "run/records/0000001-00000.json", repo_type="dataset")
