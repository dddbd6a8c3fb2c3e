"""The legacy interface: loading every kind of file, saving, encoding, freezing, and training through it."""

import copy
import inspect
import shutil
import socket
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from conftest import DATA, SMALL_CHECKPOINT, TINY
from golden import golden_tensor
from torch import nn

from hf_encoders import (
    DepthAutoencoderModel,
    DepthImageProcessor,
    DepthSemanticEncoderConfig,
    SemanticEncoder,
    create_semantic_encoder,
)

NUMBERS = np.random.default_rng(0)
MODES = [True, False, "array"]


def autoencoder(salt="", **config):
    """With weights and statistics that no initialisation gives, others for another salt."""
    model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**(TINY | config))).eval()
    model.load_state_dict({name: golden_tensor(salt + name, value.shape) for name, value in model.state_dict().items()})
    return model


def without(name, value=None):
    """An autoencoder that lacks a tensor, or has another one there."""
    model, (module, _, last) = autoencoder(), name.rpartition(".")
    setattr(model.get_submodule(module), last, value)
    return model


def write(content, path):
    """A repo of a model, a file of anything else."""
    if isinstance(content, nn.Module):
        content.save_pretrained(path)
        return path
    file = path.with_suffix(".pth")
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    return file


def load(path, latent_dim=12, **arguments):
    return create_semantic_encoder(**({"latent_dim": latent_dim, "pretrained_path": path, "device": "cpu"} | arguments))


@pytest.fixture
def tiny(tmp_path):
    return load(write(autoencoder().encoder.state_dict(), tmp_path / "tiny"))


def maps(*shape):
    return torch.rand(shape) * 2 - 1


def assert_equal(state, expected):
    torch.testing.assert_close(state, expected, rtol=0, atol=0)


def assert_near(actual, expected, tolerance=1e-5):
    """Up to the tolerance, relative to the largest magnitude."""
    expected = torch.as_tensor(expected).detach()
    atol = tolerance * expected.abs().max().item()
    torch.testing.assert_close(torch.as_tensor(actual).detach(), expected, rtol=0, atol=atol)


# Interface


def test_the_legacy_signatures():
    arguments = {
        **{"input_channels": 1, "latent_dim": 768, "pretrained_path": None, "freeze_weights": False, "device": None}
    }
    empty = inspect.Parameter.empty
    for function, expected in [
        (SemanticEncoder, arguments),
        (create_semantic_encoder, arguments),
        (SemanticEncoder.encode_numpy, {"self": empty, "array": empty, "batch_size": None, "normalize": True}),
        (SemanticEncoder.count_parameters, {"self": empty, "only_trainable": False}),
    ]:
        parameters = inspect.signature(function).parameters.values()
        assert [(p.name, p.default) for p in parameters] == list(expected.items())
        assert {p.kind for p in parameters} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_the_default_network_is_the_legacy_one():
    with torch.device("meta"):
        encoder = create_semantic_encoder(device="meta")
    assert encoder.count_parameters() == 81_368_298
    rows = [row.split("\t") for row in (DATA / "depth_autoencoder_keys.tsv").read_text().splitlines()]
    shapes = {name: "x".join(map(str, value.shape)) or "scalar" for name, value in encoder.state_dict().items()}
    assert shapes == {name: shape for name, shape, _ in rows if name.startswith("encoder.")}


def test_model_info_counts_and_repr(tmp_path):
    model = autoencoder()
    path = write({"model_state_dict": model.state_dict()}, tmp_path / "tiny")
    encoder = create_semantic_encoder(1, 12, path, True, "cpu")
    total, stem = (sum(p.numel() for p in module.parameters()) for module in (model.encoder, model.encoder.stem))
    info = {"model_type": "EnhancedResNet50Encoder", "input_channels": 1, "latent_dim": 12, "total_parameters": total}
    info |= {"trainable_parameters": 0, "frozen": True, "device": "cpu", "pretrained_path": str(path)}
    assert encoder.get_model_info() == info
    encoder.freeze_parameters(False)
    assert encoder.get_model_info() == info | {"trainable_parameters": total, "frozen": False}
    encoder.freeze_layers(["stem"])
    assert encoder.get_model_info() == info | {"trainable_parameters": total - stem, "frozen": False}
    assert (encoder.count_parameters(), encoder.count_parameters(only_trainable=True)) == (total, total - stem)
    for part in ("SemanticEncoder", "12 dim", f"{total:,}", f"{total - stem:,}", "on cpu", str(path)):
        assert part in repr(encoder)


# Loading and saving

SOURCES = {
    "training checkpoint": lambda model: {"epoch": 3, "model_state_dict": model.state_dict()},
    "extracted encoder": lambda model: {"encoder_state_dict": model.encoder.state_dict(), "model_config": {}},
    "bare autoencoder": lambda model: model.state_dict(),
    "bare encoder": lambda model: model.encoder.state_dict(),
    "DataParallel": lambda model: {f"module.{name}": value for name, value in model.state_dict().items()},
    "half precision": lambda model: model.half().state_dict(),
    "encoder repo": lambda model: model.encoder,
    "autoencoder repo": lambda model: model,
    "bfloat16 repo": lambda model: model.bfloat16(),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_loads_bitwise(source, tiny, tmp_path):
    model = autoencoder("other ")
    path = write(SOURCES[source](model), tmp_path / "source")
    parameters = list(tiny.parameters())
    tiny.load_pretrained_weights(str(path))
    assert all(a is b for a, b in zip(parameters, tiny.parameters(), strict=True))  # an optimizer may hold them
    pixel_values, expected = maps(3, 1, 64, 64), model.float().encoder
    for encoder in (tiny, load(path)):
        assert_equal(encoder.encoder.state_dict(), expected.state_dict())
        assert_equal(encoder.encode(pixel_values), expected(pixel_values).pooler_output)
        assert not encoder.training and encoder.count_parameters(True) == encoder.count_parameters()
        assert encoder.pretrained_path == str(path)


UNUSABLE = {
    "no file": (lambda: b"", "the file is empty"),
    "truncated": (lambda: b"PK\x03\x04", "damaged"),
    "file, no weight": (lambda: without("encoder.fc.6.bias").state_dict(), "missing 'encoder.fc.6.bias'"),
    "file, no buffer": (lambda: without("encoder.stem.1.running_var").encoder.state_dict(), "stem.1.running_var"),
    "repo, no weight": (lambda: without("encoder.fc.6.bias").encoder, "lacks fc.6.bias"),
    "repo, no buffer": (lambda: without("encoder.stem.1.running_var"), "lacks stem.1.running_var"),
    "repo, shape": (lambda: without("encoder.fc.6.bias", nn.Parameter(torch.zeros(5))), "fc.6.bias|mismatched"),
    "dimension": (lambda: autoencoder(hidden_size=7).state_dict(), "latent_dim is 7, not 12; pass latent_dim=7"),
    "channels": (lambda: autoencoder(num_channels=3), "input_channels is 3, not 1; pass input_channels=3"),
    "other widths": (lambda: autoencoder(fc_sizes=[16, 9]).state_dict(), "pass it as pretrained_path"),
    "other depths": (lambda: autoencoder(depths=[1, 1, 1, 1]), "pass it as pretrained_path"),
    "other epsilon": (lambda: autoencoder(batch_norm_eps=0.1), "batch_norm_eps .* pass it as pretrained_path"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_load_that_fails_raises_and_changes_nothing(case, tiny, tmp_path):
    make, message = UNUSABLE[case]
    before, path = copy.deepcopy(tiny.state_dict()), write(make(), tmp_path / "source")
    errors = pytest.raises((ValueError, RuntimeError), match=message)  # RuntimeError is transformers' own
    with errors:
        tiny.load_pretrained_weights(path)
    assert_equal(tiny.state_dict(), before)
    assert tiny.pretrained_path == str(tmp_path / "tiny.pth")
    with nullcontext() if message.endswith("pass it as pretrained_path") else errors:
        load(path)


@pytest.mark.parametrize("name", ["missing.pth", "org/missing.pt"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    with pytest.raises(ValueError, match=f"{name}: no such file"):
        load(name)
    assert not asked


def test_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model, folder = autoencoder(), tmp_path / "models--org--tiny"
    shutil.copytree(write(model, tmp_path / "repo"), folder / "snapshots" / "0123456")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123456")
    assert_equal(load("org/tiny").encoder.state_dict(), model.encoder.state_dict())
    with pytest.raises(OSError):
        load("org/nothing")


def test_the_processor_of_a_repo_comes_along_where_there_is_one(tiny, tmp_path):
    model = autoencoder("other ").encoder
    model.processor = DepthImageProcessor(unit_scale=0.001)
    tiny.load_pretrained_weights(write(model, tmp_path / "repo"))
    assert tiny.encoder.processor.unit_scale == 0.001
    nn.init.zeros_(model.fc[6].bias)
    path = write(model, tmp_path / "bare")
    (path / "preprocessor_config.json").unlink()
    tiny.load_pretrained_weights(path)
    assert_equal(tiny.encoder.state_dict(), model.state_dict())


def test_the_sample_checkpoint_gives_the_legacy_embeddings(small_expected):
    encoder = load(SMALL_CHECKPOINT, 768)
    pixel_values, expected = small_expected["pixel_values"], small_expected["embeddings"][:4]
    assert_near(encoder.encode(pixel_values), expected)
    assert_near(encoder.encode_numpy(pixel_values.numpy(), batch_size=3, normalize=False), expected)
    raw = pixel_values.numpy() * [[[[3]]], [[[100]]], [[[0.1]]], [[[1]]]] + 5  # each map spans [-1, 1]
    assert_near(encoder.encode_numpy(raw), expected, 1e-4)


def test_saved_weights_load_bitwise(tiny, tmp_path):
    tiny.train().encode(maps(4, 1, 64, 64))  # moves the statistics
    tiny.freeze_layers(["stem"])
    tiny.save_encoder_weights(tmp_path / "saved.pth")
    content = torch.load(tmp_path / "saved.pth", weights_only=True)
    assert set(content) == {"encoder_state_dict", "model_config", "model_info"}
    sizes = {"input_channels": 1, "latent_dim": 12, "model_type": "EnhancedResNet50Encoder"}
    assert content["model_config"] == sizes and content["model_info"] == tiny.get_model_info()
    assert list(content["encoder_state_dict"]) == list(autoencoder().encoder.state_dict())
    torch.save(tiny.state_dict(), tmp_path / "wrapper.pth")  # a legacy file as well
    assert all(name.startswith("encoder.") for name in tiny.state_dict())
    for name in ("saved.pth", "wrapper.pth"):
        assert_equal(load(tmp_path / name).state_dict(), tiny.state_dict())


def test_the_file_can_be_overwritten_after_loading(tiny, tmp_path):
    before = copy.deepcopy(tiny.state_dict())
    with (tmp_path / "tiny.pth").open("r+b") as file:
        file.write(bytes((tmp_path / "tiny.pth").stat().st_size))
    assert_equal(tiny.state_dict(), before)


# Encoding

RANGES = {
    **{"bool": (0, 1), "uint8": (0, 255), "uint16": (0, 65535), "int8": (-128, 127), "int16": (-32768, 32767)},
    **{
        "int64": (2**40, 2**40 + 1000),
        "float16": (-8, 8),
        "float32": (0, 10),
        ">f4": (-1, 0),
        "float64": (1e9, 1e9 + 1),
    },
}
RANKS = {"[H, W]": (0, 0), "[N, H, W]": (slice(None), 0), "[N, C, H, W]": slice(None)}


def stretched(array, axis=(1, 2, 3)):
    """The legacy formula in double precision: a map at a time, or with axis=None the array at once."""
    x = array.astype(np.float64)
    low, high = x.min(axis, keepdims=True), x.max(axis, keepdims=True)
    return torch.from_numpy((x - low) / (high - low) * 2 - 1).float()


@pytest.mark.parametrize(("normalize", "axis"), [(True, (1, 2, 3)), ("array", None)])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("dtype", RANGES)
def test_arrays_of_every_type_and_rank(dtype, rank, normalize, axis, tiny):
    (low, high), shares = RANGES[dtype], NUMBERS.random((2, 1, 40, 48))
    shares[:, :, 0, :2] = 0, 1  # the ends of the type's range; zero is a measurement like any other
    shares[1] /= 2  # the maps differ in range
    array = (low + (high - low) * shares).astype(dtype)[RANKS[rank]][..., ::-1]
    embeddings = tiny.encode_numpy(array, normalize=normalize)
    assert embeddings.dtype == np.float32
    expected = tiny.encode(stretched(array.reshape(-1, 1, 40, 48), axis))
    assert_near(embeddings, expected, 1e-2 if dtype == "float16" else 1e-5)


def test_only_the_array_mode_depends_on_the_neighbours(tiny):
    array = NUMBERS.random((3, 64, 64)) * [[[1]], [[1000]], [[0.001]]]
    alone = np.concatenate([tiny.encode_numpy(one) for one in array])
    assert_near(tiny.encode_numpy(array), alone)
    assert np.abs(tiny.encode_numpy(array, normalize="array") - alone).max() > 0.1 * np.abs(alone).max()


@pytest.mark.parametrize(("batch_size", "sizes"), [(None, [5]), (1, [1] * 5), (2, [2, 2, 1]), (9, [5])])
def test_batch_size_does_not_change_the_result(batch_size, sizes, tiny):
    pixel_values, seen = maps(5, 1, 64, 64) / 2, []
    expected = tiny.encode(pixel_values)
    tiny.encoder.stem.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    assert_near(tiny.encode_numpy(pixel_values.double().numpy(), batch_size, normalize=False), expected)
    assert_near(tiny.encode_batch(pixel_values, batch_size or 5), expected)
    assert seen == sizes * 2


def test_a_constant_map_becomes_zeros(tiny):
    array = np.stack([np.full((64, 64), 7.3), NUMBERS.random((64, 64))])
    assert_near(tiny.encode_numpy(array)[:1], tiny.encode(torch.zeros(1, 1, 64, 64)))
    with pytest.raises(ValueError, match="constant"):
        tiny.encode_numpy(array[0], normalize="array")


@pytest.mark.parametrize("normalize", MODES)
def test_no_map_and_maps_that_are_not_finite(normalize, tiny):
    assert tiny.encode_numpy(np.empty((0, 64, 64)), normalize=normalize).shape == (0, 12)
    for bad in (np.nan, np.inf, -np.inf):
        array = NUMBERS.random((4, 64, 64))
        array[2:, 5, 5] = bad
        with pytest.raises(ValueError, match="map 2 "):
            tiny.encode_numpy(array, normalize=normalize)


def test_three_channels(tmp_path):
    encoder = load(write(autoencoder(num_channels=3).state_dict(), tmp_path / "hha"), input_channels=3)
    array = NUMBERS.random((4, 3, 64, 64)) * [[[1]], [[5]], [[0.1]]]
    assert_near(encoder.encode_numpy(array, 3), encoder.encode(stretched(array)))  # the channels share one scale
    encoder.save_encoder_weights(tmp_path / "saved.pth")
    assert_equal(load(tmp_path / "saved.pth", input_channels=3).state_dict(), encoder.state_dict())


@pytest.mark.parametrize("shape", [(64,), (1, 1, 1, 64, 64), (2, 3, 64, 64), (2, 1, 31, 64)])
@pytest.mark.parametrize("normalize", MODES)
def test_unusable_arrays(shape, normalize, tiny):
    with pytest.raises(ValueError, match=", ".join(map(str, shape))[-6:]):
        tiny.encode_numpy(NUMBERS.random(shape), normalize=normalize)


@pytest.mark.parametrize("option", [{"batch_size": 0}, {"normalize": "Array"}, {"normalize": None}])
def test_unusable_options(option, tiny):
    with pytest.raises(ValueError, match=next(iter(option))):
        tiny.encode_numpy(NUMBERS.random((2, 64, 64)), **option)


@pytest.mark.parametrize("shape", [(64, 64), (2, 64, 64), (2, 3, 64, 64)])
@pytest.mark.parametrize("method", ["encode", "encode_batch"])
def test_tensors_are_never_taken_for_raw_maps(method, shape, tiny):
    with pytest.raises(ValueError, match="pixel_values must be"):
        getattr(tiny, method)(maps(*shape))


def test_encode_keeps_the_gradient_and_encode_batch_does_not(tiny):
    pixel_values = maps(2, 1, 64, 64).requires_grad_()
    tiny.encode(pixel_values).square().sum().backward()
    assert pixel_values.grad.abs().max() > 0 and tiny.encoder.stem[0].weight.grad.abs().max() > 0
    embeddings = tiny.encode_batch(pixel_values, batch_size=1)
    assert not embeddings.requires_grad
    nn.Linear(12, 2)(embeddings).sum().backward()  # an ordinary tensor: a head can be trained on it


def test_inputs_move_to_the_device(tiny, tmp_path):
    for encoder in (load(tmp_path / "tiny.pth", device="meta"), tiny.to("meta")):
        assert encoder.get_model_info()["device"] == "meta"
        assert encoder.encode(maps(2, 1, 64, 64)).device.type == "meta"
        assert encoder.encode_batch(maps(2, 1, 64, 64)).device.type == "meta"


def test_batches_and_arrays_are_encoded_in_evaluation_mode(tiny):
    pixel_values = maps(6, 1, 64, 64)
    expected = tiny.encode(pixel_values)
    tiny.train().freeze_layers(["layer1"])
    before, modes = copy.deepcopy(tiny.state_dict()), [module.training for module in tiny.modules()]
    assert_near(tiny.encode_batch(pixel_values), expected)
    assert_near(tiny.encode_numpy(pixel_values.numpy(), normalize=False), expected)
    assert_equal(tiny.state_dict(), before)
    assert [module.training for module in tiny.modules()] == modes


def test_deep_copies_are_independent(tiny):
    pixel_values, twin = maps(2, 1, 64, 64), copy.deepcopy(tiny)
    expected = tiny.encode(pixel_values)
    assert_equal(twin.encode(pixel_values), expected)
    nn.init.zeros_(twin.encoder.fc[6].weight)
    assert_equal(tiny.encode(pixel_values), expected)


# Freezing and training


def test_freezing_an_unknown_layer_is_an_error(tiny):
    with pytest.raises(ValueError, match="no module 'layer9'; it has stem, layer1"):
        tiny.freeze_layers(["stem", "layer9"])
    assert tiny.count_parameters(only_trainable=True) == tiny.count_parameters()


def test_a_frozen_encoder_does_not_change_in_training(tiny, tmp_path):
    tiny.freeze_parameters(True)
    for encoder in (tiny, load(tmp_path / "tiny.pth", freeze_weights=True)):
        before = copy.deepcopy(encoder.state_dict())
        assert not nn.Sequential(encoder).train()[0].encode(maps(4, 1, 64, 64)).requires_grad
        assert_equal(encoder.state_dict(), before)
        encoder.freeze_parameters(False)
        encoder.train().encode(maps(4, 1, 64, 64))
        assert not torch.equal(encoder.encoder.stem[1].running_mean, before["encoder.stem.1.running_mean"])


def test_a_model_trains_through_its_backbone(tmp_path):
    """The legacy backbone example."""
    untrained = DepthAutoencoderModel(DepthSemanticEncoderConfig(**TINY))
    backbone = load(write(untrained.state_dict(), tmp_path / "untrained"))
    backbone.freeze_layers(["stem", "layer1"])
    model = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(12, 2)}).train()
    before = copy.deepcopy(model.state_dict())
    ramp = torch.linspace(-0.8, 0.8, 32).expand(8, 1, 32, 32)
    pixel_values, labels = torch.cat([ramp, ramp.mT]) + 0.1 * maps(16, 1, 32, 32), torch.arange(16) // 8
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model["head"](backbone.encode(pixel_values)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = ("backbone.encoder.stem.", "backbone.encoder.layer1.")
    assert changed == {name for name in before if not name.startswith(frozen)}
