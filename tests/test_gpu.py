"""What only a CUDA device shows: `make test-gpu`."""

import pytest
import torch

from hf_encoders import DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from tests.conftest import TINY
from tests.helpers.multimodal_models import tiny_model

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
MAPS = torch.rand(40, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return DepthSemanticEncoderModel(DepthSemanticEncoderConfig(image_size=32, **TINY)).eval()


def test_embeddings_are_those_of_the_cpu(encoder):
    expected = encoder.encode(MAPS)
    found = encoder.encode(MAPS, device="cuda")
    assert found.device.type == "cuda" and encoder.device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(encoder, dtype):
    expected = encoder.encode(MAPS)
    found = encoder.encode(MAPS, device="cuda", dtype=dtype)
    assert torch.cosine_similarity(found.cpu(), expected).min() > 0.999


def test_several_processes_on_one_card(encoder):
    expected = encoder.encode(MAPS)
    found = encoder.encode(MAPS, batch_size=4, device=["cuda:0", "cuda:0"])
    torch.testing.assert_close(found.cpu(), expected, atol=1e-4, rtol=1e-3)


def test_a_batch_that_does_not_fit_is_halved(encoder, caplog):
    total = torch.cuda.get_device_properties(0).total_memory
    expected = encoder.encode(MAPS, device="cuda")
    many = MAPS.repeat(2000, 1, 1, 1)
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((1 << 30) / total)
    try:
        found = encoder.encode(many, batch_size=len(many), device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    torch.testing.assert_close(found[: len(MAPS)], expected, atol=1e-4, rtol=1e-3)
    assert "are too many for the memory of cuda" in caplog.text


def test_towers_of_three_modalities(objects_test):
    model = tiny_model()
    rows = objects_test[:4]
    for encode, inputs in ((model.encode_image, rows["image"]), (model.encode_depth, rows["depth"])):
        expected = encode(inputs)
        torch.testing.assert_close(encode(inputs, device="cuda").cpu(), expected, atol=1e-4, rtol=1e-3)
        model.to("cpu")


def test_a_compiled_model_gives_the_same(encoder):
    expected = encoder.encode(MAPS, device="cuda")
    encoder.compile(mode="reduce-overhead")
    torch.testing.assert_close(encoder.encode(MAPS, batch_size=40), expected, atol=1e-4, rtol=1e-3)
