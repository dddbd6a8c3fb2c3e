"""A Lance table in an object store: keys and endpoint come from the environment, as AWS's tools take them."""

import boto3
import pytest

from hf_encoders.search import EmbeddingIndex
from tests.helpers.embedding_files import run_embed, write_folder
from tests.helpers.multimodal_models import tiny_model

pytest.importorskip("lance")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture
def bucket(monkeypatch):
    """The URI of a bucket on this machine."""
    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://127.0.0.1:{port}"
    settings = {"ACCESS_KEY_ID": "me", "SECRET_ACCESS_KEY": "secret", "ENDPOINT": endpoint, "REGION": "us-east-1"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket="maps")
    yield "s3://maps"
    server.stop()


def test_a_table_in_a_bucket_is_written_followed_and_searched(bucket, objects_test, tmp_path, capsys):
    tiny_model().save_pretrained(tmp_path / "model")
    maps, table = write_folder(objects_test.select(range(6)), tmp_path / "maps"), f"{bucket}/rooms/maps.lance"
    run_embed(tmp_path / "model", maps, table, "--shard-rows", 2, "--batch-size", 2)
    assert f"6 rows → {table}" in capsys.readouterr().out
    (maps / "a" / "000.png").rename(maps / "a" / "new.png")
    run_embed(tmp_path / "model", maps, table, "--shard-rows", 2, "--batch-size", 2)
    assert "new rows: 1; removed rows: 1;" in capsys.readouterr().out
    index = EmbeddingIndex.from_lance(table)
    assert len(index) == 6
    assert [hit.row for hit in index.search([1.0] * 8, 9, where="id = 'a/new.png'")] == [{"id": "a/new.png"}]


def test_a_bucket_that_is_not_there_is_said_in_one_line(bucket, objects_test, tmp_path, capsys):
    tiny_model().save_pretrained(tmp_path / "model")
    maps = write_folder(objects_test.select(range(2)), tmp_path / "maps")
    with pytest.raises(SystemExit):
        run_embed(tmp_path / "model", maps, "s3://nowhere/maps.lance")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: s3://nowhere/maps.lance: ") and "bucket" in error.lower()
