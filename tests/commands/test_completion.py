"""`hf-encoders completion`: the script that it prints completes in bash, and no key press starts Python."""

import subprocess
import sys

import pytest

from hf_encoders.commands import main as cli

# What bash does at a tab: the words, which of them is completed, and what the function proposes.
COMPLETE = """
set -u
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMPREPLY=()
_shtab_hf_encoders hf-encoders "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(tmp_path, capsys):
    cli.command(["completion", "bash"])
    (tmp_path / "completion.bash").write_text(capsys.readouterr().out)
    return tmp_path / "completion.bash"


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        (["se"], {"search"}),
        (["ex"], {"export", "export-legacy"}),
        (["search", "--mod"], {"--modality"}),
        (["search", "--modality", "de"], {"depth"}),
        (["encode", "--re"], {"--revision"}),
        (["encode", "model", "ma"], {"maps"}),
        (["embed", "mo"], {"model"}),
        (["embed", "model", "ma"], {"maps"}),
        (["search", "--pooling", "p"], {"pooler"}),
        (["evaluate", "--tr"], {"--train-dataset", "--train-split", "--trust-remote-code"}),
        (["encode", "--tokenizer", "mo"], {"model"}),
        (["classify", "--image-processor", "mo"], {"model"}),
        (["export", "model", "--to", "o"], {"onnx", "openvino"}),
        (["embed", "--preset", "ky"], set()),
        (["embed", "--preset", "ki"], {"kitti"}),
        (["train", "li"], {"lit"}),
        (["train", "depth"], {"depth_sample", "depth_to_words"}),
        (["train", "lit", "--learning_r"], {"--learning_rate"}),
        (["train", "--loss", "si"], {"sigmoid"}),
        (["train", "--lr_schedule", "co"], {"cosine", "constant"}),
        (["train", "--lr_schedule", "pl"], {"plateau"}),
        (["train", "--horizontal"], {"--horizontal_flip"}),
        (["train", "--preset", "ki"], {"kitti"}),
        (["train", "--init_from", "mo"], {"model"}),
    ],
)
def test_bash_completes(words, proposed, script, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "maps").mkdir()
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE, "bash", script, "hf-encoders", *words],
        cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert {word for word in done.stdout.split("\n") if word} == proposed, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell, capsys):
    cli.command(["completion", shell])
    printed = capsys.readouterr().out
    assert "hf-encoders" in printed and "modality" in printed


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(ImportError, match=r"pip install 'hf-encoders\[completion\]'"):
        cli.command(["completion", "bash"])
