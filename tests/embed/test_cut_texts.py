"""Texts that are longer than the model's limit: one warning of a run counts all that are cut."""

import pytest
from datasets import Dataset, DatasetDict

from hf_encoders import load_encoder
from hf_encoders.commands import main as cli
from hf_encoders.embed import with_embeddings
from hf_encoders.search import EmbeddingIndex
from tests.helpers.any_encoders import LENGTH, save_encoder

LONG, SHORT = "red " * 40, "a red chair"
ROWS = 70


@pytest.fixture
def repo(tmp_path):
    return save_encoder("bert", tmp_path / "repo")


@pytest.fixture
def encoder(repo):
    return load_encoder(repo)


def texts(*long):
    words = [LONG if row in long else SHORT for row in range(ROWS)]
    return Dataset.from_dict({"key": [f"k{row}" for row in range(ROWS)], "text": words})


def warnings_of(caplog):
    return [message for message in caplog.messages if "longer than" in message]


def line(count, first, more=""):
    subject = f"text {first} is" if count == 1 else f"{count} texts (the first is text {first}) are"
    return f"{subject} longer than {LENGTH} tokens; what is beyond is left out{more}"


@pytest.mark.parametrize(("long", "count", "first"), [((5, 40, 69), 3, "k5"), ((64,), 1, "k64"), ((), 0, "")])
def test_embed_warns_once(long, count, first, repo, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("hf_encoders.embed.rows._ROWS_PER_BLOCK", 8)
    texts(*long).to_parquet(tmp_path / "rows.parquet")
    words = ["--output", str(tmp_path / "out"), "--column", "text", "--id-column", "key", "--shard-rows", "30"]
    cli.command(["embed", str(repo), str(tmp_path / "rows.parquet"), *words, "--batch-size", "4"])
    assert warnings_of(caplog) == ([line(count, first)] if count else [])


def test_a_column_warns_once(encoder, caplog):
    with_embeddings(texts(5, 40, 69), encoder, "text", batch_size=8)
    assert warnings_of(caplog) == [line(3, 5)]


def test_splits_warn_once(encoder, caplog):
    splits = DatasetDict({"train": texts(), "validation": texts(3, 4), "test": texts(1)})
    with_embeddings(splits, encoder, "text", batch_size=8)
    assert warnings_of(caplog) == [line(3, "3 of validation")]


@pytest.mark.parametrize("features", [True, False])
def test_a_stream_warns_of_its_first(features, encoder, caplog):
    stream = texts(5, 40, 69).to_iterable_dataset()
    if not features:
        stream = stream.map(lambda row: row)
        assert stream.features is None
    assert len(list(with_embeddings(stream, encoder, "text", batch_size=8))) == ROWS
    assert warnings_of(caplog) == [line(1, 5, ", and so for the rest of the stream")]


def test_an_index_warns_once(encoder, caplog):
    EmbeddingIndex.from_dataset(encoder, texts(5, 40, 69), "text", batch_size=8)
    assert warnings_of(caplog) == [line(3, 5)]
