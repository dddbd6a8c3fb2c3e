"""torch.compile: no graph breaks, equal embeddings, and `encode...` goes on working."""

import numpy as np
import pytest
import torch

from tests.helpers.multimodal_models import SIZE, tiny_model

TEXTS = ["a red chair", "the lamp left of a small blue table", "the map"]
MAPS = np.random.default_rng(0).random((5, 64, 64), dtype=np.float32)


@pytest.fixture(autouse=True)
def _forget_compiled_code():
    yield
    torch._dynamo.reset()


@pytest.mark.numeric
def test_depth_encoder(tiny_encoder):
    expected = tiny_encoder.encode(MAPS)
    compiled = torch.compile(tiny_encoder, fullgraph=True, backend="eager")
    pixel_values = tiny_encoder.processor(list(MAPS), return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        embeddings = compiled(pixel_values).pooler_output
    torch.testing.assert_close(embeddings, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(compiled.encode(MAPS), expected)  # the wrapper passes it on


def counted():
    """How many graphs were compiled, of the operations as they are."""
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    return graphs, backend


def test_depth_encoder_in_place(tiny_encoder):
    expected = tiny_encoder.encode(MAPS, batch_size=4)
    graphs, backend = counted()
    tiny_encoder.compile(fullgraph=True, backend=backend)
    # The last batch is smaller.
    torch.testing.assert_close(tiny_encoder.encode(MAPS, batch_size=4), expected, atol=1e-5, rtol=1e-5)
    assert len(graphs) == 2
    assert "fc.6.weight" in tiny_encoder.state_dict()  # names stay as they are


@pytest.mark.numeric
def test_towers_of_the_multimodal_encoder():
    model, graphs = tiny_model(), {}
    images = list(np.random.default_rng(1).random((3, 3, SIZE, SIZE), dtype=np.float32))
    inputs = {"text": TEXTS, "image": images, "depth": MAPS}
    expected = {name: getattr(model, f"encode_{name}")(values) for name, values in inputs.items()}
    for name, tower in {"text": "text_encoder", "image": "visual_encoder", "depth": "depth_encoder"}.items():
        graphs[name], backend = counted()
        getattr(model, tower).compile(fullgraph=True, backend=backend)
        embeddings = getattr(model, f"encode_{name}")(inputs[name])
        torch.testing.assert_close(embeddings, expected[name], atol=1e-5, rtol=1e-5)
        assert len(graphs[name]) == 1


def test_forward_of_the_multimodal_encoder():
    model = tiny_model(depth=False)
    inputs = dict(model.text_tokenizer(TEXTS, padding=True, return_tensors="pt"))
    inputs |= {"pixel_values": torch.rand(3, 3, SIZE, SIZE)}
    expected = model(**inputs, return_loss=True)
    outputs = torch.compile(model, fullgraph=True, backend="aot_eager")(**inputs, return_loss=True)
    for name in ("loss", "logits_per_image", "text_embeds"):
        torch.testing.assert_close(outputs[name], expected[name], atol=1e-4, rtol=1e-5)
    outputs.loss.backward()
    assert all(projection.weight.grad.any() for projection in (model.text_projection, model.visual_projection))
