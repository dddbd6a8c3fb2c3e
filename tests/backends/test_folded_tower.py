"""PyTorch computes large convolutional towers by a copy with BatchNorm folded in: the same numbers, never old ones."""

import copy
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from transformers import ResNetConfig, ResNetModel

from hf_encoders import DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from hf_encoders.backends import compiled, folded_tower
from hf_encoders.backends.folded_tower import FoldedTower
from hf_encoders.backends.packed_convolutions import PackedConv2d, can_pack, pack_convolutions
from hf_encoders.models import backend as backends
from hf_encoders.models.backend import TorchBackend, get_backend
from tests.helpers.multimodal_models import tiny_model

pytestmark = [pytest.mark.numeric, pytest.mark.skipif(not can_pack(), reason="this PyTorch has no oneDNN")]


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch):
    monkeypatch.setattr(backends, "_LARGE", 0)


def trained(network):
    """The network with statistics as training leaves them."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return network.eval()


def depth_encoder():
    torch.manual_seed(0)
    sizes = {"hidden_sizes": [16, 16, 32, 32], "depths": [2, 1, 1, 1], "enhance_size": 16, "fusion_size": 8}
    return trained(DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**sizes, fc_sizes=[32, 16], image_size=64)))


@pytest.fixture
def model():
    return depth_encoder()


@pytest.fixture(scope="module")
def maps():
    return torch.rand(5, 1, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def is_folded(model, name="depth"):
    model.eval()
    return isinstance(get_backend(model.tower(name)), FoldedTower)


def by_the_network(model, maps):
    with torch.no_grad():
        return model.eval()(maps).pooler_output


def close(found, expected):
    return float((found - expected).abs().max() / expected.abs().max()) < 1e-5


def test_the_same_embeddings_and_all_norms_folded(model, maps):
    assert close(model.encode(maps, batch_size=2), by_the_network(model, maps))
    (kept,) = compiled._KEPT[model]["depth", "torch", "float32"]
    network = kept.program._tower.model
    assert not [module for module in network.modules() if isinstance(module, (nn.BatchNorm2d, nn.Conv2d))]
    assert sum(isinstance(module, nn.BatchNorm2d) for module in model.modules()) > 20


def test_it_follows_the_weights(model, maps):
    before = model.encode(maps)
    with torch.no_grad():
        model.stem[0].weight.mul_(-1.5)
        model.stem[1].running_var.mul_(3)
    after = model.encode(maps)
    assert close(after, by_the_network(model, maps)) and not close(after, before)
    assert len(compiled._KEPT[model]["depth", "torch", "float32"]) == 1  # the old copy is gone


def test_a_network_in_training_embeds_in_evaluation_mode_and_goes_on_training(model, maps):
    model.train()
    found = model.encode(maps)
    assert model.training and close(found, by_the_network(model, maps))


def test_a_module_that_somebody_watches_runs_itself(model, maps):
    assert is_folded(model)
    seen = []
    hook = model.layer1[0].bn1.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    assert not is_folded(model)
    assert torch.equal(model.encode(maps), by_the_network(model, maps)) and seen
    hook.remove()
    assert is_folded(model)


def test_a_replaced_forward_and_a_compiled_network_run_themselves(model):
    model.layer1.forward = lambda values: model.layer1[0](values)
    assert not is_folded(model)
    del model.layer1.forward
    assert is_folded(model)
    model.compile()
    assert not is_folded(model)


def test_small_networks_and_other_precisions_are_left(model, monkeypatch):
    assert isinstance(get_backend(model.tower("depth"), dtype="bfloat16"), TorchBackend)
    assert not is_folded(copy.deepcopy(model).to(torch.float64))
    with torch.backends.mkldnn.flags(enabled=False):
        assert not is_folded(model)
    monkeypatch.setattr(backends, "_LARGE", 10**12)
    assert not is_folded(model)


def test_the_copy_does_not_keep_the_model(maps):
    model = depth_encoder()
    model.encode(maps)
    assert is_folded(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_threads_fold_once(model, maps, monkeypatch):
    expected, folds, start = by_the_network(model, maps), [], threading.Barrier(4)
    monkeypatch.setattr(compiled, "fold", lambda tower: folds.append(1) or folded_tower.fold(tower))

    def encode(_):
        start.wait()
        return model.encode(maps)

    with ThreadPoolExecutor(4) as threads:
        assert all(close(rows, expected) for rows in threads.map(encode, range(4)))
    assert len(folds) == 1


def test_a_convolution_that_is_used_twice_is_not_folded(model, maps):
    class Twice(nn.Module):
        """The output of the convolution goes around its BatchNorm too, which no hook sees."""

        def __init__(self, block):
            super().__init__()
            self.conv, self.norm = block.conv1, block.bn1

        def forward(self, values):
            made = self.conv(values)
            return self.norm(made) + made

    model.layer1[1] = nn.Sequential(Twice(model.layer1[1]), nn.Conv2d(4, 16, 1))
    assert not is_folded(model)
    assert torch.equal(model.encode(maps), by_the_network(model, maps))


def test_a_multimodal_model_folds_its_towers(maps):
    torch.manual_seed(0)
    model = trained(tiny_model())
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    for name in ("image", "depth"):
        tower = model.tower(name)
        inputs = pictures[:, : tower.example()["pixel_values"].shape[1]]
        plain = TorchBackend(tower.embed, torch.device("cpu"), 1)
        with torch.inference_mode():
            (_, expected), *_ = plain.embed(iter([(range(3), {"pixel_values": inputs})]))
        assert close(tower.encode({"pixel_values": inputs}, normalize=False), expected)


def test_networks_of_transformers_are_packed_whole():
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1, 2, 1, 1], layer_type="bottleneck")
    network, values = trained(ResNetModel(config)), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(values).pooler_output
        packed = copy.deepcopy(network)
        norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        assert pack_convolutions(packed, lambda: packed(values), batch_size=2) == norms
        assert close(packed(values).pooler_output, expected)
    left = [module for module in packed.modules() if isinstance(module, nn.ReLU)]
    assert left  # those behind sums


class Chain(nn.Module):
    """Modules in an order that their declaration does not tell."""

    def __init__(self, second=None, **options):
        super().__init__()
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.first = nn.Conv2d(3, 4, 3, **options)
        self.second = second

    def forward(self, values):
        values = self.norm(self.first(values))
        if self.second is not None:
            values = self.second(values)
        return self.relu(values)


class Shifted(nn.Module):
    def forward(self, values):
        values += 1  # in place: the same tensor comes to the ReLU, with other values
        return values


@pytest.mark.parametrize("second", [None, Shifted()], ids=["direct", "changed between"])
@pytest.mark.parametrize("options", [{}, {"padding": 1, "stride": 2, "bias": False}, {"dilation": 2}])
def test_what_follows_is_seen_by_running(options, second):
    torch.manual_seed(0)
    network, values = trained(Chain(second, **options)), torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        expected = network(values)
        assert pack_convolutions(network, lambda: network(values), batch_size=2) == 1
        assert isinstance(network.first, PackedConv2d) and isinstance(network.norm, nn.Identity)
        assert isinstance(network.relu, nn.Identity) == (second is None)
        torch.testing.assert_close(network(values), expected)


@pytest.mark.parametrize("options", [{"padding": "same"}, {"padding": 1, "padding_mode": "reflect"}])
def test_other_paddings_are_left(options):
    network, values = trained(Chain(**options)), torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        assert pack_convolutions(network, lambda: network(values), batch_size=2) == 0
    assert type(network.first) is nn.Conv2d and isinstance(network.norm, nn.BatchNorm2d)


def test_norms_and_rectifiers_with_several_uses_are_left():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs, self.norm = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(2)), nn.BatchNorm2d(3)

        def forward(self, values):
            return self.norm(self.convs[1](self.norm(self.convs[0](values))))

    network, values = trained(Shared()), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = network(values)
        assert pack_convolutions(network, lambda: network(values), batch_size=2) == 0
        torch.testing.assert_close(network(values), expected)
