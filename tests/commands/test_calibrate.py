"""`hf-encoders calibrate`: measures on rows with labels and rows without, for classify; bad input is one line."""

import json
from pathlib import Path

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Image
from sklearn.metrics import roc_auc_score

from hf_encoders import load_encoder
from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.evaluation import probes
from hf_encoders.fingerprint import fingerprint, sha256
from hf_encoders.training.multimodal.arguments import LossArguments, ModelArguments
from hf_encoders.training.multimodal.model import build_model
from hf_encoders.zero_shot import ZeroShotClassifier, calibration_of
from tests.conftest import SAMPLES
from tests.helpers.any_encoders import save_encoder

pytestmark = pytest.mark.numeric

OBJECTS = str(SAMPLES / "objects" / "test.parquet")
KNOWN = ["cabinet", "table", "chair"]
WORDS = [OBJECTS, "--split", "test", "--label-column", "noun", "--labels", ",".join(KNOWN), "--template", "a {}"]
WORDS += ["--device", "cpu"]


@pytest.fixture
def place(repo, objects_test, tmp_path, monkeypatch):
    """Where `repo` is a model, and `data` has the splits validation, of three nouns, and unseen, of all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    known = [index for index, noun in enumerate(objects_test["noun"]) if noun in KNOWN]
    objects_test.select(known).to_parquet("data/validation.parquet")
    objects_test.select(range(90)).to_parquet("data/unseen.parquet")
    return tmp_path


def calibrated(capsys, *words):
    cli.command(["calibrate", "repo", *words, "--format", "json"])
    return json.loads(capsys.readouterr().out)


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as error:
        run(lambda: cli.command([*words]))
    assert error.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0].removeprefix("error: ")


def test_what_is_measured_is_what_classify_does(place, capsys):
    """Thresholds are those of half of the known rows, and the figures are of the answers to the other half."""
    report = calibrated(capsys, *WORDS)
    rows = Dataset.from_parquet(OBJECTS)
    is_known = np.isin(rows["noun"], KNOWN)
    number = np.array([KNOWN.index(noun) if noun in KNOWN else -1 for noun in rows["noun"]])
    order = number.argsort(kind="stable")
    first, second = order[::2], order[1::2]
    model = load_encoder("repo")
    assert calibration_of(model).to_dict() == report["calibration"]
    assert report["calibration"]["fingerprint"] == fingerprint(model)
    classifier = ZeroShotClassifier(model, KNOWN, "a {}")
    for modality in ("image", "depth"):
        (chosen,) = (one for one in report["measured"][modality] if one["chosen"])
        assert report["calibration"]["modalities"][modality] == {
            "score": chosen["score"], "measured": chosen["measured"],
        }  # fmt: skip
        answers = classifier.classify(rows[modality], modality, threshold="calibrated")
        passes = np.array([one[0]["label"] is not None for one in answers])
        measured = chosen["measured"]["3"]
        assert measured["kept"] == pytest.approx(passes[second][is_known[second]].mean())
        assert measured["refused"] == pytest.approx(1 - passes[second][~is_known[second]].mean())
        assert 0.9 <= passes[first][is_known[first]].mean() < 1
        (cosine,) = (one for one in report["measured"][modality] if one["score"] == "cosine")
        best = np.array([one[0]["similarity"] for one in classifier.classify(rows[modality], modality)])
        expected = roc_auc_score(is_known[second], best[second])
        assert cosine["measured"]["3"]["auroc"] == pytest.approx(expected, abs=1e-6)
    data = report["calibration"]["data"]
    assert data["known"] == {"dataset": OBJECTS, "split": "test", "dataset_sha256": sha256(Path(OBJECTS))}
    assert (data["labels"], data["known_rows"], data["unknown_rows"]) == (3, is_known.sum(), (~is_known).sum())


def test_the_table_says_which_score_is_taken_and_where_it_is(place, capsys):
    cli.command(["calibrate", "repo", *WORDS, "--modalities", "depth"])
    out, err = capsys.readouterr()
    first, _, header, *rows, last = out.splitlines()
    assert first == "41 rows with one of 3 labels, 159 with none; half of them choose, the others are measured"
    assert header.split() == ["depth", "labels", "threshold", "AUROC", "FPR95", "kept", "refused", "accuracy"]
    assert [row[2:].split()[:2] for row in rows] == [["cosine", "3"], ["softmax", "3"], ["background", "3"]]
    assert sum(row.startswith("* ") for row in rows) == 1
    assert last == "written into repo/config.json; classify --threshold calibrated uses it"
    assert "raw value x" in err
    assert list(calibration_of(load_encoder("repo")).modalities) == ["depth"]


def test_classify_uses_it_with_its_prompts(place, photos, capsys):
    calibrated(capsys, *WORDS, "--score", "cosine", "--kept", "0.5")
    words = ["classify", "repo", str(photos), "--labels", "chair,lamp", "--format", "json"]
    cli.command([*words, "--threshold", "calibrated"])
    found = [json.loads(line)["labels"][0] for line in capsys.readouterr().out.splitlines()]
    threshold = calibration_of(load_encoder("repo")).of("image").threshold(2)
    assert [one["label"] is None for one in found] == [one["similarity"] < threshold for one in found]
    cli.command([*words, "--template", "a {}"])
    plain = [json.loads(line)["labels"][0] for line in capsys.readouterr().out.splitlines()]
    assert [one["similarity"] for one in plain] == pytest.approx([one["similarity"] for one in found], abs=1e-6)
    line = refusal(capsys, *words, "--template", "the {}", "--threshold", "calibrated")
    assert line == "calibrated with the templates 'a {}', not 'the {}': give those"


def test_rows_of_another_split_are_unknown_unless_they_have_one_of_the_labels(place, capsys, objects_test):
    words = ["--label-column", "noun", "--template", "a {}", "--modalities", "image", "--device", "cpu"]
    cli.command(["calibrate", "repo", "data", "--unknown-split", "unseen", *words])
    known = sum(noun in KNOWN for noun in objects_test["noun"][:90])
    out, err = capsys.readouterr()
    assert out.startswith(f"41 rows with one of 3 labels, {90 - known} with none;")
    assert f"left out: {known} rows of the unknown data, which have one of the labels\n" in err
    assert calibration_of(load_encoder("repo")).data["unknown"]["split"] == "unseen"
    # Labels may be those of another split, and unknown rows without labels are all unknown.
    objects_test.remove_columns(["noun"]).to_parquet("others.parquet")
    more = ["--labels-split", "unseen", "--unknown-dataset", "others.parquet", "--overwrite", *words]
    report = calibrated(capsys, "data", *more)
    assert report["calibration"]["data"]["labels"] == len(set(objects_test["noun"][:90]))
    assert report["calibration"]["data"]["unknown_rows"] == len(objects_test)


def test_labels_that_are_not_given_are_asked_for_five_at_a_time_too(place, objects_test, capsys):
    nouns = [f"{('cabinet', 'chair', 'table', 'lamp', 'red', 'blue', 'green')[index % 7]}" for index in range(200)]
    rows = objects_test.remove_columns("noun").add_column("noun", nouns)
    rows.cast_column("noun", ClassLabel(names=sorted(set(nouns)))).to_parquet("many.parquet")
    words = ["--split", "test", "--label-column", "noun", "--unknown-dataset", "data", "--unknown-split", "unseen"]
    (place / "data" / "unseen.parquet").unlink()
    objects_test.remove_columns("noun").select(range(30)).to_parquet("data/unseen.parquet")
    report = calibrated(capsys, "many.parquet", *words, "--modalities", "image", "--background", "map,Chair,photo,map")
    content = report["calibration"]
    assert list(content["modalities"]["image"]["measured"]) == ["5", "7"]
    is_background = content["modalities"]["image"]["score"] == "background"
    assert content["background"] == ([*sorted(set(nouns)), "map", "photo"] if is_background else [])


def test_background_words_are_kept_where_they_are_used(place, capsys):
    report = calibrated(capsys, *WORDS, "--score", "background", "--background", "lamp,Chair,map")
    assert report["calibration"]["background"] == [*KNOWN, "lamp", "map"]
    assert [one["score"] for one in report["measured"]["image"]] == ["background"]
    report = calibrated(capsys, *WORDS, "--score", "cosine", "--background", "lamp", "--overwrite")
    assert report["calibration"]["background"] == []


def test_a_dry_run_writes_nothing_and_a_calibration_is_replaced_when_asked(place, capsys):
    before = (place / "repo" / "config.json").read_bytes()
    cli.command(["calibrate", "repo", *WORDS, "--dry-run"])
    assert "written" not in capsys.readouterr().out
    assert (place / "repo" / "config.json").read_bytes() == before
    calibrated(capsys, *WORDS)
    written = (place / "repo" / "config.json").read_bytes()
    line = refusal(capsys, "calibrate", "repo", *WORDS, "--kept", "0.5")
    assert line == "repo/config.json: has a calibration already; give --overwrite"
    assert (place / "repo" / "config.json").read_bytes() == written != before
    assert calibrated(capsys, *WORDS, "--kept", "0.5", "--overwrite")["calibration"]["kept"] == 0.5


def test_rows_that_cannot_be_read_are_left_out(place, objects_test, capsys):
    pictures = list(objects_test.cast_column("image", Image(decode=False))["image"])
    pictures[3] = {"bytes": b"no picture", "path": None}
    Dataset.from_dict({"image": pictures, "noun": objects_test["noun"]}).to_parquet("broken.parquet")
    words = ["broken.parquet", *WORDS[1:], "--modalities", "image"]
    line = refusal(capsys, "calibrate", "repo", *words)
    assert line.startswith("broken.parquet: column 'image': row 3: ")
    cli.command(["calibrate", "repo", *words, "--on-error", "skip"])
    out, err = capsys.readouterr()
    known = sum(noun in KNOWN for index, noun in enumerate(objects_test["noun"]) if index != 3)
    assert f"{known} rows with one of 3 labels, {199 - known} with none" in out
    assert "skipped 1 known cell:\n  row 3, image: " in err


def test_clip_is_calibrated_too(place, capsys):
    save_encoder("clip", place / "clip")
    cli.command(["calibrate", "clip", *WORDS, "--format", "json"])
    assert list(json.loads(capsys.readouterr().out)["measured"]) == ["image"]
    cli.command(["classify", "clip", OBJECTS, "--labels", "chair,lamp", "--threshold", "calibrated"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--label-column", "name"], "no column 'name'; it has"),
        (["--labels", "cabinet,table,cabinet"], "'cabinet' is there already"),
        (["--labels", "chair"], "10 rows with one of the labels, expected at least 20"),
        (["--labels", "@none.txt"], "none.txt: no such file"),
        (["--background", "@none.txt"], "none.txt: no such file"),
        (["--kept", "0"], "--kept is a share above 0 and up to 1, got 0.0"),
        (["--kept", "1.5"], "--kept is a share above 0 and up to 1, got 1.5"),
        (["--template", "a"], "expected exactly one {} and no other brace"),
        (["--image-column", "picture"], "no column 'picture'; it has"),
        (["--modalities", "image", "--image-column", "noun"], "column 'noun'"),
        (["--unknown-split", "later"], "the same rows as known and as unknown ones; give another --unknown-split"),
        (["--unknown-dataset", "none.parquet"], "none.parquet"),
        (["--labels-split", "later"], "--labels-split: the labels are given by --labels"),
        (["--interpolate", "64"], "--interpolate: a calibration is of images of the model's own size"),
        (["--modalities", "image", "--unit-scale", "1"], "--unit-scale: for depth maps alone"),
    ],
)
def test_bad_input_is_one_line(words, says, place, capsys):
    before = (place / "repo" / "config.json").read_bytes()
    assert says in refusal(capsys, "calibrate", "repo", *WORDS, *words)
    assert (place / "repo" / "config.json").read_bytes() == before


def test_models_and_data_that_do_not_fit_are_refused(place, monkeypatch, capsys):
    words = ["data", "--label-column", "noun", "--template", "a {}", "--device", "cpu"]
    line = refusal(capsys, "calibrate", "repo", *words)
    assert line.startswith("data: each row has one of the labels; give rows that have none by --unknown-split")
    for option in ("--split", "--unknown-split", "--labels-split"):
        line = refusal(capsys, "calibrate", "repo", *words, option, "later")
        assert line.startswith("data: no split 'later', it has ") and line.endswith(f"; choose with {option}")
    line = refusal(capsys, "calibrate", "repo", "data", "--label-column", "image")
    assert "data: row 0: " in line and "expected a label" in line
    Dataset.from_dict({"noun": ["chair"]}).to_parquet("words.parquet")
    line = refusal(capsys, "calibrate", "repo", "words.parquet", "--split", "a", "--label-column", "noun")
    assert line == "words.parquet: no image or depth, it has noun (text); say --image-column"
    line = refusal(capsys, "calibrate", "org/name", *WORDS)
    assert line
    save_encoder("vit", place / "vit")
    assert "not text" in refusal(capsys, "calibrate", "vit", *WORDS)
    monkeypatch.setattr(probes, "find_spec", lambda name: None)
    line = refusal(capsys, "calibrate", "repo", *WORDS)
    assert line == "a calibration needs scikit-learn: pip install 'hf-encoders[evaluation]'"


def test_a_trained_model_carries_no_calibration_of_before(place, capsys):
    calibrated(capsys, *WORDS)
    model = build_model(ModelArguments(init_from="repo"), LossArguments(), 0)
    assert model.config.zero_shot_calibration is None
