"""`hf-encoders demo` before its page is there: options, and what is missing. tests/demo has the page itself."""

import importlib.util
import re
import tomllib

import pytest
import yaml

from hf_encoders.command_line import run
from hf_encoders.commands import demo
from hf_encoders.commands import main as cli
from tests.conftest import ROOT, SAMPLES

SPACE = ROOT / "space"


def said_by(words, capsys):
    """What the command says; it ends with status 2 in one line."""
    with pytest.raises(SystemExit) as end:
        run(lambda: cli.command(["demo", *words]))
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--port", "65536"], "must be from 0 to 65535"),
        (["--port", "x"], "invalid _port value: 'x'"),
        (["--max-upload", "0"], "must be at least 1"),
        (["--model", "./absent"], "./absent: no such"),
        (["--data", "absent.parquet"], "absent.parquet: no such"),
        (["photos"], "unrecognized arguments: photos"),
    ],
)
def test_a_mistake_is_one_line(words, says, capsys):
    assert says in said_by(words, capsys)


@pytest.mark.parametrize("missing", ["gradio", "sklearn"])
def test_without_its_packages_it_says_how_to_get_them(missing, monkeypatch, capsys):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == missing else object())
    assert said_by([], capsys) == f"error: the page needs {missing}: pip install 'hf-encoders[demo]'\n"


def test_outside_of_a_clone_a_model_and_data_are_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(demo, "_MODEL", "samples/of_a_clone")
    assert "a part of a clone, and this is none; give another one as --model" in said_by([], capsys)
    monkeypatch.setattr(demo, "_DATA", "samples/of_a_clone")
    assert "give another one as --data" in said_by(["--model", str(SAMPLES / "multimodal-rooms")], capsys)


def test_a_clone_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo._bundled(demo._MODEL, "--model") == str(SAMPLES / "multimodal-rooms")


@pytest.mark.parametrize(
    ("host", "space", "place"),
    [
        ("127.0.0.1", None, "here"),
        ("localhost", None, "here"),
        ("0.0.0.0", None, "server"),
        ("0.0.0.0", "a/b", "space"),
    ],
)
def test_where_files_go(host, space, place, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    if space:
        monkeypatch.setenv("SPACE_ID", space)
    assert demo._place(host) == place


def test_the_space_shows_what_lies_beside_it(monkeypatch):
    spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    for name in ("MODEL", "DATA", "GRADIO_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    args = cli.make_parser(["demo"]).parse_args(app.arguments())
    assert (args.model, args.data) == (f"{SPACE}/{demo._MODEL}", f"{SPACE}/{demo._DATA}")
    assert (args.host, args.port) == ("0.0.0.0", 7860)
    monkeypatch.setenv("MODEL", "org/name")
    assert "org/name" in app.arguments()


def test_the_card_of_the_space_and_its_requirements_agree_with_the_project():
    card = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---")[1])
    (pinned,) = re.findall(r"^gradio==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert (card["sdk"], card["sdk_version"], card["app_file"]) == ("gradio", pinned, "app.py")
    assert (SPACE / card["app_file"]).is_file() and len(card["short_description"]) <= 60
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"^hf-encoders\[([\w,]+)\]$", (SPACE / "requirements.txt").read_text(), re.MULTILINE)
    assert set(named.split(",")) <= set(extras) and "demo" in named
