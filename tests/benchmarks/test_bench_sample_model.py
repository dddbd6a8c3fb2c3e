"""bench_sample_model.py: what stands in its tables, and what it refuses."""

import json
from unittest.mock import Mock

import pytest
import torch
from datasets import Dataset

from tests.conftest import ROOT, SAMPLES, SMALL_CHECKPOINT
from tests.helpers.multimodal_models import tiny_model

ROWS = 8


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        import bench_sample_model

        yield bench_sample_model


@pytest.fixture
def inside(tmp_path, monkeypatch):
    """A model, and data whose train split holds the validation split, and more often a fourth noun."""
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_model(depth=False).save_pretrained(tmp_path / "flat")
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet")).take(2 * ROWS).remove_columns("noun")
    nouns = ["chair", "table", "lamp", "chair", "table", "lamp", "chair", "chair"] + ["bed"] * ROWS
    rows = rows.add_column("noun", nouns)
    (tmp_path / "data").mkdir()
    rows.to_parquet(tmp_path / "data" / "train.parquet")
    rows.take(ROWS).to_parquet(tmp_path / "data" / "validation.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_tables_have_every_row_and_what_it_can_do(inside, bench, capsys, monkeypatch):
    spy = Mock(wraps=bench.zero_shot)
    monkeypatch.setattr(bench, "zero_shot", spy)
    # The tiny tokenizer knows none of the labels, which would be refused.
    monkeypatch.setattr("hf_encoders.models.zero_shot_classifier.unknown_texts", lambda tokenizer, texts: [])
    data = ["--rooms", "data", "--objects", "data", "--split", "validation", "--legacy", str(SMALL_CHECKPOINT)]
    bench.command(["model", *data, "--aligned", "model", "--output", "table.json"])
    report = json.loads((inside / "table.json").read_text())

    assert list(report["retrieval"]) == [
        "chance", "our model, text → image", "our model, text → depth", "our model, image → depth",
        "aligned legacy autoencoder, text → depth", "aligned legacy autoencoder, image → depth",
    ]  # fmt: skip
    assert report["retrieval"]["chance"] == {"recall@1": 1 / ROWS, "recall@5": 5 / ROWS, "recall@10": 1}

    rows = report["classification"]
    assert rows["chance"]["zero-shot/noun"] == 1 / 4  # "bed" is a choice, though validation has none
    assert rows["the most frequent class"]["knn/noun"] == 0
    embedded = [
        "legacy autoencoder, depth",
        "aligned legacy autoencoder, depth",
        "our model, image",
        "our model, depth",
    ]
    for name in ["raw pixels, image", "raw pixels, depth", *embedded]:
        assert rows[name]["knn/noun"] == rows[name]["knn/label"] == 1  # each row finds itself
        assert (rows[name]["zero-shot/noun"] is None) == (name.startswith(("raw", "legacy")))
        assert (rows[name]["linear-probe/label"] is None) == (name not in embedded)
    assert list(rows)[4:] == embedded

    nouns, labels = (call.args[3] for call in spy.call_args_list[:2])  # in the captions' grammar
    assert len(nouns) == 11 and {"a red {}", "an orange {}", "a {}"} < set(nouns)
    assert labels == ("{}",)

    printed = capsys.readouterr().out
    assert "| raw pixels, depth | – | – | 100.0 | 100.0 | – | – |" in printed
    assert "| chance | 12.5 | 62.5 | 100.0 |" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model", "--rooms", "data", "--objects", "data"], "data: no split 'test', it has train, validation"),
        (["flat", "--rooms", "data", "--objects", "data"], "flat: a multimodal_encoder model, expected a multimodal"),
    ],
)
def test_bad_input_is_refused_at_once(inside, bench, arguments, message):
    with pytest.raises(ValueError, match=message):
        bench.command(arguments)


def test_raw_pixels_are_less_the_mean_of_train(inside, bench):
    rows = Dataset.from_parquet(str(inside / "data" / "train.parquet"))
    train, test = bench._raw_pixels(rows, rows.take(1))
    for modality, channels in (("image", 3), ("depth", 1)):
        assert train.embeds[modality].shape == (2 * ROWS, channels * 32 * 32)
        torch.testing.assert_close(train.embeds[modality].mean(0), torch.zeros(channels * 1024), atol=1e-3, rtol=0)
        torch.testing.assert_close(test.embeds[modality][0], train.embeds[modality][0])
