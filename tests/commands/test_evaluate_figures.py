"""evaluate on several splits, into a card, and with pictures: all is written or nothing, and errors are one line."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from datasets import Dataset

from hf_encoders.commands import evaluate
from hf_encoders.commands.figures import page, writing
from hf_encoders.evaluation import probes
from hf_encoders.evaluation.embedded_columns import embed_columns
from tests.conftest import SAMPLES
from tests.helpers.multimodal_models import tiny_model

ROWS = 9
CLASSES = ["--tasks", "zero-shot", "knn", "--label-column", "noun", "--k", "1"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A model, and a folder of data with the splits train, validation and unseen."""
    folder = tmp_path_factory.mktemp("figures")
    torch.manual_seed(0)
    tiny_model().save_pretrained(folder / "model")
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet")).take(3 * ROWS)
    rows = rows.select_columns(["image", "depth", "caption", "label"])
    rows = rows.add_column("noun", ["chair", "stool", "lamp"] * ROWS)
    rows = rows.add_column("kind", ["seat", "seat", "light"] * ROWS)
    rows = rows.add_column("one", ["same"] * 3 * ROWS)
    (folder / "rooms").mkdir()
    for place, split in enumerate(("train", "validation", "unseen")):
        rows.select(range(place * ROWS, (place + 1) * ROWS)).to_parquet(folder / "rooms" / f"{split}.parquet")
    return folder


@pytest.fixture
def inside(original, tmp_path, monkeypatch):
    """The same, in a folder of the test's own."""
    shutil.copytree(original, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def run(*arguments):
    evaluate.command(["model", "rooms", *arguments, "--device", "cpu"])


def refusal(monkeypatch, capsys, *arguments):
    """The one line of a command that ends with status 2."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", "model", "rooms", *arguments, "--device", "cpu"])
    with pytest.raises(SystemExit) as error:
        evaluate.main()
    assert error.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "examples/s" not in line]
    assert len(lines) == 1, lines
    return lines[0]


def read(path):
    return json.loads(Path(path).read_text())


def below(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_splits_are_measured_in_one_call_and_shown_side_by_side(inside, capsys):
    run("--split", "validation,unseen", "--output", "both.json")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("rooms (validation, 9 rows)") and lines[1].endswith("rooms (unseen, 9 rows)")
    assert lines[2].split() == ["validation", "unseen"]
    run("--split", "unseen", "--output", "one.json")
    both, one = read("both.json"), read("one.json")
    assert [report["split"] for report in both] == ["validation", "unseen"] and both[1] == one
    name, *values = lines[3].split()
    assert [float(value) for value in values] == pytest.approx([part["metrics"][name] for part in both], abs=1e-4)


def test_the_train_split_is_embedded_once_for_several(inside, monkeypatch):
    embed, seen = embed_columns, []

    def embed_and_count(model, rows, *arguments, **options):
        seen.append(rows)
        return embed(model, rows, *arguments, **options)

    monkeypatch.setattr("hf_encoders.evaluation.evaluate.embed_columns", embed_and_count)
    run("--split", "validation,unseen", "--tasks", "knn", "--label-column", "noun", "--k", "1")
    assert len(seen) == 3


def results(folder):
    (index,) = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])["model-index"]
    return {
        (result["dataset"]["name"], result["dataset"]["split"], metric["name"]): metric["value"]
        for result in index["results"]
        for metric in result["metrics"]
    }


def test_the_card_keeps_what_was_measured_elsewhere(inside, capsys):
    run("--split", "validation", "--card")
    first = results(inside / "model")
    run("--split", "unseen", "--card")
    both = results(inside / "model")
    assert {key[1] for key in both} == {"validation", "unseen"} and first.items() < both.items()
    shutil.copytree("rooms", "elsewhere")
    Dataset.from_parquet("rooms/unseen.parquet").take(5).to_parquet("elsewhere/unseen.parquet")
    evaluate.command(["model", "elsewhere", "--split", "unseen", "--card", "--device", "cpu"])
    third = results(inside / "model")
    assert both.items() < third.items() and {key[0] for key in third} == {"rooms", "elsewhere"}
    run("--split", "validation,unseen", "--card", *CLASSES)
    fourth = results(inside / "model")
    assert third.items() < fourth.items()
    assert ("rooms", "unseen", "zero-shot/noun/image/top1_accuracy") in fourth
    card = (inside / "model" / "README.md").read_text()
    assert "| Retrieval | elsewhere, unseen | rooms, validation | rooms, unseen |" in card
    assert "| Zero-shot classification | rooms, validation | rooms, unseen |" in card
    assert "card: model/README.md" in capsys.readouterr().err


def test_figures_have_their_data_beside_them(inside):
    run("--split", "validation,unseen", *CLASSES, "--by", "kind", "--figures", "out", "--output", "m.json")
    stems = {
        f"confusion-rooms-{split}-{task}-noun{by}-{modality}"
        for split in ("validation", "unseen")
        for task in ("zero-shot", "knn")
        for by in ("", "-by-kind")
        for modality in ("image", "depth")
    }
    assert {path.name for path in Path("out").iterdir()} == {
        f"{stem}{end}" for stem in stems for end in (".png", ".json")
    }
    reports = {report["split"]: report for report in read("m.json")}
    for stem in stems:
        data = read(f"out/{stem}.json")
        report = reports[data["split"]]
        assert data["fingerprint"] == report["fingerprint"] and data["dataset_sha256"] == report["dataset_sha256"]
        counts = np.array(data["counts"])
        assert counts.sum() == data["total"] == ROWS and np.trace(counts) == data["right"]
        measure = "top1_accuracy" if data["task"] == "zero-shot" else "accuracy"
        if data["by"] is None:
            accuracy = report["metrics"][f"{data['task']}/noun/{data['modality']}/{measure}"]
            assert data["classes"] == ["chair", "lamp", "stool"] and data["right"] / ROWS == pytest.approx(accuracy)
            assert data["groups"] == {"chair": "seat", "lamp": "light", "stool": "seat"}
        else:
            assert data["classes"] == ["light", "seat"] and data["by"] == "kind"
        with PIL.Image.open(f"out/{stem}.png") as picture:
            assert picture.format == "PNG"


def test_a_sheet_of_captions(inside):
    run("--split", "unseen", "--plots", "out", "--captions", "3", "--pictures", "2", "--worst", "--output", "m.json")
    kinds = ("recall", "retrieval", "similarity")
    names = {f"{kind}-rooms-unseen.{end}" for kind in kinds for end in ("png", "json")}
    assert {path.name for path in Path("out").iterdir()} == names
    data, report = read("out/retrieval-rooms-unseen.json"), read("m.json")
    assert len(data["queries"]) == 3 and data["queries"][0]["by_modality"].keys() == {"image", "depth"}
    captions = Dataset.from_parquet("rooms/unseen.parquet")["caption"]
    assert all(captions[query["row"]] == query["query"] for query in data["queries"])
    run("--split", "unseen", "--figures", "all", "--captions", "99")
    for modality in ("image", "depth"):
        ranks = [query["by_modality"][modality]["rank"] for query in read("all/retrieval-rooms-unseen.json")["queries"]]
        assert np.mean(np.array(ranks) <= 1) == report["metrics"][f"retrieval/text_to_{modality}_recall@1"]


def test_figures_in_the_repo_are_on_its_card(inside):
    run("--split", "unseen", "--figures", "model/figures", "--card")
    card = (inside / "model" / "README.md").read_text()
    assert "](figures/retrieval-rooms-unseen.png)" in card
    run("--split", "unseen", "--figures", "model/figures", "--card", "--overwrite", *CLASSES)
    card = (inside / "model" / "README.md").read_text()
    assert "](figures/retrieval-rooms-unseen.png)" in card
    for kind in ("recall", "similarity"):
        assert f"](figures/{kind}-rooms-unseen.png)" in card
    assert "](figures/confusion-rooms-unseen-knn-noun-depth.png)" in card


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--split", "unseen,unseen"], "--split unseen,unseen: names a split twice"),
        (["--split", ","], "--split ,: names no split"),
        (["--split", "unseen,nix"], "rooms: no split 'nix'"),
        (["--worst"], "--worst is about pictures: give --figures DIR too"),
        (["--by", "kind"], "--by is about pictures: give --figures DIR too"),
        (["--by", "kind", "--figures", "out"], "--by kind groups classes: give their --label-column"),
        (["--by", "kind", "--label-column", "noun", "--figures", "out"], "--by kind groups classes: give their"),
        ([*CLASSES, "--by", "one", "--figures", "out"], "rooms: column 'one': 1 class, expected at least two"),
        ([*CLASSES, "--by", "nix", "--figures", "out"], "rooms: no column 'nix'"),
        (["--figures", "out", "--pictures", "50"], "8 captions with 50 pictures each may need 816 places"),
        (["--figures", "model/config.json"], "model/config.json: a file; --figures names a folder"),
        (["--figures", "there"], "there/retrieval-rooms-unseen.json: exists already"),
    ],
)
def test_bad_input_takes_one_line_and_writes_nothing(arguments, said, inside, monkeypatch, capsys):
    Path("there").mkdir()
    Path("there/retrieval-rooms-unseen.json").write_text("mine")
    before = below(inside)
    if "--split" not in arguments:
        arguments = [*arguments, "--split", "unseen"]
    monkeypatch.setattr("hf_encoders.evaluation.evaluate.embed_columns", None)  # nothing is embedded
    assert said in refusal(monkeypatch, capsys, *arguments)
    assert below(inside) == before


def test_recalls_and_similarities_are_those_of_the_split(inside):
    run("--split", "unseen", "--modalities", "image", "depth", "--figures", "out", "--output", "m.json")
    assert {path.stem for path in Path("out").iterdir()} == {"recall-rooms-unseen", "similarity-rooms-unseen"}
    metrics = read("m.json")["metrics"]
    for curve in read("out/recall-rooms-unseen.json")["curves"]:
        recalls = dict(zip(curve["ks"], curve["recall"], strict=True))
        for k in (1, 5):
            assert recalls[k] == metrics[f"retrieval/{curve['query']}_to_{curve['found']}_recall@{k}"]
        assert list(recalls) == list(range(1, ROWS + 1)) and recalls[ROWS] == 1
        np.testing.assert_allclose(curve["chance"], np.arange(1, ROWS + 1) / ROWS)
    (shown,) = read("out/similarity-rooms-unseen.json")["maps"]
    assert (shown["query"], shown["found"], shown["rows"]) == ("image", "depth", list(range(ROWS)))
    assert np.array(shown["cosines"]).shape == np.array(shown["right"]).shape == (ROWS, ROWS)


@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        (probes, CLASSES, "needs scikit-learn"),
        (page, CLASSES, "a picture of a confusion matrix needs matplotlib"),
        (page, [], "a picture of recalls needs matplotlib"),
    ],
)
def test_a_missing_library_takes_one_line(place, options, said, inside, monkeypatch, capsys):
    monkeypatch.setattr(place, "find_spec", lambda name: None)
    line = refusal(monkeypatch, capsys, "--split", "unseen", *options, "--figures", "out")
    assert f"{said}: pip install 'hf-encoders[evaluation]'" in line and not Path("out").exists()


def test_no_picture_is_written_if_one_cannot_be(inside, monkeypatch, capsys):
    draw, calls = writing.draw_confusion, []

    def full(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", "figure")
        draw(*arguments)

    monkeypatch.setattr(writing, "draw_confusion", full)
    images = ("--modalities", "image", "--by", "kind")
    line = refusal(monkeypatch, capsys, "--split", "unseen", *CLASSES, *images, "--figures", "out")
    assert "out: cannot be written (No space left on device" in line
    assert len(calls) == 3 and below(Path("out")) == {}


def test_a_card_is_written_into_folders_alone(inside, monkeypatch, capsys):
    monkeypatch.setattr("hf_encoders.evaluation.evaluate.embed_columns", None)
    Path("model/metrics_old.json").write_text("{}")
    before = below(inside)
    assert "metrics_old.json: no report of an evaluation" in refusal(monkeypatch, capsys, "--split", "unseen", "--card")
    report = {"fingerprint": "f" * 32, "dataset": "x", "split": "test", "rows": 1, "dataset_sha256": "0", "metrics": {}}
    Path("model/metrics_old.json").write_text(json.dumps(report))
    assert "measured on other weights" in refusal(monkeypatch, capsys, "--split", "unseen", "--card")
    Path("model/metrics_old.json").write_text("{}")
    assert below(inside) == before
