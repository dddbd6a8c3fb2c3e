"""The `hf-encoders` command, as a person calls it."""

import subprocess
import sys

import numpy as np
import pytest

from hf_encoders import __version__
from hf_encoders.command_line import run
from hf_encoders.commands import main as cli


@pytest.fixture
def repo(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path / "repo")
    return str(tmp_path / "repo")


@pytest.fixture
def maps(tmp_path):
    """A folder with three maps at two levels, and a file that is none."""
    folder = tmp_path / "maps"
    (folder / "deep").mkdir(parents=True)
    for number, name in enumerate(("b.npy", "a.npy", "deep/c.npy")):
        np.save(folder / name, np.random.RandomState(number).rand(40, 50))
    (folder / "notes.txt").write_text("no map")
    return folder


def test_encode_writes_embeddings_in_the_order_of_the_paths(repo, maps, tiny_encoder, tmp_path, capsys):
    output = tmp_path / "out.npz"
    cli.command(["encode", repo, str(maps / "b.npy"), str(maps), "--output", str(output), "--batch-size", "2"])
    saved = np.load(output)
    expected = [maps / "b.npy", maps / "a.npy", maps / "b.npy", maps / "deep" / "c.npy"]
    assert saved["paths"].tolist() == [str(path) for path in expected]
    np.testing.assert_allclose(saved["embeddings"], tiny_encoder.encode(expected, convert_to="numpy"), atol=1e-5)
    assert "4 maps" in capsys.readouterr().out


def test_encode_keeps_the_first_dimensions(repo, maps, tmp_path, capsys):
    for name, words in (("all", []), ("some", ["--truncate-dim", "5"])):
        cli.command(["encode", repo, str(maps), "--output", str(tmp_path / f"{name}.npz"), *words])
    whole, some = (np.load(tmp_path / f"{name}.npz")["embeddings"] for name in ("all", "some"))
    assert some.shape == (len(whole), 5)
    np.testing.assert_allclose(some, whole[:, :5], rtol=1e-5, atol=1e-6)  # two models may lie otherwise in memory
    with pytest.raises(SystemExit) as stop:
        run(
            lambda: cli.command(
                ["encode", repo, str(maps), "--truncate-dim", "0", "--output", str(tmp_path / "no.npz")]
            )
        )
    assert stop.value.code == 2 and "truncate_dim must be from 1 to" in capsys.readouterr().err
    assert not (tmp_path / "no.npz").exists()


def test_encode_normalizes(repo, maps, tmp_path):
    output = tmp_path / "out.npz"
    cli.command(["encode", repo, str(maps), "--output", str(output), "--normalize", "--dtype", "bfloat16"])
    np.testing.assert_allclose(np.linalg.norm(np.load(output)["embeddings"], axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["encode", "{repo}", "{maps}/none.npy"], "none.npy: no such file"),
        (["encode", "{repo}", "{maps}/notes.md"], "notes.md: no such file"),
        (["encode", "{repo}", "{repo}"], "no depth map in this folder"),
        (["encode", "{repo}", "{maps}", "--output", "out.csv"], "out.csv: the output is a .npz file"),
        (["encode", "{repo}", "{maps}", "--batch-size", "0"], "--batch-size: must be at least 1"),
        (["encode", "{repo}", "{maps}", "--output", "{maps}/b.npy/out.npz"], "cannot be written"),
        (["encode", "{maps}", "{maps}"], "config.json"),
        (["encode", "{repo}"], "paths"),
        (["embroider"], "the commands are convert, adopt, inspect, verify"),
        ([], "give a command: convert, adopt, inspect, verify, export-legacy"),
    ],
)
def test_bad_input_ends_in_one_line_and_status_2(arguments, says, repo, maps, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = [argument.format(repo=repo, maps=maps) for argument in arguments]
    with pytest.raises(SystemExit) as stop:
        run(lambda: cli.command(arguments))
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert says in error
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("*npz*"))


def test_an_existing_output_is_replaced_on_request_only(repo, maps, tmp_path):
    output = tmp_path / "out.npz"
    output.write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite"):
        cli.command(["encode", repo, str(maps), "--output", str(output)])
    assert output.read_text() == "mine"
    cli.command(["encode", repo, str(maps), "--output", str(output), "--overwrite"])
    assert len(np.load(output)["paths"]) == 3


def test_the_installed_command_answers():
    code = "from hf_encoders.commands.main import main; main()"
    command = subprocess.run([sys.executable, "-c", code, "--version"], text=True, capture_output=True, check=True)
    assert command.stdout.strip() == f"hf-encoders {__version__}"


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "words.TXT"])
def test_rows_are_for_embed(name, repo, tmp_path, capsys):
    (tmp_path / name).write_text("a")
    with pytest.raises(SystemExit) as stopped:
        run(lambda: cli.command(["encode", str(repo), str(tmp_path / name)]))
    assert stopped.value.code == 2 and f"{name}: rows, and this command embeds files" in capsys.readouterr().err
