"""Work that takes long shows a bar in a terminal, and lines in a file."""

import io
import re

import pytest
from tqdm.auto import tqdm

from hf_encoders.progress import bars as module
from hf_encoders.progress.bars import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def written(monkeypatch):
    """What is written to stderr, which is a file or a terminal."""

    def stderr(kind=io.StringIO):
        stream = kind()
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return stderr


def count_to(total, **options):
    with progress_bar(total, "Embedding", " images", **options) as bar:
        for number in range(total):
            bar.set_postfix(loss=f"{number}.0")
            bar.update()


def test_a_file_holds_whole_lines_and_no_bar(written, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_PER_LINE", 0)
    stream = written()
    count_to(3)
    lines = stream.getvalue().splitlines()
    assert lines and all(re.fullmatch(r"Embedding \d of 3 images \[.*\]", line) for line in lines)
    assert "\r" not in stream.getvalue() and "█" not in stream.getvalue()


def test_short_work_leaves_nothing_in_a_file(written, capsys):
    stream = written()
    with progress_bar(2, unit="step") as bar:
        bar.update()
        tqdm.write("epoch 1")
        bar.update()
    assert stream.getvalue() == ""
    assert capsys.readouterr().out == "epoch 1\n"


def test_a_terminal_shows_a_bar(written):
    stream = written(Terminal)
    count_to(3)
    assert "3/3" in stream.getvalue() and "\r" in stream.getvalue()


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_other_processes_show_nothing(kind, written, monkeypatch):
    monkeypatch.setattr(module, "_SECONDS_PER_LINE", 0)
    stream = written(kind)
    count_to(3, is_shown=False)
    assert stream.getvalue() == ""
