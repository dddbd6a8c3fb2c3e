"""The independent forward of BERT and ViT: the legacy network's own numbers, from nothing but torch."""

import ast
import inspect

import pytest
import torch
from safetensors.torch import load_file

from hf_encoders.conversion.families.legacy import reference_depth, reference_multimodal
from hf_encoders.conversion.families.legacy.reference_multimodal import TowerSettings, embed_images, embed_text
from tests.conftest import DATA
from tests.helpers.golden import golden_state_dict
from tests.helpers.legacy_files import cast

pytestmark = pytest.mark.numeric


def read_golden(size):
    state = golden_state_dict(DATA / f"multimodal_{size}_keys.tsv")
    return state, load_file(DATA / f"multimodal_{size}_golden.safetensors")


def embed(state, golden, settings=None):
    settings = settings or TowerSettings()
    with torch.inference_mode():
        text = embed_text(state, golden["input_ids"], golden["attention_mask"], settings)
        return text, embed_images(state, golden["pixel_values"], settings)


@pytest.mark.parametrize("size", ["tiny", pytest.param("base", marks=pytest.mark.slow)])
def test_equals_the_legacy_network(size):
    state, golden = read_golden(size)
    text, images = embed(state, golden)
    for actual, expected in ((text, "text_embeds"), (images, "image_embeds"), (text @ images.T, "cosine")):
        torch.testing.assert_close(actual, golden[expected], rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [TowerSettings(head_size=32), TowerSettings(eps=1e-2)])
def test_the_settings_count(settings):
    state, golden = read_golden("tiny")
    text, images = embed(state, golden, settings)
    assert (text - golden["text_embeds"]).abs().max() > 1e-4
    assert (images - golden["image_embeds"]).abs().max() > 1e-4


def test_it_shares_nothing_with_the_package():
    modules = {reference_depth, reference_multimodal}
    imported = set()
    for module in modules:
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Import):
                imported |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add("." * node.level + str(node.module))
            assert not isinstance(node, ast.Name) or node.id not in {"importlib", "__import__", "eval", "exec"}
    assert imported == {"collections.abc", "dataclasses", "torch", "torch.nn.functional", ".reference_depth"}


def test_half_precision_runs_in_float32():
    state, golden = read_golden("tiny")
    half = cast(state, torch.float16)
    for actual, expected in zip(embed(half, golden), embed(cast(half, torch.float32), golden), strict=True):
        assert actual.dtype == torch.float32 and torch.equal(actual, expected)


def test_every_tensor_but_the_unused_is_read(monkeypatch):
    """A forward that forgot a tensor would prove nothing about it."""
    read, get = set(), reference_depth.LegacyTensors.get
    monkeypatch.setattr(reference_depth.LegacyTensors, "get", lambda t, name: read.add(t.prefix + name) or get(t, name))
    state, golden = read_golden("tiny")
    embed(state, golden)
    assert state.keys() - read == {name for name in state if ".pooler." in name or name == "temperature"}
