"""A known family is compared with a person's own network instead of our reference: `convert --original`."""

import inspect
import json

import pytest
import torch

from hf_encoders.adopt.errors import AdoptError
from hf_encoders.checkpoints.errors import CheckpointError
from hf_encoders.conversion.compare import VerificationError
from tests.adopt.conftest import command
from tests.conftest import SMALL_CHECKPOINT
from tests.helpers.encoder_files import Block, ResNet, randomised

HEAD = "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n"
LOGITS = "        return self.fc(x.mean((2, 3)))\n"


def report_of(folder):
    return json.loads((folder / "repo" / "conversion_report.json").read_text())


def convert(folder, *words, gives="", change=()):
    """Convert a small ResNet with a classifier, compared with its own code."""
    text = HEAD + inspect.getsource(Block) + "\n\n" + inspect.getsource(ResNet)
    text = text.replace("        return x\n", gives or LOGITS)
    text = text.replace(*change) if change else text
    (folder / "net.py").write_text(text)
    torch.save({"model": randomised(ResNet(classes=3)).state_dict()}, folder / "a.pth")
    words = words or ("--original-kwargs", '{"classes": 3}')
    command("convert", folder / "a.pth", "--original", f"{folder}/net.py:ResNet", *words, "--output", folder / "repo")


def test_a_classifier_is_compared_by_its_logits(tmp_path, capsys):
    convert(tmp_path)
    verification = report_of(tmp_path)["verification"]
    assert verification["against"] == "ResNet of net.py with the weights of a.pth, float32, CPU"
    assert set(verification) >= {"logits"} and "last_hidden_state" not in verification
    assert verification["logits"]["relative_difference"] < 1e-4
    assert "ResNet of net.py" in (tmp_path / "repo" / "README.md").read_text()
    assert "logits" in capsys.readouterr().out


def test_other_outputs_have_the_names_that_a_person_says(tmp_path):
    words = ("--original-kwargs", '{"classes": 3}', "--original-output", "last_hidden_state=output['maps']",
             "--original-output", "pooler_output=output['maps'].mean((2, 3))")  # fmt: skip
    convert(tmp_path, *words, gives="        return {'maps': x}\n")
    verification = report_of(tmp_path)["verification"]
    assert {"last_hidden_state", "pooler_output"} <= set(verification) and "logits" not in verification


def test_another_network_is_found(tmp_path):
    with pytest.raises(VerificationError, match="the logits differ from those of ResNet of net.py .*another network"):
        convert(tmp_path, change=("F.relu(y + (", "F.elu(y + ("))
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize(
    ("words", "gives", "message"),
    [
        ((), "        return [x, x]\n", "say what its output is, such as --original-output"),
        (("--original-output", "logits=output[9]"), "        return [x]\n", "--original-output output[9]: "),
        (("--original-output", "logits=open('x')"), "", "is not allowed"),
        (("--original-output", "logits"), "", "expected NAME=EXPRESSION"),
        (("--original-output", "logits=output.shape"), "", "expected a tensor"),
        (("--original-output", "scores=output"), "", "gives no scores; it gives"),
        (("--original-output", "logits=output.sum(1, True)"), "", "the logits is [2, 3], and that of ResNet of net.py"),
        (("--dtype", "float16"), "", "--original compares the file's own numbers; leave --dtype out"),
        (("--no-verify",), "", "leave --no-verify out"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, words, gives, message):
    with pytest.raises((AdoptError, CheckpointError, VerificationError)) as error:
        convert(tmp_path, "--original-kwargs", '{"classes": 3}', *words, gives=gives)
    assert message in str(error.value)
    assert not (tmp_path / "repo").exists()


def test_options_go_with_the_original_and_with_encoders(tmp_path):
    (tmp_path / "net.py").write_text(HEAD + "class Net(nn.Module):\n    pass\n")
    with pytest.raises(ValueError, match="go with --original"):
        command("convert", SMALL_CHECKPOINT, "--original-kwargs", "{}", "--output", tmp_path / "repo")
    with pytest.raises(CheckpointError, match="--original is for encoders"):
        command("convert", SMALL_CHECKPOINT, "--original", f"{tmp_path}/net.py:Net", "--output", tmp_path / "repo")
    with pytest.raises(ValueError, match="leave --verify out"):
        command("convert", "--verify", tmp_path, "--original", f"{tmp_path}/net.py:Net")
    with pytest.raises(ValueError, match="--original is for adopted repos"):
        torch.save({"model": randomised(ResNet()).state_dict()}, tmp_path / "a.pth")
        command("convert", tmp_path / "a.pth", "--output", tmp_path / "repo")
        command("verify", tmp_path / "repo", "--original", f"{tmp_path}/net.py:Net")
