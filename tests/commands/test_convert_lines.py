"""The lines of a conversion say which class loads the result, and it does."""

import subprocess
import sys

import pytest

from hf_encoders import DepthAutoencoderModel
from hf_encoders.commands.convert import loading_lines
from tests.helpers.legacy_files import convert, write_legacy

WITHOUT_PACKAGE = """
import sys
sys.modules["hf_encoders"] = None  # cannot be imported
from transformers import AutoModel
print(type(AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)).__name__)
"""


@pytest.mark.parametrize(
    ("architecture", "loader"),
    [
        ("DepthSemanticEncoderModel", 'AutoModel.from_pretrained("out")'),
        ("DepthAutoencoderModel", 'hf_encoders.DepthAutoencoderModel.from_pretrained("out"); AutoModel loads its'),
        ("DeiTForImageClassificationWithTeacher", 'AutoModelForImageClassification.from_pretrained("out"); AutoModel'),
        ("CLIPVisionModelWithProjection", 'transformers.CLIPVisionModelWithProjection.from_pretrained("out"); Auto'),
    ],
)
def test_the_class_that_loads_the_whole(architecture, loader):
    (line,) = loading_lines(architecture, "out", has_code=False)
    assert line.startswith(f"load it: {loader}")


def test_the_decoder_is_loaded_by_the_class_that_is_named(tmp_path):
    out = convert(write_legacy(tmp_path / "a.pth"), "--include-decoder", "--no-verify")
    assert f'load it: hf_encoders.DepthAutoencoderModel.from_pretrained("{tmp_path / "a-hf"}")' in out
    assert isinstance(DepthAutoencoderModel.from_pretrained(tmp_path / "a-hf"), DepthAutoencoderModel)
    assert "without hf_encoders" not in out
    card = (tmp_path / "a-hf" / "README.md").read_text()
    assert "from hf_encoders import DepthAutoencoderModel" in card and "`AutoModel` loads the encoder alone" in card


def test_a_folder_with_its_code_opens_without_the_package(tmp_path):
    out = convert(write_legacy(tmp_path / "a.pth"), "--with-remote-code", "--no-verify")
    repo = tmp_path / "a-hf"
    assert f'without hf_encoders: AutoModel.from_pretrained("{repo}", trust_remote_code=True) loads the same' in out
    done = subprocess.run([sys.executable, "-c", WITHOUT_PACKAGE, repo], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "DepthSemanticEncoderModel"
