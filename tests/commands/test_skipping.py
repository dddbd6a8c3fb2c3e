"""`--on-error skip`: what cannot be read is left out, listed with the reason, and counted; `stop` is the default."""

import json

import numpy as np
import pytest
from PIL import Image

from hf_encoders import command_line
from hf_encoders.commands import main as cli
from hf_encoders.commands.skipping import say_skipped
from tests.helpers.multimodal_models import tiny_model

GOOD, BAD = 4, 22  # more than are listed on stderr


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repo")
    tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(GOOD):
        Image.new("RGB", (32, 32), (60 * number, 0, 0)).save(folder / f"good{number}.png")
    for number in range(BAD):
        (folder / f"bad{number:02}.png").write_bytes(b"no picture")
    return folder


def run(capsys, *words):
    """Exit status, stdout and stderr of the command."""
    status = 0
    try:
        command_line.run(lambda: cli.command([str(word) for word in words]))
    except SystemExit as stop:
        status = stop.code
    return status, *capsys.readouterr()


def words_of(command, repo, photos):
    words = {
        "encode": ["encode", repo, photos],
        "search": ["search", repo, photos, "a chair"],
        "classify": ["classify", repo, photos, "--labels", "chair,lamp"],
    }[command]
    return [*words, "--modality", "image"]


@pytest.mark.parametrize("command", ["encode", "search", "classify"])
def test_a_file_that_cannot_be_read_ends_the_command(command, repo, photos, tmp_path, capsys):
    output = tmp_path / ("out.npz" if command == "encode" else "out.jsonl")
    for choice in ([], ["--on-error", "stop"]):
        status, _, error = run(capsys, *words_of(command, repo, photos), "--output", output, *choice)
        assert status == 2 and "bad00.png" in error.splitlines()[-1]
    assert not output.exists()


@pytest.mark.parametrize("command", ["encode", "search", "classify"])
def test_the_first_files_that_were_skipped_are_on_stderr(command, repo, photos, tmp_path, capsys):
    output = tmp_path / ("out.npz" if command == "encode" else "out.jsonl")
    status, out, error = run(capsys, *words_of(command, repo, photos), "--output", output, "--on-error", "skip")
    assert status == 0 and out.rstrip().endswith(f"skipped: {BAD}")
    lines = error.splitlines()
    start = lines.index(f"skipped {BAD} {'images' if command == 'encode' else 'rows'}:")
    listed = lines[start + 1 : start + 21]
    assert listed[0].startswith(f"  {photos / 'bad00.png'}: ") and listed[0].count("bad00.png") == 1
    assert listed[-1].startswith(f"  {photos / 'bad19.png'}: ")
    assert lines[start + 21] == f"  and 2 more, listed in {output}"


def test_npz_holds_what_was_skipped(repo, photos, tmp_path, capsys):
    words = [*words_of("encode", repo, photos), "--output", tmp_path / "out.npz", "--on-error", "skip"]
    status, out, _ = run(capsys, *words, "--format", "json")
    saved = np.load(tmp_path / "out.npz")
    assert saved["embeddings"].shape[0] == GOOD == len(saved["paths"])
    assert saved["skipped"].tolist() == [str(photos / f"bad{number:02}.png") for number in range(BAD)]
    assert all("not a picture" in reason or reason for reason in saved["skipped_reasons"].tolist())
    skipped = json.loads(out)["skipped"]
    assert [one["name"] for one in skipped] == saved["skipped"].tolist()
    assert [one["reason"] for one in skipped] == saved["skipped_reasons"].tolist()


@pytest.mark.parametrize("command", ["search", "classify"])
def test_json_lines_hold_a_record_of_each_row_that_was_skipped(command, repo, photos, capsys):
    status, out, _ = run(capsys, *words_of(command, repo, photos), "--on-error", "skip", "--format", "json")
    records = [json.loads(line) for line in out.splitlines()]
    skipped = [record for record in records if "skipped" in record]
    assert status == 0 and len(records) == GOOD + BAD and records[-BAD:] == skipped
    assert [record["index"] for record in skipped] == list(range(BAD))
    assert skipped[3]["row"] == {"file": str(photos / "bad03.png")} and skipped[3]["skipped"]


@pytest.mark.parametrize("command", ["encode", "search", "classify"])
def test_nothing_left_is_an_error(command, repo, photos, tmp_path, capsys):
    for good in photos.glob("good*"):
        good.unlink()
    output = tmp_path / ("out.npz" if command == "encode" else "out.jsonl")
    status, _, error = run(capsys, *words_of(command, repo, photos), "--output", output, "--on-error", "skip")
    assert status == 2 and f"{photos}: none of {BAD} can be embedded; the first: " in error.splitlines()[-1]
    assert not output.exists()


def test_embed_stops_unless_told_otherwise(repo, photos, tmp_path, capsys):
    words = ["embed", repo, photos, "--modality", "image", "--output", tmp_path / "out"]
    status, _, error = run(capsys, *words)
    assert status == 2 and "cannot be embedded; the first: " in error and "--on-error skip leaves" in error
    status, _, error = run(capsys, *words, "--max-bad-rows", BAD - 1)
    assert status == 2 and f"{BAD} rows cannot be embedded, more than the {BAD - 1} of --max-bad-rows" in error
    status, out, error = run(capsys, *words, "--on-error", "skip")
    assert status == 0 and f"bad rows: {BAD}" in out and f"skipped {BAD} rows:" in error
    assert f"  and 2 more, listed in {tmp_path / 'out' / 'manifest.json'}" in error


def test_embed_leaves_out_as_many_rows_as_allowed(repo, photos, tmp_path, capsys):
    words = ["embed", repo, photos, "--modality", "image", "--output", tmp_path / "out"]
    status, out, _ = run(capsys, *words, "--max-bad-rows", BAD)
    assert status == 0 and f"bad rows: {BAD}" in out


def test_one_row_is_no_plural(capsys):
    say_skipped([{"index": 0, "name": "a.png", "reason": "empty"}], 1, "row")
    assert capsys.readouterr().err == "skipped 1 row:\n  a.png: empty\n"
    say_skipped([], 0, "row")
    assert capsys.readouterr().err == ""
