"""`hf-encoders search` and `classify`, as a person calls them, on real pictures."""

import json

import numpy as np
import PIL.Image
import pytest

from hf_encoders.command_line import run
from hf_encoders.commands import main as cli
from hf_encoders.commands.classify import read_labels
from hf_encoders.search import EmbeddingIndex
from hf_encoders.zero_shot import ZeroShotClassifier


def records(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_folder_is_searched_by_text_into_json_lines(repo, photos, tiny_multimodal, tmp_path, capsys):
    output = tmp_path / "results.jsonl"
    cli.command(["search", repo, str(photos), "a red lamp", "the blue chair", "-k", "4", "--output", str(output)])
    found = records(output)
    assert [(record["query"], record["rank"]) for record in found] == [
        (query, rank) for query in ("a red lamp", "the blue chair") for rank in (1, 2, 3, 4)
    ]
    files = sorted(photos.rglob("*.*g"))
    scores = tiny_multimodal.similarity(tiny_multimodal.encode_text("a red lamp"), tiny_multimodal.encode_image(files))[
        0
    ]
    assert found[0]["row"]["file"] == str(files[scores.argmax()])
    assert found[0]["index"] == scores.argmax()
    assert found[0]["score"] == pytest.approx(scores.max().item(), abs=1e-5)
    assert "8 results" in capsys.readouterr().out


def test_a_parquet_file_is_searched_by_image_into_a_contact_sheet(repo, parquet, photos, tmp_path):
    output = tmp_path / "sheet.png"
    arguments = ["search", repo, parquet, str(photos / "3.png"), "--by", "image", "-k", "3", "--output", str(output)]
    cli.command(arguments)
    cli.command([*arguments[:-2], "--modality", "depth", "--output", str(tmp_path / "maps.png")])
    with PIL.Image.open(output) as sheet, PIL.Image.open(tmp_path / "maps.png") as maps:
        assert (sheet.format, sheet.mode) == ("PNG", "RGB")
        assert sheet.size == maps.size
        assert sheet.width > 4 * 192  # the query and three results
        assert sheet.tobytes() != maps.tobytes()


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (["{photos}/3.png", "--by", "image"], "row 3"),
        (["the red chair", "--modality", "text", "--column", "noun"], "row "),
        (["the red chair", "--modality", "depth", "--dtype", "bfloat16"], "row "),
    ],
)
def test_a_table_is_the_default(arguments, first, repo, parquet, photos, objects_test, capsys):
    arguments = [argument.format(photos=photos) for argument in arguments]
    cli.command(["search", repo, parquet, *arguments, "-k", "2"])
    query, best, second = capsys.readouterr().out.splitlines()
    assert query == arguments[0]
    assert first in best
    assert best.startswith("  1  ") and second.startswith("  2  ")
    assert objects_test[int(best.split("row ")[1].split()[0])]["noun"] in best


def test_a_depth_encoder_searches_depth_by_depth(tiny_encoder, parquet, objects_test, tmp_path, capsys):
    tiny_encoder.save_pretrained(tmp_path / "depth")
    objects_test[4]["depth"].save(tmp_path / "query.png")
    cli.command(["search", str(tmp_path / "depth"), parquet, str(tmp_path / "query.png"), "-k", "1"])
    assert "1.000  row 4  " in capsys.readouterr().out


def test_a_folder_is_classified_into_a_table_json_lines_and_a_sheet(repo, photos, tmp_path, capsys):
    arguments = ["classify", repo, str(photos), "--labels", "chair, table,lamp", "--top-k", "2", "--batch-size", "4"]
    cli.command(arguments)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    cli.command([*arguments, "--output", str(tmp_path / "labels.jsonl")])
    cli.command([*arguments, "--output", str(tmp_path / "labels.png")])
    labelled = records(tmp_path / "labels.jsonl")
    assert [record["row"]["file"] for record in labelled] == [str(file) for file in sorted(photos.rglob("*.*g"))]
    for line, record in zip(lines, labelled, strict=True):
        assert [best["score"] for best in record["labels"]] == sorted(
            (best["score"] for best in record["labels"]), reverse=True
        )
        best = record["labels"][0]
        answer = f"{best['label']} {best['score']:.2f} (cos {best['similarity']:.3f})"
        assert line.startswith(record["row"]["file"]) and answer in line
    with PIL.Image.open(tmp_path / "labels.png") as sheet:
        assert (sheet.mode, sheet.width) == ("RGB", 1280)


def test_rows_below_the_threshold_are_none_of_these(repo, photos, tmp_path, capsys):
    arguments = ["classify", repo, str(photos), "--labels", "chair,table,lamp", "--top-k", "2"]
    cli.command([*arguments, "--output", str(tmp_path / "labels.jsonl")])
    best = [record["labels"][0] for record in records(tmp_path / "labels.jsonl")]
    threshold = sorted(one["similarity"] for one in best)[3] - 1e-4
    capsys.readouterr()
    cli.command([*arguments, "--threshold", str(threshold), "--format", "json"])
    found = [json.loads(line)["labels"] for line in capsys.readouterr().out.splitlines()]
    assert [len(labels) for labels in found] == [2 if one["similarity"] >= threshold else 1 for one in best]
    assert [labels[0]["label"] for labels in found].count(None) == 3
    cli.command([*arguments, "--threshold", str(threshold)])
    lines = capsys.readouterr().out.splitlines()
    assert ["none of these (cos " in line for line in lines] == [labels[0]["label"] is None for labels in found]
    cli.command([*arguments, "--threshold", "1", "--output", str(tmp_path / "labels.png")])


def test_depth_maps_of_a_parquet_file_are_classified_with_templates(
    repo, parquet, tiny_multimodal, objects_test, tmp_path
):
    (tmp_path / "labels.txt").write_text("chair\n\ntable\nlamp\n")
    arguments = ["classify", repo, parquet, "--modality", "depth", "--labels", f"@{tmp_path / 'labels.txt'}"]
    templates = ["--template", "a map of the {}", "--template", "this is a {}."]
    cli.command([*arguments, *templates, "--output", str(tmp_path / "labels.jsonl")])
    classifier = ZeroShotClassifier(tiny_multimodal, ["chair", "table", "lamp"], ["a map of the {}", "this is a {}."])
    expected = classifier.classify(objects_test.select(range(6))["depth"], "depth")
    for record, best, row in zip(records(tmp_path / "labels.jsonl"), expected, objects_test, strict=False):
        assert [label["label"] for label in record["labels"]] == [label["label"] for label in best]
        assert record["labels"][0]["score"] == pytest.approx(best[0]["score"], abs=1e-4)
        assert record["row"]["noun"] == row["noun"] and "depth" not in record["row"]
        assert record["row"]["label"] == objects_test.features["label"].int2str(row["label"])


@pytest.mark.parametrize("command", [["search", "a red lamp", "-k", "9"], ["classify", "--labels", "chair,lamp"]])
def test_broken_files_stop_the_command_or_are_skipped(command, repo, photos, tmp_path, caplog):
    (photos / "1.jpg").write_bytes((photos / "1.jpg").read_bytes()[:500])
    output = tmp_path / "results.jsonl"
    arguments = [command[0], repo, str(photos), *command[1:], "--output", str(output)]
    with pytest.raises(ValueError, match="1.jpg"):
        cli.command(arguments)
    assert not output.exists()
    cli.command([*arguments, "--on-error", "skip"])
    assert sorted(record["index"] for record in records(output) if "skipped" not in record) == [0, 2, 3, 4, 5]
    assert [record["index"] for record in records(output) if "skipped" in record] == [1]
    assert f"1 of 6 inputs skipped, the first: {photos / '1.jpg'}" in caplog.text


@pytest.mark.parametrize("content", [b"", b"a text", b"\x89PNG\r\n\x1a\n", None], ids=["empty", "text", "head", "cut"])
@pytest.mark.parametrize("command", [["search", "a red lamp"], ["classify", "--labels", "chair,lamp"]])
def test_a_broken_file_ends_the_command_in_one_line(command, content, repo, photos, capsys):
    """Not in a search for the cause that never ends."""
    cut = (photos / "1.jpg").read_bytes()[:500]
    (photos / "1.jpg").write_bytes(cut if content is None else content)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(lambda: cli.command([command[0], repo, str(photos), *command[1:]]))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "1.jpg" in error and error.count("\n") == 1


def test_encode_embeds_images_of_a_multimodal_encoder(repo, photos, tiny_multimodal, tmp_path):
    cli.command(["encode", repo, str(photos), "--normalize", "--output", str(tmp_path / "out.npz")])
    saved = np.load(tmp_path / "out.npz")
    expected = tiny_multimodal.encode_image(saved["paths"].tolist(), convert_to="numpy")
    np.testing.assert_allclose(saved["embeddings"], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["search", "{repo}", "{photos}"], "query"),
        (["search", "{repo}", "{photos}", "lamp", "-k", "0"], "-k: must be at least 1"),
        (["search", "{repo}", "{photos}", "lamp", "--output", "out.csv"], "the output is a .jsonl or .png file"),
        (["search", "{repo}", "{photos}", "none.png", "--by", "image"], "none.png: no such file"),
        (["search", "{repo}", "{photos}/none", "lamp"], "none: no such file or folder"),
        (["search", "{repo}", "{parquet}", "lamp", "--column", "noun"], "objects.parquet: "),
        (["search", "{repo}", "{parquet}", "lamp", "--modality", "text", "--column", "noun", "--output", "x.png"],
         "shows images or depth maps"),
        (["search", "{repo}", "{photos}", *["lamp"] * 101, "--output", "x.png"], "holds 500 at most"),
        (["search", "{depth}", "{photos}", "lamp", "--by", "text"], "the model embeds depth, not text"),
        (["classify", "{repo}", "{photos}"], "--labels"),
        (["classify", "{repo}", "{photos}", "--labels", ","], "no label"),
        (["classify", "{repo}", "{photos}", "--labels", "@none.txt"], "none.txt: no such file"),
        (["classify", "{repo}", "{photos}", "--labels", "a,a"], "'a' is there already"),
        (["classify", "{repo}", "{photos}", "--labels", "a", "--template", "b"], "expected exactly one {{}}"),
        (["classify", "{repo}", "{photos}", "--labels", "a", "--threshold", "2"], "must be a cosine, from -1 to 1, or"),
        (["classify", "{repo}", "{photos}", "--labels", "a", "--threshold", "x"], "or calibrated, got 'x'"),
        (["classify", "{depth}", "{photos}", "--labels", "a"], "the model embeds depth, not text"),
        (["classify", "{photos}", "{photos}", "--labels", "a"], "photos"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_line_and_writes_nothing(
    arguments, says, repo, photos, parquet, tiny_encoder, tmp_path, capsys, monkeypatch
):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    tiny_encoder.save_pretrained(tmp_path / "depth")
    capsys.readouterr()  # the bars of saving
    places = {"repo": repo, "photos": photos, "parquet": parquet, "depth": tmp_path / "depth"}
    with pytest.raises(SystemExit) as stop:
        run(lambda: cli.command([argument.format(**places) for argument in arguments]))
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert says.format() in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "work").iterdir())


def test_an_existing_output_is_replaced_on_request_only(repo, photos, tmp_path):
    output = tmp_path / "results.jsonl"
    output.write_text("mine")
    arguments = ["search", repo, str(photos), "a lamp", "--output", str(output)]
    with pytest.raises(FileExistsError, match="--overwrite"):
        cli.command(arguments)
    assert output.read_text() == "mine"
    cli.command([*arguments, "--overwrite"])
    assert len(records(output)) == 5


@pytest.mark.parametrize(
    ("encoding", "ends"), [("utf-8", "\n"), ("utf-8-sig", "\r\n"), ("utf-16", "\n"), ("utf-8", "\r")]
)
def test_files_of_labels_as_people_save_them(encoding, ends, tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes(ends.join(["chair", "Käse", "", "lamp "]).encode(encoding))
    assert read_labels(f"@{path}") == ["chair", "Käse", "lamp"]


def test_a_file_of_labels_that_is_none_is_named(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_bytes("chair\nKäse".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels.txt: line 2 is no UTF-8 \(byte 0xe4\); save it as UTF-8"):
        read_labels(f"@{path}")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "neither images nor depth maps in this folder (looked for .jpg, "),
        (["--modality", "image"], "no image in this folder (looked for .jpg, "),
        (["--modality", "depth"], "no depth map in this folder (looked for .png, "),
    ],
)
@pytest.mark.parametrize("words", [["search", "a lamp"], ["classify", "--labels", "a"], ["embed", "--output", "out"]])
def test_a_folder_without_pictures_says_what_was_looked_for(words, options, says, repo, tmp_path, capsys):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "notes.docx").touch()
    command, *others = words
    with pytest.raises(SystemExit):
        run(lambda: cli.command([command, repo, str(tmp_path / "notes"), *others, *options]))
    assert f"notes: {says}" in capsys.readouterr().err


def test_some_rows_alone_are_searched(repo, parquet, objects_test, tmp_path, capsys):
    nouns = objects_test.select(range(6))["noun"][:]
    chosen = [number for number, noun in enumerate(nouns) if noun in nouns[:2]]
    saved, words = tmp_path / "saved", ["a red lamp", "-k", "9", "--format", "json"]
    for source, options in ((parquet, ["--modality", "image", "--save-index", str(saved)]), (str(saved), [])):
        where = ["--where", f"noun={nouns[0]}", "--where", f"noun={nouns[1]}"]
        capsys.readouterr()
        cli.command(["search", repo, source, *words, *options, *where])
        found = [json.loads(line)["index"] for line in capsys.readouterr().out.splitlines()]
        assert sorted(found) == chosen
    cli.command(["search", repo, str(saved), *words, "--where", "noun=none"])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("noun", "--where noun: expected COLUMN=VALUE, such as label=chair"),
        ("=chair", "--where =chair: expected COLUMN=VALUE"),
        ("colour=red", "no column 'colour'; the rows have "),
        ("image=x", "column 'image' holds struct"),
    ],
)
def test_rows_that_cannot_be_chosen_are_said_in_one_line(where, says, repo, parquet, capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda: cli.command(["search", repo, parquet, "a lamp", "--modality", "image", "--where", where]))
    error = capsys.readouterr().err
    assert stop.value.code == 2 and says in error and error.count("\n") == 1


def test_an_index_without_rows_has_none_to_choose(repo, tiny_multimodal, tmp_path, capsys):
    EmbeddingIndex(tiny_multimodal.encode_text(["a lamp"]), model=tiny_multimodal).save(tmp_path / "saved")
    with pytest.raises(SystemExit):
        run(lambda: cli.command(["search", repo, str(tmp_path / "saved"), "a lamp", "--where", "noun=lamp"]))
    assert "this index has no rows to look at" in capsys.readouterr().err
