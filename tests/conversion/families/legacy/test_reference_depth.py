"""The independent forward: the legacy network's own numbers, from nothing but torch."""

import ast
import inspect

import pytest
import torch

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig
from hf_encoders.conversion.families.legacy import reference_depth
from hf_encoders.conversion.verify_depth import TOLERANCE
from tests.conftest import SMALL_CHECKPOINT, TINY
from tests.helpers.legacy_files import cast, one_thread, tiny_state

pytestmark = pytest.mark.numeric
# What is compared with the legacy network's numbers: in double precision they differ by its rounding alone, on every
# processor by the same; in single precision by both, and that must stay below what a verification allows.
PRECISIONS = [(torch.float64, 1e-5), (torch.float32, TOLERANCE)]


def difference(actual, expected):
    """The largest difference, relative to the largest magnitude."""
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_full_size_equals_the_legacy_network(golden, golden_weights, dtype, tolerance):
    with torch.inference_mode():
        embeddings = reference_depth.encode(golden_weights, golden["pixel_values"].to(dtype))
        reconstruction = reference_depth.decode(golden_weights, embeddings)
    assert embeddings.dtype == reconstruction.dtype == dtype
    assert difference(embeddings, golden["embeddings"]) <= tolerance
    assert difference(reconstruction, golden["reconstruction"]) <= tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_sample_checkpoint_equals_the_legacy_network(small_expected, dtype, tolerance):
    weights = torch.load(SMALL_CHECKPOINT, weights_only=True)["model_state_dict"]
    with torch.inference_mode():
        embeddings = reference_depth.encode(weights, small_expected["pixel_values"].to(dtype))
        reconstruction = reference_depth.decode(weights, embeddings)
    assert difference(embeddings, small_expected["embeddings"][:4]) <= tolerance
    assert difference(reconstruction, small_expected["reconstruction"]) <= tolerance


def test_it_shares_nothing_with_the_package():
    tree = ast.parse(inspect.getsource(reference_depth))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    modules = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert all(node.level == 0 for node in modules)
    assert imported | {node.module for node in modules} == {"collections.abc", "torch", "torch.nn.functional"}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"importlib", "__import__", "eval", "exec"}


@pytest.mark.parametrize(
    ("changes", "side"),
    [
        ({}, 32),
        ({}, 97),
        ({"num_channels": 3, "pool_grid": 3, "depths": [1, 1, 2, 3]}, 64),
        ({"decoder_hidden_sizes": [8, 4], "decoder_gated_blocks": 2}, 64),
        ({"decoder_gated_blocks": 0}, 64),
    ],
)
def test_other_sizes_follow_from_the_tensors(changes, side):
    state = tiny_state(**changes)
    model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**TINY | changes)).eval()
    model.load_state_dict(state)
    maps = torch.rand(2, changes.get("num_channels", 1), side, side).double() * 2 - 1
    with one_thread(), torch.inference_mode():
        outputs = model.double()(maps)
        embeddings = reference_depth.encode(state, maps)
        assert difference(embeddings, outputs.pooler_output) <= 1e-12
        assert difference(reference_depth.decode(state, embeddings), outputs.reconstruction) <= 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tensors_run_in_float32_and_stay_as_they_are(dtype):
    state = cast(tiny_state(), dtype)
    before = {name: tensor.clone() for name, tensor in state.items()}
    maps = torch.rand(2, 1, 32, 32)
    with one_thread(), torch.inference_mode():
        embeddings = reference_depth.encode(state, maps)
        assert embeddings.dtype == torch.float32
        assert torch.equal(embeddings, reference_depth.encode(cast(state, torch.float32), maps))
        assert difference(embeddings, reference_depth.encode(tiny_state(), maps)) > 1e-5
    assert all(
        state[name].dtype == tensor.dtype and torch.equal(state[name], tensor) for name, tensor in before.items()
    )


def test_every_tensor_is_read(monkeypatch):
    """A forward that forgot a tensor would prove nothing about it."""
    read, get = set(), reference_depth.LegacyTensors.get
    monkeypatch.setattr(reference_depth.LegacyTensors, "get", lambda t, name: read.add(t.prefix + name) or get(t, name))
    state = tiny_state()
    needed = {name for name, tensor in state.items() if tensor.is_floating_point()}
    with one_thread(), torch.inference_mode():
        embeddings = reference_depth.encode(state, torch.rand(1, 1, 32, 32))
        assert state.keys() & read == {name for name in needed if name.startswith("encoder.")}
        reference_depth.decode(state, embeddings)
    assert state.keys() & read == needed
