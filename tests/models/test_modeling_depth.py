"""The encoder and the classifier: shapes, errors, initialisation, registration, saving and loading."""

import copy
import pickle
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification

from hf_encoders import (
    DepthAutoencoderModel,
    DepthImageProcessor,
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderForImageClassification,
    DepthSemanticEncoderModel,
)
from tests.conftest import TINY
from tests.helpers.golden import golden_tensor

pytestmark = pytest.mark.numeric

MODELS = [DepthSemanticEncoderModel, DepthAutoencoderModel, DepthSemanticEncoderForImageClassification]


def difference(actual, expected):
    """The largest difference, relative to the largest magnitude."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def filled(model):
    """The model in eval mode with weights and statistics that no initialisation gives."""
    model.load_state_dict({name: golden_tensor(name, tuple(value.shape)) for name, value in model.state_dict().items()})
    return model.eval()


def file_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def maps(*shape):
    return torch.rand(shape) * 2 - 1


@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 50), (64, 128), (224, 224)])
def test_sizes_channels_and_batches(height, width, channels, batch):
    model = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY, num_channels=channels)).eval()
    outputs = model(maps(batch, channels, height, width), output_hidden_states=True)
    assert outputs.pooler_output.shape == (batch, 12)
    sides = [(-(-height // stride), -(-width // stride)) for stride in (4, 4, 8, 16, 32)]
    sizes = [4, 8, 8, 16, 16]
    assert [state.shape for state in outputs.hidden_states] == [
        (batch, size, *side) for size, side in zip(sizes, sides, strict=True)
    ]
    assert outputs.last_hidden_state is outputs.hidden_states[-1]


def test_embedding_depends_on_its_map_alone(tiny_encoder):
    pixel_values = maps(4, 1, 64, 64)
    together = tiny_encoder(pixel_values).pooler_output
    alone = torch.cat([tiny_encoder(one[None]).pooler_output for one in pixel_values])
    assert difference(together, alone) <= 1e-5
    assert (together[0] - together[1]).abs().max() > 0.01


def test_outputs_on_request(tiny_encoder):
    pixel_values = maps(2, 1, 32, 32)
    outputs = tiny_encoder(pixel_values)
    assert outputs.hidden_states is None
    hidden, embedding = tiny_encoder(pixel_values, return_dict=False)
    assert torch.equal(hidden, outputs.last_hidden_state) and torch.equal(embedding, outputs.pooler_output)
    tiny_encoder.config.output_hidden_states = True
    assert len(tiny_encoder(pixel_values).hidden_states) == 5


@pytest.mark.parametrize("shape", [(1, 64, 64), (1, 1, 1, 64, 64), (2, 3, 64, 64), (2, 1, 31, 64), (2, 1, 64, 31)])
@pytest.mark.parametrize("model_class", MODELS)
def test_unusable_inputs_are_errors_that_say_what_came(model_class, shape):
    model = model_class(DepthSemanticEncoderConfig(**TINY))
    expected = rf"\[batch, 1, height, width\] with sides from 32 pixels, got {re.escape(str(list(shape)))}"
    with pytest.raises(ValueError, match=expected):
        model(torch.zeros(shape))


def test_initialisation_is_the_legacy_one():
    wide = {"hidden_sizes": [64, 64, 128, 128], "fc_sizes": [128, 64], "decoder_fusion_size": 64}
    model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**(TINY | wide)))
    for name, value in model.state_dict().items():
        module = model.get_submodule(name.rpartition(".")[0])
        if name.endswith(("bias", "running_mean", "num_batches_tracked")):
            assert (value == 0).all(), name
        elif name.endswith(("gamma", "alpha")):
            assert value.item() == pytest.approx(0.1 if name.endswith("gamma") else 0.5), name
        elif isinstance(module, nn.BatchNorm2d):
            assert (value == 1).all(), name
        elif value.numel() > 2000:
            fan_out = value.shape[0] * value[0, 0].numel()
            deviations = value / (2 / fan_out) ** 0.5
            assert deviations.mean().abs() < 0.1 and deviations.std() == pytest.approx(1, abs=0.1), name
            assert deviations.abs().max() > 2.5, name  # normal, not uniform


@pytest.mark.parametrize("model_class", MODELS)
def test_gradient_reaches_every_parameter(model_class):
    config = DepthSemanticEncoderConfig(**TINY)
    model = model_class(config).train()
    outputs = model(maps(4, 1, 128, 128))
    output = next(outputs[name] for name in ("logits", "reconstruction", "pooler_output") if name in outputs)
    output.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("model_class", MODELS)
def test_copies_are_equal_and_independent(model_class, clone):
    model = filled(model_class(DepthSemanticEncoderConfig(**TINY)))
    twin = clone(model)
    pixel_values = maps(2, 1, 64, 64)
    before = model(pixel_values)[0].clone()
    assert torch.equal(twin(pixel_values)[0], before)
    nn.utils.vector_to_parameters(torch.zeros(twin.num_parameters()), twin.parameters())
    assert torch.equal(model(pixel_values)[0], before)
    assert not torch.equal(twin(pixel_values)[0], before)


@pytest.mark.parametrize(
    ("num_labels", "labels", "reference"),
    [
        (4, torch.tensor([0, 3, 1]), nn.functional.cross_entropy),
        (4, torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1]]), nn.functional.binary_cross_entropy_with_logits),
        (1, torch.tensor([0.5, -2.0, 3.0]), lambda logits, labels: (logits[:, 0] - labels).square().mean()),
    ],
    ids=["one label", "many labels", "regression"],
)
def test_classifier_loss(num_labels, labels, reference):
    model = DepthSemanticEncoderForImageClassification(DepthSemanticEncoderConfig(**TINY, num_labels=num_labels))
    outputs = filled(model)(maps(3, 1, 64, 64), labels=labels)
    assert outputs.logits.shape == (3, num_labels)
    torch.testing.assert_close(outputs.loss, reference(outputs.logits, labels))
    outputs.loss.backward()
    assert model.encoder.stem[0].weight.grad.abs().max() > 0


def test_classifier_starts_undecided_and_returns_what_is_asked():
    model = DepthSemanticEncoderForImageClassification(DepthSemanticEncoderConfig(**TINY, num_labels=5)).eval()
    pixel_values = maps(2, 1, 64, 64)
    outputs = model(pixel_values, output_hidden_states=True)
    assert outputs.loss is None and len(outputs.hidden_states) == 5
    assert 0 < outputs.logits.abs().max() < 0.2
    (logits,) = model(pixel_values, return_dict=False)
    assert torch.equal(logits, outputs.logits)


def test_auto_classes_know_the_models(tiny_config, tmp_path):
    assert type(AutoConfig.for_model("depth_semantic_encoder")) is DepthSemanticEncoderConfig
    assert type(AutoModel.from_config(tiny_config)) is DepthSemanticEncoderModel
    classifier = AutoModelForImageClassification.from_config(tiny_config)
    assert type(classifier) is DepthSemanticEncoderForImageClassification
    classifier.save_pretrained(tmp_path)
    assert type(AutoModelForImageClassification.from_pretrained(tmp_path)) is DepthSemanticEncoderForImageClassification
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is DepthImageProcessor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model_class", MODELS)
def test_save_load_save_is_byte_stable(model_class, dtype, tmp_path):
    model = filled(model_class(DepthSemanticEncoderConfig(**TINY))).to(dtype)
    model.save_pretrained(tmp_path / "a")
    loaded, info = model_class.from_pretrained(tmp_path / "a", output_loading_info=True)
    assert not any(info.values()), info
    assert loaded.dtype == dtype and not loaded.training
    loaded.save_pretrained(tmp_path / "b")
    first = file_bytes(tmp_path / "a")
    assert set(first) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert file_bytes(tmp_path / "b") == first


@pytest.mark.parametrize("model_class", MODELS)
def test_sharded_files_load_the_same(model_class, tmp_path):
    model = filled(model_class(DepthSemanticEncoderConfig(**TINY)))
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("model_class", MODELS[1:])
def test_encoder_reads_the_repos_of_the_others(model_class, tmp_path):
    model = filled(model_class(DepthSemanticEncoderConfig(**TINY)))
    model.save_pretrained(tmp_path)
    encoder, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(encoder) is DepthSemanticEncoderModel and not any(info.values()), info
    torch.testing.assert_close(encoder.state_dict(), model.encoder.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("model_class", MODELS[:2])
def test_classifier_starts_from_a_pretrained_encoder(model_class, tmp_path):
    model = filled(model_class(DepthSemanticEncoderConfig(**TINY)))
    model.save_pretrained(tmp_path)
    classifier, info = AutoModelForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {"classifier.weight", "classifier.bias"} and not info["unexpected_keys"]
    torch.testing.assert_close(classifier.encoder.state_dict(), model.base_model.state_dict(), rtol=0, atol=0)
    assert classifier.classifier.weight.abs().max() < 0.05 and (classifier.classifier.bias == 0).all()


@pytest.mark.parametrize(
    ("key", "is_initial"),
    [
        ("encoder.attention2.gamma", lambda value: value.item() == pytest.approx(0.1)),
        ("decoder.decoder_blocks.1.se.alpha", lambda value: value.item() == pytest.approx(0.5)),
        # Their neighbours gamma and alpha, which no submodule holds, must keep what was loaded.
        ("encoder.attention2.channel_attention.1.bias", lambda value: (value == 0).all()),
        ("decoder.decoder_blocks.1.se.fc.0.bias", lambda value: (value == 0).all()),
        ("encoder.stem.1.running_var", lambda value: (value == 1).all()),
        ("encoder.layer2.0.bn1.weight", lambda value: (value == 1).all()),
        ("encoder.fc.3.bias", lambda value: (value == 0).all()),
        ("encoder.fc.3.weight", lambda value: value.min() < 0 and value.isfinite().all()),
    ],
)
def test_a_missing_tensor_alone_is_initialised_again(key, is_initial, tmp_path):
    model = filled(DepthAutoencoderModel(DepthSemanticEncoderConfig(**TINY)))
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[key]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded, info = DepthAutoencoderModel.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == {key} and not info["unexpected_keys"]
    state = loaded.state_dict()
    assert is_initial(state.pop(key))
    torch.testing.assert_close(state, tensors, rtol=0, atol=0)
