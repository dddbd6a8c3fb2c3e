"""Freezing by name: what an optimizer step and a forward pass in train mode may still change."""

import pytest
import torch
from torch import nn

from hf_encoders import (
    DepthAutoencoderModel,
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderForImageClassification,
    DepthSemanticEncoderModel,
)
from tests.conftest import TINY

MODELS = [DepthSemanticEncoderModel, DepthAutoencoderModel, DepthSemanticEncoderForImageClassification]
FROZEN = ("stem.", "layer1.")


@pytest.fixture(params=MODELS, ids=lambda model_class: model_class.__name__)
def model(request):
    return request.param(DepthSemanticEncoderConfig(**TINY)).train()


def train_two_steps(model):
    """Two real steps with weight decay: the names of the tensors that they changed, and of the others."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(2):
        outputs = model(torch.rand(4, 1, 128, 128) * 2 - 1)
        output = next(outputs[name] for name in ("logits", "reconstruction", "pooler_output") if name in outputs)
        optimizer.zero_grad()
        output.square().sum().backward()
        optimizer.step()
    after = model.state_dict()
    changed = {name.removeprefix("encoder.") for name in before if not torch.equal(before[name], after[name])}
    return changed, {name.removeprefix("encoder.") for name in before} - changed


def trainable(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def modes(model):
    return {name: module.training for name, module in model.named_modules()}


def test_frozen_modules_stay_as_they_are_bit_for_bit(model):
    model.freeze(["stem", "layer1"])
    changed, unchanged = train_two_steps(model)
    assert not {name for name in changed if name.startswith(FROZEN)}
    # Everything else moved, by weight decay at least; a bias that is zero and has no gradient cannot.
    assert all(name.endswith("bias") for name in unchanged if not name.startswith(FROZEN))
    assert {"layer2.0.bn1.running_mean", "layer2.0.bn1.num_batches_tracked", "attention1.gamma"} <= changed


def test_without_freezing_the_steps_change_the_same_modules(model):
    changed, _ = train_two_steps(model)
    assert {"stem.0.weight", "stem.1.running_var", "layer1.0.bn3.num_batches_tracked"} <= changed


def test_gradient_flows_through_frozen_modules(tiny_encoder):
    tiny_encoder.freeze(["layer2", "layer3", "layer4", "fc"])
    tiny_encoder.train()(torch.rand(2, 1, 64, 64)).pooler_output.sum().backward()
    assert tiny_encoder.stem[0].weight.grad.abs().max() > 0
    assert tiny_encoder.layer2[0].conv1.weight.grad is None


def test_unfreeze_is_the_inverse(model):
    parameters, before = trainable(model), modes(model)
    model.freeze(["stem", "layer1", "layer2"])
    model.unfreeze(["layer1"])
    model.unfreeze(["stem", "layer2"])
    assert trainable(model) == parameters and modes(model) == before
    changed, _ = train_two_steps(model)
    assert {"stem.0.weight", "stem.1.running_mean", "layer1.0.bn1.running_var"} <= changed


def test_without_names_everything(model):
    parameters = trainable(model)
    model.freeze()
    assert trainable(model) == set()
    assert not any(module.training for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    model.unfreeze()
    assert trainable(model) == parameters


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: nn.Sequential(nn.Sequential(model))])
def test_frozen_statistics_survive_every_switch_of_mode(model, wrap):
    model.freeze(["stem", "layer1"])
    outer = wrap(model)
    outer.eval()
    assert not any(modes(outer).values())
    outer.train()
    encoder = model.base_model
    assert model.training and encoder.layer2[0].bn1.training and encoder.fc[2].training
    assert not any(module.training for module in encoder.stem if isinstance(module, nn.BatchNorm2d))
    changed, _ = train_two_steps(model)
    assert not {name for name in changed if name.startswith(FROZEN)}


def test_freezing_in_evaluation_mode_stays_there(model):
    model.eval().freeze(["stem"])
    assert not any(modes(model).values())
    model.unfreeze(["stem"])
    assert not any(modes(model).values())


@pytest.mark.parametrize(
    ("names", "frozen"),
    [
        (["layer2.1"], "layer2.1."),
        (["layer2.0.downsample.1"], "layer2.0.downsample.1."),
        ("fc", "fc."),
        (("attention1",), "attention1."),
        ((name for name in ["se_block"]), "se_block."),
        ([], None),
    ],
    ids=["block", "deeper", "a string", "tuple", "generator", "none"],
)
def test_forms_of_the_names(names, frozen, tiny_encoder):
    everything = trainable(tiny_encoder)
    tiny_encoder.freeze(names)
    assert everything - trainable(tiny_encoder) == {name for name in everything if frozen and name.startswith(frozen)}


def test_own_modules_have_names_too():
    config = DepthSemanticEncoderConfig(**TINY)
    classifier = DepthSemanticEncoderForImageClassification(config)
    classifier.freeze(["encoder"])
    assert trainable(classifier) == {"classifier.weight", "classifier.bias"}
    autoencoder = DepthAutoencoderModel(config)
    autoencoder.freeze(["decoder", "encoder.fc", "layer4"])
    frozen = {name for name, _ in autoencoder.named_parameters()} - trainable(autoencoder)
    assert {name.split(".")[0] for name in frozen} == {"decoder", "encoder"}
    assert {".".join(name.split(".")[:2]) for name in frozen if name.startswith("encoder.")} == {
        "encoder.fc",
        "encoder.layer4",
    }


@pytest.mark.parametrize("method", ["freeze", "unfreeze"])
@pytest.mark.parametrize("wrong", ["layer5", "layer1.9", "attention1.gamma", "stem.0.weight", ""])
def test_an_unknown_name_is_an_error_and_changes_nothing(model, method, wrong):
    model.freeze(["layer2"])
    parameters, before = trainable(model), modes(model)
    with pytest.raises(ValueError, match=f"no module {wrong!r}.*stem, layer1, .*, fc") as error:
        getattr(model, method)(["stem", "layer2", wrong])
    assert all(name in str(error.value) for name, _ in model.named_children())
    assert trainable(model) == parameters and modes(model) == before
