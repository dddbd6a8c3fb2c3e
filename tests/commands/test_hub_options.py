"""`--revision` and `--token`: what a command loads of a private repo, and that nobody reads the token afterwards."""

import os

import numpy as np
import pytest
import torch

from hf_encoders.command_line import describe, run
from hf_encoders.commands import main as cli
from hf_encoders.commands.options import load_model

NAME = "org/private-depth"
SECRET = "hf_abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def private(hub, hub_client, tiny_encoder, monkeypatch):
    """The name of a private model whose branch `next` has other weights; this process has no valid token."""
    if not hub.has_repo("model", NAME):
        tiny_encoder.push_to_hub(NAME, private=True)
        with torch.no_grad():
            tiny_encoder.fc[-1].bias.add_(1)
        tiny_encoder.push_to_hub(NAME, revision="next")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    return NAME


@pytest.fixture
def maps(tmp_path):
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps" / "a.npy", np.random.RandomState(0).rand(40, 50))
    return str(tmp_path / "maps")


def encoded(name, maps, output, *options):
    cli.command(["encode", name, maps, "--output", str(output), "--device", "cpu", *options])
    return np.load(output)["embeddings"]


def test_a_token_opens_a_private_model_at_its_revision(private, hub, maps, tmp_path, monkeypatch):
    with pytest.raises(OSError):
        encoded(private, maps, tmp_path / "none.npz")
    first = encoded(private, maps, tmp_path / "first.npz", "--token", hub.token)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    other = encoded(private, maps, tmp_path / "next.npz", "--token", hub.token, "--revision", "next")
    np.testing.assert_allclose(other, first + 1, atol=1e-5)


def test_verify_takes_them_too(private, hub, capsys):
    """The repo was not converted, which is said of what is downloaded."""
    with pytest.raises(SystemExit):
        run(lambda: cli.command(["verify", private, "--revision", "next", "--token", hub.token]))
    assert "has no conversion_report.json" in capsys.readouterr().err


def test_an_output_does_not_hold_the_token(tiny_multimodal, objects_test, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    tiny_multimodal.save_pretrained(tmp_path / "model")
    objects_test.select(range(2)).to_parquet(tmp_path / "few.parquet")
    words = ["embed", tmp_path / "model", tmp_path / "few.parquet", "--output", tmp_path / "out", "--token", SECRET]
    cli.command(list(map(str, words)))
    assert os.environ["HF_TOKEN"] == SECRET
    assert not any(SECRET.encode() in file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())


@pytest.mark.parametrize("words", [["--tokn", SECRET], [f"--tokn={SECRET}"], ["--format", SECRET]])
def test_errors_of_parsing_hide_it(words, capsys):
    with pytest.raises(SystemExit):
        cli.command(["verify", "model", *words])
    error = capsys.readouterr().err
    assert SECRET not in error and ("hf_***" in error or "no option --tokn;" in error)


@pytest.mark.parametrize("token", [SECRET, "a-token-of-another-kind"])
@pytest.mark.parametrize("debug", ["", "1"])
def test_errors_of_the_work_hide_it(token, debug, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("HF_ENCODERS_DEBUG", debug)

    def fail():
        raise ValueError(f"Illegal header value b'Bearer {token}'")

    with pytest.raises(SystemExit):
        run(fail)
    error = capsys.readouterr().err
    assert "Bearer hf_***" in error and token not in error


def test_names_of_this_project_are_no_tokens():
    assert describe(ValueError("hf_encoders: hf_export")) == "hf_encoders: hf_export"


@pytest.mark.parametrize("device", ["nowhere", "cuda:99"])
def test_a_device_that_is_not_there_is_said_in_one_line(device, tiny_encoder, maps, tmp_path, capsys):
    tiny_encoder.save_pretrained(tmp_path / "repo")
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run(lambda: cli.command(["encode", str(tmp_path / "repo"), maps, "--device", device]))
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith(f"error: --device {device}: ") and error.count("\n") == 1


def test_the_device_named_goes_before_that_of_the_processes(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path / "repo")
    words = ["encode", str(tmp_path / "repo"), "maps", "--device", "meta"]
    args = cli.make_parser(["encode"]).parse_args(words)
    assert load_model(args, "cpu").device.type == "meta"
