"""Arguments of other libraries, and slips, are answered with the argument that is meant."""

import ast
import inspect
import re

import pytest

from hf_encoders.any_encoder import load_encoder
from hf_encoders.models.encode_arguments import check_arguments
from tests.conftest import ROOT
from tests.helpers.multimodal_models import tiny_model

FOREIGN = {
    "normalize_embeddings": "normalize=",
    "convert_to_numpy": 'convert_to="numpy"',
    "convert_to_tensor": 'convert_to="tensor"',
    "output_value": "last_hidden_state",
    "prompt_name": "encode_query",
    "prompt": "model.prompts",
    "precision": "dtype=",
    "sentences": "inputs come first",
    "images": "inputs come first",
    "return_tensors": "convert_to=",
    "padding": "tokenizer's output",
    "normalise": "did you mean normalize=?",
    "batchsize": "did you mean batch_size=?",
    "zzz": "it takes backend, batch_size, convert_to, ",
}
METHODS = ("encode", "encode_text", "encode_query", "encode_document", "encode_image", "encode_depth")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FOREIGN)
def test_an_argument_of_another_library_names_ours(method, name, tiny_multimodal):
    expected = f"^{method} has no argument '{name}': .*{re.escape(FOREIGN[name])}"
    with pytest.raises(TypeError, match=expected) as error:
        getattr(tiny_multimodal, method)(["a"], **{name: True})
    assert not re.search(r"\b_\w+\(", str(error.value)) and "\n" not in str(error.value)


def test_every_encoder_and_tower_answers(tiny_encoder, tiny_multimodal):
    other = load_encoder(tiny_model(depth=False).text_encoder, pooling="mean", tokenizer=tiny_multimodal.text_tokenizer)
    for method in (tiny_encoder.encode, other.encode, other.encode_text, other.tower("text").encode,
                   tiny_multimodal.tower("depth").encode):  # fmt: skip
        with pytest.raises(TypeError, match=r"encode(_text)? has no argument 'normalize_embeddings': say normalize="):
            method([], normalize_embeddings=True)
    assert other.encode(["a red chair"]).equal(other.encode_text(["a red chair"]))


def test_units_belong_to_depth_maps(tiny_multimodal):
    with pytest.raises(
        TypeError, match="encode_image has no argument 'unit_scale': for depth maps alone: call encode_de"
    ):
        tiny_multimodal.encode_image([], unit_scale=1)


def test_the_methods_keep_their_signatures(tiny_multimodal):
    for method in METHODS:
        assert list(inspect.signature(getattr(tiny_multimodal, method)).parameters)[:2] == ["inputs", "batch_size"]
    check_arguments("encode", ["inputs"], {"inputs"})


def test_no_message_names_a_private_function():
    """Docstrings and comments may; what a person gets to read may not."""
    for path in (ROOT / "hf_encoders").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                assert not re.search(r"(?<!\w)_[a-z]\w*\((?!\?)", node.value), (path, node.value)
