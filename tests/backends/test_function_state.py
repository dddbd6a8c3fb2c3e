"""Whatever changes what a tower computes makes another program; what does not, leaves it."""

import copy
import functools
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from hf_encoders.backends import compiled
from hf_encoders.models.backend import get_backend
from hf_encoders.towers import make_tower
from tests.helpers.multimodal_models import tiny_model

TEXTS = ["a red chair", "a table", "two lamps on a table"]


class Program:
    """Stands for a compiled program."""

    max_batch = None

    def __init__(self, *_):
        pass


@pytest.fixture(autouse=True)
def quick_programs(monkeypatch):
    monkeypatch.setattr(compiled, "export_tower", lambda tower: None)
    monkeypatch.setattr(compiled, "BACKENDS", {"onnx": Program, "openvino": Program})


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_model()


def program(model):
    return get_backend(model.tower("text"), "openvino")


class Doubled(nn.Module):
    def forward(self, values):
        return 2 * values


class Steering:
    """A hook with a state of its own."""

    def __init__(self):
        self.strength = 1.0

    def __call__(self, module, inputs, output):
        return output * self.strength


def weight(model):
    return model.text_projection.weight


@torch.no_grad()
def in_place(model):
    weight(model).mul_(2)


def through_data(model):
    weight(model).data.mul_(2)


def through_numpy(model):
    values = weight(model).detach().numpy()
    values *= 2


def one_row_through_data(model):
    weight(model).data[3] *= 2


def other_data(model):
    weight(model).data = weight(model).data * 2


def transposed_data(model):
    query = model.text_encoder.encoder.layer[0].attention.self.query
    query.weight.data = query.weight.data.T


def other_parameter(model):
    model.text_projection.weight = nn.Parameter(weight(model).detach() * 2)


def loaded(model):
    model.load_state_dict({name: tensor * 1.5 for name, tensor in model.state_dict().items()})


def assigned(model):
    model.load_state_dict({name: tensor * 1.5 for name, tensor in model.state_dict().items()}, assign=True)


def other_module(model):
    model.text_projection = nn.Sequential(model.text_projection, nn.Tanh())


def other_module_without_weights(model):
    for layer in model.text_encoder.encoder.layer:
        layer.intermediate.intermediate_act_fn = nn.ReLU()


def other_plain_attribute(model):
    for module in model.text_encoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.5


def hook(model):
    model.text_projection.register_forward_hook(lambda module, inputs, output: output * 2 + 1)


def state_of_a_hook(model):
    steering = Steering()
    model.text_projection.register_forward_hook(steering)
    program(model)
    steering.strength = -1.0


def closure_of_a_hook(model):
    shift = torch.zeros(8)
    model.text_projection.register_forward_hook(lambda module, inputs, output: output + shift)
    program(model)
    shift += 3


def hook_before(model):
    model.text_projection.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))


def forward_of_one_module(model):
    projection = model.text_projection
    projection.forward = functools.partial(lambda forward, values: forward(values) + 1, projection.forward)


def method_of_the_model(model):
    own = model.text_projection.forward
    model.text_projection.forward = types.MethodType(lambda self, values: own(values) - 1, model.text_projection)


def parametrization(model):
    parametrize.register_parametrization(model.text_projection, "weight", Doubled())


def buffer(model):
    embeddings = model.text_encoder.embeddings
    embeddings.position_ids = embeddings.position_ids.flip(-1)


def pooling(model):
    model.config.text_pooling = "cls" if model.config.text_pooling == "mean" else "mean"


def more_tokens(model):
    model.text_encoder.resize_token_embeddings(model.text_encoder.config.vocab_size + 8)
    with torch.no_grad():
        weight(model).add_(1)


def half(model):
    model.to(torch.bfloat16)


CHANGES = [
    in_place, through_data, through_numpy, one_row_through_data, other_data, transposed_data, other_parameter, loaded,
    assigned, other_module, other_module_without_weights, other_plain_attribute, hook, state_of_a_hook,
    closure_of_a_hook, hook_before, forward_of_one_module, method_of_the_model, parametrization, buffer, pooling,
    more_tokens, half,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_of_the_function_makes_another_program(change, model):
    before, embeddings = program(model), model.encode_text(TEXTS, normalize=False)
    change(model)
    assert program(model) is not before
    assert not torch.equal(
        model.encode_text(TEXTS, normalize=False), embeddings
    )  # otherwise the test would show nothing


def evaluation(model):
    model.train().eval()


def training_mode(model):
    model.train()


def embeddings_by_torch(model):
    model.encode_text(TEXTS)


def hidden_states(model):
    with torch.no_grad():
        model.get_text_features(**dict(model.processor(text=TEXTS)))


def frozen(model):
    model.requires_grad_(False)


def copied(model):
    copy.deepcopy(model)


@pytest.mark.parametrize(
    "change", [evaluation, training_mode, embeddings_by_torch, hidden_states, frozen, copied], ids=lambda c: c.__name__
)
def test_what_leaves_the_function_leaves_the_program(change, model):
    program(model)
    model.encode_text(TEXTS)  # the first forward may set attributes
    before = program(model)
    change(model)
    assert program(model) is before


def test_a_setting_that_returns_finds_its_program_again(model):
    usual = model.config.text_pooling
    programs = {}
    for name in ("cls", "mean"):
        model.config.text_pooling = name
        programs[name] = program(model)
    for name in ("cls", "mean", "cls"):
        model.config.text_pooling = name
        assert program(model) is programs[name]
    model.config.text_pooling = usual
    in_place(model)
    model.config.text_pooling = "cls"
    program(model)
    assert len(compiled._KEPT[model][("text", "openvino", "float32")]) <= 4


def test_programs_of_other_weights_are_not_kept(model):
    for _ in range(3):
        program(model)
        in_place(model)
    program(model)
    assert len(compiled._KEPT[model][("text", "openvino", "float32")]) == 1


def test_two_poolings_of_a_plain_model_are_two_programs(model):
    towers = {
        pooling: make_tower(model.text_encoder, model.text_tokenizer, "text", pooling=pooling)
        for pooling in ("cls", "mean")
    }
    programs = {pooling: get_backend(tower, "openvino") for pooling, tower in towers.items()}
    assert programs["cls"] is not programs["mean"]
    for pooling, tower in towers.items():
        assert get_backend(tower, "openvino") is programs[pooling]


def test_another_size_of_the_processor_is_another_program(model):
    before = get_backend(model.tower("depth"), "openvino")
    model.depth_processor.size = {"height": 64, "width": 64}
    assert get_backend(model.tower("depth"), "openvino") is not before


def test_half_precision_and_inference_tensors_are_compared_too(model):
    with torch.inference_mode():
        inference = nn.Parameter(weight(model).detach().clone(), requires_grad=False)
    model.text_projection.weight = inference
    model.text_projection.bias = nn.Parameter(model.text_projection.bias.detach().to(torch.bfloat16))
    before = program(model)
    assert program(model) is before
    model.text_projection.bias.data.add_(1)
    assert program(model) is not before
    before = program(model)
    inference.data.mul_(2)
    assert program(model) is not before


def test_channels_last_weights_are_compared_too(model):
    network = model.depth_encoder.to(memory_format=torch.channels_last)
    before = get_backend(model.tower("depth"), "openvino")
    network.layer1[0].conv2.weight.data.mul_(2)
    assert get_backend(model.tower("depth"), "openvino") is not before


def test_the_state_holds_no_model():
    array = np.zeros(3)
    model = tiny_model()
    model.notes = {"array": array, "itself": None}
    before = program(model)
    array += 1
    assert program(model) is not before
