"""evaluate.py: its metrics are those of the library, on one process or two; bad input takes one line."""

import hashlib
import io
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import PartialState
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as Pictures

from hf_encoders import DepthImageProcessor, DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from hf_encoders.commands import evaluate
from hf_encoders.data import splits
from hf_encoders.evaluation import embedded_columns
from hf_encoders.evaluation.embedded_columns import EmbeddedColumns, embed_columns
from hf_encoders.evaluation.retrieval import retrieval_metrics
from hf_encoders.evaluation.tasks import Labels, probe, read_labels, retrieval, zero_shot
from hf_encoders.fingerprint import fingerprint, sha256
from hf_encoders.zero_shot import ZeroShotClassifier
from tests.conftest import SAMPLES, TINY
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.ranks import on_ranks

pytestmark = pytest.mark.numeric

ROWS = 7
TRIPLE = {"text": "caption", "image": "image", "depth": "depth"}
ALL = ["--tasks", "retrieval", "zero-shot", "knn", "linear-probe", "--label-column", "noun", "--k", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, a depth encoder, and a data set whose train split is its test split in another order."""
    folder = tmp_path_factory.mktemp("evaluate")
    torch.manual_seed(0)
    tiny_model().save_pretrained(folder / "model")
    tiny_model(depth=False).save_pretrained(folder / "flat")
    depth = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY))
    depth.processor = DepthImageProcessor(size=64)
    depth.save_pretrained(folder / "depth")
    rows = make_rows()
    (folder / "data").mkdir()
    rows.to_parquet(folder / "data" / "test.parquet")
    rows.select(range(ROWS)[::-1]).to_parquet(folder / "data" / "train.parquet")
    return folder


def make_rows():
    """Rooms with one to three captions each; the first two share one."""
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet")).take(ROWS)
    rows = rows.select_columns(["image", "depth", "caption", "label", "noun"])
    captions = [[f"{caption} number {n}" for n in range(1 + row % 3)] for row, caption in enumerate(rows["caption"])]
    captions[0].append(captions[1][0])
    nouns = ["chair", "table", "chair", "lamp", "chair", "table", "lamp"]
    rows = rows.remove_columns(["caption", "noun"])
    return rows.add_column("caption", captions, feature=List(Value("string"))).add_column("noun", nouns)


@pytest.fixture
def inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model():
    return tiny_model()


@pytest.fixture
def alone():
    return PartialState(cpu=True)


def refusal(monkeypatch, capsys, *arguments):
    """The one line of a command that ends with status 2."""
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    with pytest.raises(SystemExit) as error:
        evaluate.main()
    assert error.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "examples/s" not in line]
    assert len(lines) == 1, lines
    return lines[0]


def report_of(*arguments):
    evaluate.command([*arguments, "--output", "metrics.json", "--overwrite", "--device", "cpu"])
    return json.loads(Path("metrics.json").read_text())


def test_two_processes_give_the_metrics_of_one_and_embed_no_row_twice(inside, tmp_path):
    arguments = [str(inside / "model"), str(inside / "data"), *ALL, "--device", "cpu", "--output"]
    evaluate.command([*arguments, str(tmp_path / "one.json")])
    (tmp_path / "arguments.json").write_text(json.dumps([*arguments, str(tmp_path / "two.json")]))
    seen = on_ranks(Path(__file__).parent / "evaluation_rank.py", tmp_path)

    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert two["metrics"] == pytest.approx(one["metrics"], abs=1e-6)
    assert {**two, "metrics": 0} == {**one, "metrics": 0}

    rows = make_rows()
    pictures = [hashlib.sha256(row[name].tobytes()).hexdigest() for row in rows for name in ("image", "depth")]
    captions = [caption for row in rows["caption"] for caption in row]
    prompts = [f"a photo of a {noun}." for noun in sorted(set(rows["noun"]))]
    # Pictures twice: of test, and of train, which holds the same ones.
    assert Counter(seen[0] + seen[1]) == Counter(pictures * 2 + captions + prompts)
    # Shares of 4 and 3 rows, with two pictures, in two splits.
    assert [sum(item in pictures for item in part) for part in seen] == [16, 12]


def test_report(inside, capsys, model):
    report = report_of("model", "data", *ALL)
    assert report["dataset"] == "data" and report["split"] == "test"
    assert (report["rows"], report["skipped_rows"]) == (ROWS, 0)
    assert report["dataset_sha256"] == sha256(Path("data/test.parquet"))
    assert report["train"]["dataset_sha256"] == sha256(Path("data/train.parquet"))
    assert report["model"] == "model" and report["revision"] is None
    assert report["fingerprint"] == fingerprint(model)
    assert report["columns"] == TRIPLE and report["options"]["k"] == 1
    assert report["versions"]["torch"] == torch.__version__

    table = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [name for name, _ in table] == list(report["metrics"])
    assert [float(value) for _, value in table] == pytest.approx(list(report["metrics"].values()), abs=1e-4)


def test_names_and_values_of_metrics(inside):
    metrics = report_of("model", "data", *ALL)["metrics"]
    sides = [("text", "image"), ("text", "depth"), ("image", "depth")]
    measures = ("recall@1", "recall@5", "recall@10", "median_rank")
    expected = {f"retrieval/{a}_to_{b}_{m}" for pair in sides for a, b in (pair, pair[::-1]) for m in measures}
    expected |= {"zero-shot/noun/chance"} | {
        f"{task}/noun/{modality}/{measure}"
        for modality in ("image", "depth")
        for task, measure in [
            ("zero-shot", "top1_accuracy"),
            ("knn", "accuracy"),
            ("linear-probe", "accuracy"),
            ("linear-probe", "penalty"),
        ]
    }
    assert metrics.keys() == expected
    assert metrics["zero-shot/noun/chance"] == pytest.approx(1 / 3)
    # Each row is its own nearest neighbour, though train has another order.
    assert metrics["knn/noun/image/accuracy"] == metrics["knn/noun/depth/accuracy"] == 1


def test_retrieval_of_many_captions(model, alone):
    rows = make_rows()
    captions = [caption for row in rows["caption"] for caption in row]
    ids = [index for index, row in enumerate(rows["caption"]) for _ in row]
    embeds = {
        "text": model.encode_text(captions),
        "image": model.encode_image(rows["image"]),
        "depth": model.encode_depth(rows["depth"]),
    }
    embedded = embed_columns(model, rows, dict(reversed(TRIPLE.items())), alone, batch_size=3)
    assert list(embedded.embeds) == list(TRIPLE) and embedded.captions == captions
    for name, expected in embeds.items():
        torch.testing.assert_close(embedded.embeds[name], expected)
    metrics = retrieval_metrics(embeds["text"], embeds["image"], first_ids=ids, captions=captions)
    metrics |= retrieval_metrics(embeds["image"], embeds["depth"], names=("image", "depth"))
    found = retrieval(embedded)
    assert {name: found[f"retrieval/{name}"] for name in metrics} == pytest.approx(metrics)


def test_zero_shot_takes_the_classes_and_templates(model):
    labels = Labels("noun", np.array(["lamp", "chair", "table"]), ["chair", "lamp", "table"])
    classes = ZeroShotClassifier(model, labels.classes, ["this is a {}"]).label_embeds
    kept = np.array([True, False, True])
    embedded = EmbeddedColumns({"depth": classes[[1, 2]]}, {"depth": np.array([0, 2])}, [], kept)
    expected = {"zero-shot/noun/chance": 1 / 3, "zero-shot/noun/depth/top1_accuracy": 1}
    assert zero_shot(model, embedded, labels, ["this is a {}"]) == pytest.approx(expected)


@pytest.mark.parametrize("task", ["knn", "linear-probe"])
def test_probes_leave_skipped_rows_out(task):
    points = torch.tensor([[1.0, 0.1], [0.1, 1.0], [1.0, 0.2], [0.2, 1.0]])
    labels = Labels("noun", np.array(["a", "b", "b", "a", "b"]), ["a", "b"])
    rows = EmbeddedColumns(
        {"image": points}, {"image": np.array([0, 1, 3, 4])}, [], np.array([True, True, False, True, True])
    )
    assert probe(task, rows, labels, rows, labels, k=1)[f"{task}/noun/image/accuracy"] == 1


def test_a_depth_encoder_has_probes(inside):
    metrics = report_of("depth", "data", "--tasks", "knn", "--label-column", "label", "--k", "1")["metrics"]
    assert metrics == {"knn/label/depth/accuracy": 1}


def test_choices_of_data(inside):
    tasks = ["--tasks", "knn", "--k", "1", "--label-column", "noun", "--train-dataset", "data/train.parquet"]
    report = report_of("model", "data/test.parquet", "--limit", "5", "--modalities", "image", *tasks)
    assert list(report["metrics"]) == ["knn/noun/image/accuracy"]
    assert report["rows"] == report["train"]["rows"] == 5
    assert report["dataset"] == "data/test.parquet" and report["options"]["limit"] == 5


def broken_rows():
    """Row 3 has no picture, row 5 no depth map, row 6 no caption."""
    rows = make_rows()
    rows = rows.cast_column("image", Image(decode=False)).cast_column("depth", Image(decode=False))
    columns = {name: rows[name][:] for name in rows.column_names}
    columns["image"][3] = {"bytes": b"no picture", "path": None}
    colours = io.BytesIO()
    Pictures.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)).save(colours, "PNG")
    columns["depth"][5] = {"bytes": colours.getvalue(), "path": None}
    columns["caption"][6] = []
    return Dataset.from_dict(columns, features=Features(rows.features))


@pytest.mark.parametrize(("modality", "row"), [("image", 3), ("depth", 5), ("text", 6)])
@pytest.mark.parametrize("ranks", [1, 2])
def test_an_unreadable_row_is_named(modality, row, ranks, model):
    rank = SimpleNamespace(process_index=row % ranks, num_processes=ranks, is_main_process=row % ranks == 0)
    with pytest.raises(ValueError, match=f"^column '{TRIPLE[modality]}': row {row}[: ]"):
        embed_columns(model, broken_rows(), {modality: TRIPLE[modality]}, rank)


def test_unreadable_rows_are_skipped_on_request(inside, tmp_path, capsys):
    broken_rows().to_parquet(tmp_path / "broken.parquet")
    report = report_of("model", str(tmp_path / "broken.parquet"), "--on-error", "skip")
    assert (report["rows"], report["skipped_rows"]) == (ROWS - 3, 3)
    cells = report["skipped"]
    assert [(cell["index"], cell["column"]) for cell in cells] == [(3, "image"), (5, "depth"), (6, "caption")]
    out, err = capsys.readouterr()
    assert f"(test, {ROWS - 3} rows, 3 skipped)" in out and "skipped 3 test rows:\n  row 3, image: " in err
    assert all(cell["reason"] in err for cell in cells)


def test_skipped_rows_take_their_other_modalities_along(model, alone):
    embedded = embed_columns(model, broken_rows(), TRIPLE, alone, on_error="skip")
    whole = embed_columns(model, make_rows().select([0, 1, 2, 4]), TRIPLE, alone)
    assert embedded.kept.tolist() == [True, True, True, False, True, False, False]
    assert embedded.captions == whole.captions and embedded.owners["image"].tolist() == [0, 1, 2, 4]
    for name in TRIPLE:
        torch.testing.assert_close(embedded.embeds[name], whole.embeds[name])


def test_all_rows_unreadable(model, alone):
    with pytest.raises(ValueError, match="none of 1 rows can be read"):
        embed_columns(model, broken_rows().select([3]), TRIPLE, alone, on_error="skip")


def test_paths_and_bytes_as_pictures(model, alone, tmp_path):
    pictures = [tmp_path / f"{index}.png" for index in range(2)]
    for path, picture in zip(pictures, make_rows()["image"][:2], strict=True):
        picture.save(path)
    names = {"path": [str(path) for path in pictures], "bytes": [path.read_bytes() for path in pictures]}
    rows = Dataset.from_dict(names)
    expected = model.encode_image(pictures)
    for column in names:
        embedded = embed_columns(model, rows, {"image": column}, alone)
        torch.testing.assert_close(embedded.embeds["image"], expected)


def test_labels():
    rows = Dataset.from_dict(
        {"kind": [2, 0], "noun": ["b", "a"], "number": [7, 5]},
        features=Features(kind=ClassLabel(names=["z", "y", "x"]), noun=Value("string"), number=Value("int64")),
    )
    assert read_labels(rows, "kind").values.tolist() == ["x", "z"]
    assert read_labels(rows, "kind").classes == ["z", "y", "x"]
    assert read_labels(rows, "noun").classes == ["a", "b"]
    assert read_labels(rows, "number").classes == [5, 7]


@pytest.mark.parametrize(
    ("values", "feature", "said"),
    [
        (["a", None], Value("string"), "row 1: None in column 'x', expected a label"),
        ([0, -1], ClassLabel(names=["a", "b"]), "row 1: -1 in column 'x', expected a label"),
        ([0.5, 1.5], Value("float32"), "row 0: 0.5 in column 'x', expected a label"),
        (["a", "a"], Value("string"), "column 'x': 1 class, expected at least two"),
    ],
)
def test_bad_labels(values, feature, said):
    rows = Dataset.from_dict({"x": values}, features=Features(x=feature))
    with pytest.raises(ValueError, match=said):
        read_labels(rows, "x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            "model data --text-column nix",
            "data: no column 'nix'; it has image (pictures), depth (pictures), label (classes with names), caption"
            " (lists of text), noun (text); say --text-column",
        ),
        ("model data --split nix", "data: no split 'nix', it has train, test; choose with --split"),
        ("model ./nix", "nix: no such file or folder"),
        ("./nix data", "./nix"),
        ("flat data --modalities depth image", "the model embeds text and image, not depth"),
        ("depth data", "--tasks retrieval needs two of text, image, depth; model and data share depth"),
        ("depth data --tasks zero-shot --label-column noun", "the model embeds depth, not text"),
        ("model data --tasks knn", "--tasks knn: give --label-column; data has image (pictures), depth (pictures)"),
        ("model data --tasks knn --label-column nix", "data: no column 'nix'"),
        ("model data --tasks knn --label-column noun --modalities text", "--tasks knn needs image or depth"),
        ("model data --tasks knn --label-column noun --limit 1", "data: column 'noun': 1 class"),
        ("model data --tasks knn --label-column noun --split train", "train and test are the same rows"),
        (
            "model data/test.parquet --tasks knn --label-column noun",
            "data/test.parquet: no split 'train', it has test; choose with --train-split, or give --train-dataset",
        ),
        (
            "model data/test.parquet --tasks knn --label-column noun --train-dataset data/test.parquet",
            "train and test are the same rows",
        ),
        ("model data --k 0", "argument --k: must be at least 1, got 0"),
        ("model data --output there.json", "there.json: exists already"),
    ],
)
def test_bad_input_takes_one_line(arguments, said, inside, monkeypatch, capsys):
    Path("there.json").write_text("mine")
    assert said in refusal(monkeypatch, capsys, *arguments.split(), "--device", "cpu")
    assert Path("there.json").read_text() == "mine"


def own_words(path, **names):
    """The test rows with other names of columns, and without the others."""
    rows = Dataset.from_parquet("data/test.parquet").select_columns(list(names))
    rows.rename_columns(names).to_parquet(path)
    return path


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_captions_and_images_may_be_called_otherwise(form, inside, capsys):
    data = own_words("mine.parquet", caption="title", image="photo")
    if form == "csv":
        rows = Dataset.from_parquet(data)
        files = [f"{number}.png" for number in range(len(rows))]
        for file, image in zip(files, rows["photo"], strict=True):
            image.save(file)
        titles = [captions[0] for captions in rows["title"]]
        Dataset.from_dict({"title": titles, "photo": files}).to_csv(data := "mine.csv")
    expected = report_of("model", data, "--text-column", "title", "--image-column", "photo")["metrics"]
    assert "is taken" not in capsys.readouterr().err
    report = report_of("model", data)
    assert report["columns"] == {"text": "title", "image": "photo"}
    assert report["metrics"] == expected
    said = capsys.readouterr().err
    assert "text: no column 'caption', 'title' is taken; --text-column names another\n" in said
    assert "image: no column 'image', 'photo' is taken; --image-column names another\n" in said


def test_where_several_may_be_meant_they_are_listed_with_the_options(inside, monkeypatch, capsys):
    data = own_words("mine.parquet", caption="title", noun="word", image="photo")
    line = refusal(monkeypatch, capsys, "model", data, "--device", "cpu")
    has = "the data has title (lists of text), word (text), photo (pictures)"
    assert "model and mine.parquet share image; " in line and has in line and "--text-column" in line
    asked = refusal(monkeypatch, capsys, "model", data, "--modalities", "text", "image", "--device", "cpu")
    assert "mine.parquet: which column holds the texts? Say --text-column; it has title (lists of text)" in asked


def test_a_column_of_labels_is_none_of_captions(inside, monkeypatch, capsys):
    data = own_words("mine.parquet", noun="word", image="photo")
    line = refusal(monkeypatch, capsys, "model", data, "--label-column", "word", "--device", "cpu")
    assert "model and mine.parquet share image; " in line
    words = ("--tasks", "zero-shot", "--label-column", "word")
    assert report_of("model", data, *words)["columns"] == {"image": "photo"}


def test_train_without_the_pictures(inside, monkeypatch, capsys):
    train = Dataset.from_parquet("data/train.parquet").remove_columns(["image"])
    train.to_parquet("no_images.parquet")
    arguments = ["model", "data/test.parquet", "--train-dataset", "no_images.parquet"]
    arguments += ["--tasks", "knn", "--label-column", "noun", "--k", "1"]
    assert list(report_of(*arguments)["metrics"]) == ["knn/noun/depth/accuracy"]
    assert "raw value x 1 = metres" in capsys.readouterr().err  # no file tells the unit
    line = refusal(monkeypatch, capsys, *arguments, "--modalities", "image", "--device", "cpu")
    assert "no_images.parquet: no column 'image'" in line


def test_the_revision_of_a_data_set(inside, monkeypatch):
    assert splits.data_revision("data/test.parquet", "any") == {"dataset_sha256": sha256(Path("data/test.parquet"))}
    files = {"test": [f"hf://datasets/o/n@{'a' * 40}/test.parquet"]}
    builder = SimpleNamespace(config=SimpleNamespace(data_files=files), hash="a" * 40)
    monkeypatch.setattr(splits, "builder_of", lambda location: builder)
    monkeypatch.setattr("hf_encoders.data.location.check_on_hub", lambda name, kind: None)
    assert splits.data_revision("o/n", "test") == {"dataset_revision": "a" * 40}
    files["test"] = ["data/test.parquet", "data/train.parquet"]
    digests = "".join(sha256(Path(file)) for file in files["test"])
    assert splits.data_revision("o/n", "test") == {"dataset_sha256": hashlib.sha256(digests.encode()).hexdigest()}


def test_more_processes_than_rows(model, alone, monkeypatch):
    """The last process has no row, and takes part all the same."""
    rows, shares = make_rows().select([0, 1]), []
    monkeypatch.setattr(embedded_columns, "gather_object", lambda share: shares.extend(share) or list(shares))
    for rank in range(3):
        found = embed_columns(
            model, rows, TRIPLE, SimpleNamespace(process_index=rank, num_processes=3, is_main_process=rank == 0)
        )
    monkeypatch.undo()
    expected = embed_columns(model, rows, TRIPLE, alone)
    for name in TRIPLE:
        torch.testing.assert_close(found.embeds[name], expected.embeds[name])
    assert found.captions == expected.captions
