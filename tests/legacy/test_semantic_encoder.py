"""The legacy interface: loading from every kind of file, saving, encoding, freezing, and training through it."""

import copy
import inspect
import socket
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig, SemanticEncoder, create_semantic_encoder
from tests.conftest import DATA, SMALL_CHECKPOINT, TINY
from tests.helpers.golden import golden_tensor

pytestmark = pytest.mark.numeric

assert_equal = partial(torch.testing.assert_close, rtol=0, atol=0)


def autoencoder(salt="", **config):
    """With weights and statistics that no initialisation gives, others for another salt."""
    model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**(TINY | config))).eval()
    model.load_state_dict({name: golden_tensor(salt + name, value.shape) for name, value in model.state_dict().items()})
    return model


def without(name, *values):
    """An autoencoder whose encoder lacks a tensor, or has another one there."""
    model, (module, _, last) = autoencoder(), name.rpartition(".")
    setattr(model.encoder.get_submodule(module), last, nn.Parameter(torch.tensor(values)) if values else None)
    return model


def write(content, path):
    """A repo of a model, a file of anything else."""
    content.save_pretrained(path) if isinstance(content, nn.Module) else torch.save(content, path)
    return path


def load(path, input_channels=1, latent_dim=12, freeze_weights=False, device="cpu"):
    return SemanticEncoder(input_channels, latent_dim, path, freeze_weights, device)


@pytest.fixture(scope="module")
def tiny_file(tmp_path_factory):
    return write(autoencoder().encoder.state_dict(), tmp_path_factory.mktemp("tiny") / "encoder.pth")


@pytest.fixture
def tiny(tiny_file):
    return load(tiny_file)


def assert_near(actual, expected, tolerance=1e-5):  # relative to the largest magnitude, of one shape and type
    actual, expected = (torch.as_tensor(values).detach() for values in (actual, expected))
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * expected.abs().max().item())


def test_the_legacy_signatures():
    names = ["self", "input_channels", "latent_dim", "pretrained_path", "freeze_weights", "device"]
    defaults = (1, 768, None, False, None)
    assert inspect.getfullargspec(SemanticEncoder)[:4] == (names, None, None, defaults)
    assert inspect.getfullargspec(create_semantic_encoder)[:4] == (names[1:], None, None, defaults)
    names = ["self", "array", "batch_size", "normalize"]
    assert inspect.getfullargspec(SemanticEncoder.encode_numpy)[:4] == (names, None, None, (None, True))


def test_the_default_network_is_the_legacy_one():
    with torch.device("meta"):
        encoder = create_semantic_encoder(device="meta")
    assert encoder.count_parameters() == 81_368_298
    rows = [row.split("\t") for row in (DATA / "depth_autoencoder_keys.tsv").read_text().splitlines()]
    shapes = {name: "x".join(map(str, value.shape)) or "scalar" for name, value in encoder.state_dict().items()}
    assert shapes == {name: shape for name, shape, _ in rows if name.startswith("encoder.")}


def test_information_follows_freezing(tiny_file):
    encoder = create_semantic_encoder(1, 12, tiny_file, True, "cpu")
    total, stem = (sum(p.numel() for p in module.parameters()) for module in (encoder, encoder.encoder.stem))
    info = {"model_type": "EnhancedResNet50Encoder", "input_channels": 1, "latent_dim": 12, "total_parameters": total}
    info |= {"trainable_parameters": 0, "frozen": True, "device": "cpu", "pretrained_path": str(tiny_file)}
    assert encoder.get_model_info() == info
    encoder.freeze_parameters(False)
    with pytest.raises(ValueError, match="no module 'layer9'; it has stem, layer1"):
        encoder.freeze_layers(["stem", "layer9"])
    assert encoder.get_model_info() == info | {"trainable_parameters": total, "frozen": False}
    encoder.freeze_layers(["stem"])
    assert encoder.get_model_info() == info | {"trainable_parameters": total - stem, "frozen": False}
    parts = ("SemanticEncoder", "12 dim", f"{total:,}", f"{total - stem:,}", "on cpu", str(tiny_file))
    assert [part for part in parts if part not in repr(encoder)] == []


SOURCES = {
    "training checkpoint": lambda model: {"epoch": 3, "model_state_dict": model.state_dict()},
    "extracted encoder": lambda model: {"encoder_state_dict": model.encoder.state_dict(), "model_config": {}},
    "bare encoder": lambda model: model.encoder.state_dict(),
    "DataParallel": lambda model: {f"module.{name}": value for name, value in model.state_dict().items()},
    "bare autoencoder, half precision": lambda model: model.half().state_dict(),
    "encoder repo": lambda model: model.encoder,
    "autoencoder repo": lambda model: model,
    "bfloat16 repo": lambda model: model.bfloat16(),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_loads_bitwise(source, tiny, tmp_path):
    model, parameters = autoencoder("other "), list(tiny.parameters())
    path = write(SOURCES[source](model), tmp_path / "source")
    tiny.load_pretrained_weights(path)
    assert all(a is b for a, b in zip(parameters, tiny.parameters(), strict=True))  # an optimizer may hold them
    pixel_values, expected = torch.rand(3, 1, 64, 64), model.float().encoder
    for encoder in (tiny, load(str(path))):
        assert_equal(encoder.encoder.state_dict(), expected.state_dict())
        assert_near(encoder.encode(pixel_values), expected(pixel_values).pooler_output)
        assert not encoder.training and encoder.count_parameters(True) == encoder.count_parameters()
        assert encoder.pretrained_path == str(path)


UNUSABLE = {
    "file without a weight": (lambda: without("fc.6.bias").state_dict(), "missing 'encoder.fc.6.bias'"),
    "file without a buffer": (lambda: without("stem.1.running_var").state_dict(), "missing .*stem.1.running_var'"),
    "file that diverged": (lambda: without("fc.6.bias", *[np.nan] * 12).state_dict(), "fc.6.bias holds NaN"),
    "repo without a weight": (lambda: without("fc.6.bias").encoder, "lacks fc.6.bias"),
    "repo without a buffer": (lambda: without("stem.1.running_var"), "lacks stem.1.running_var"),
    "repo of other shapes": (lambda: without("fc.6.bias", 1.0, 2.0), "mismatch"),
    "other dimension": (lambda: autoencoder(hidden_size=7).state_dict(), "latent_dim is 7, not 12; pass latent_dim=7"),
    "other channels": (lambda: autoencoder(num_channels=3), "input_channels is 3, not 1; pass input_channels=3"),
    "other widths": (lambda: autoencoder(fc_sizes=[16, 9]).state_dict(), "pass it as pretrained_path"),
    "other epsilon": (lambda: autoencoder(batch_norm_eps=0.1), "batch_norm_eps .* pass it as pretrained_path"),
}


@pytest.mark.parametrize(("make", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_a_load_that_fails_raises_and_changes_nothing(make, message, tiny, tiny_file, tmp_path):
    before, path = copy.deepcopy(tiny.state_dict()), write(make(), tmp_path / "source")
    error = pytest.raises((ValueError, RuntimeError), match=message)  # RuntimeError is transformers' own
    with error:
        tiny.load_pretrained_weights(path)
    assert_equal(tiny.state_dict(), before)
    assert tiny.pretrained_path == str(tiny_file)
    with nullcontext() if message.endswith("pass it as pretrained_path") else error:
        load(path)


def test_a_missing_file_is_not_looked_for_on_the_hub(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: pytest.fail(f"asks {address}"))
    with pytest.raises(ValueError, match="org/missing.pth: no such file"):
        load("org/missing.pth")


def test_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model, folder = autoencoder(), tmp_path / "models--org--tiny"
    write(model, folder / "snapshots" / "0123456")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0123456")
    assert_equal(load("org/tiny").encoder.state_dict(), model.encoder.state_dict())
    with pytest.raises(OSError):
        load("org/nothing")


def test_the_processor_of_a_repo_comes_along_where_there_is_one(tiny, tmp_path):
    model = autoencoder("other ").encoder
    assert tiny.encoder.processor.unit_scale == 1
    model.processor.unit_scale = 0.001
    tiny.load_pretrained_weights(path := write(model, tmp_path / "repo"))
    assert tiny.encoder.processor.unit_scale == 0.001
    (path / "preprocessor_config.json").unlink()
    load(path).load_pretrained_weights(path)


def test_saved_weights_load_bitwise(tiny, tmp_path):
    tiny.train().encode(torch.rand(4, 1, 64, 64))  # moves the statistics
    tiny.save_encoder_weights(tmp_path / "saved.pth")
    content = torch.load(tmp_path / "saved.pth", weights_only=True)
    assert set(content) == {"encoder_state_dict", "model_config", "model_info"}
    sizes = {"input_channels": 1, "latent_dim": 12, "model_type": "EnhancedResNet50Encoder"}
    assert content["model_config"] == sizes and content["model_info"] == tiny.get_model_info()
    assert list(content["encoder_state_dict"]) == list(autoencoder().encoder.state_dict())
    for path in (tmp_path / "saved.pth", write(tiny.state_dict(), tmp_path / "wrapper.pth")):  # legacy files both
        loaded = load(path)
        np.memmap(path, mode="r+")[:] = 0  # what is loaded does not hang on the file
        assert_equal(loaded.state_dict(), tiny.state_dict())


def test_the_sample_checkpoint_gives_the_legacy_embeddings(small_expected):
    encoder, expected = load(SMALL_CHECKPOINT, latent_dim=768), small_expected["embeddings"][:4]
    assert_near(encoder.encode(small_expected["pixel_values"]), expected)
    raw = small_expected["pixel_values"].numpy() * [[[[3]]], [[[100]]], [[[0.1]]], [[[1]]]] + 5
    assert_near(encoder.encode_numpy(raw), expected, 1e-4)


RANGES = [("bool", 0, 1), ("uint8", 0, 255), ("uint16", 0, 65535), ("int8", -128, 127), ("int16", -32768, 32767)]
RANGES += [("int64", 2**40, 2**40 + 1000), ("float16", -8, 8), (">f4", -10, 0), ("float64", 1e9, 1e9 + 1)]


def stretched(array, axis=(1, 2, 3)):
    """The legacy formula in double precision: a map at a time, or with axis=None the array at once."""
    x = array.astype(np.float64)
    low, high = x.min(axis, keepdims=True), x.max(axis, keepdims=True)
    return torch.from_numpy((x - low) / (high - low) * 2 - 1).float()


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize(("dtype", "low", "high"), RANGES)
def test_arrays_of_every_type_and_rank(dtype, low, high, rank, tiny):
    shares = torch.rand(2, 1, 40, 48).double().numpy()
    shares[:, :, 0, :2] = 0, 1  # the ends of the type's range; zero is a measurement like any other
    shares[1] /= 2  # the maps differ in range
    array = (low + (high - low) * shares).astype(dtype)[..., ::-1][{2: (0, 0), 3: (slice(None), 0), 4: ...}[rank]]
    for normalize, axis in [(True, (1, 2, 3)), ("array", None)]:
        expected = tiny.encode(stretched(array.reshape(-1, 1, 40, 48), axis))
        embeddings = tiny.encode_numpy(array, normalize=normalize)
        assert_near(embeddings, expected, 1e-2 if dtype == "float16" else 1e-5)


def test_each_map_is_normalised_by_itself_over_its_channels(tmp_path):
    encoder = load(write(autoencoder(num_channels=3).state_dict(), tmp_path / "hha.pth"), input_channels=3)
    scales = np.array([[1, 5, 0.1], [1000, 1, 1], [0, 0, 0]])[..., None, None]
    array = torch.rand(3, 3, 64, 64).numpy() * scales + 7.3
    expected = encoder.encode(torch.cat([stretched(array[:2]), torch.zeros(1, 3, 64, 64)]))
    assert_near(encoder.encode_numpy(array), expected)
    with pytest.raises(ValueError, match="constant"):
        encoder.encode_numpy(array[2:], normalize="array")


@pytest.mark.parametrize("normalize", [True, False, "array"])
def test_unusable_arrays(normalize, tiny):
    assert tiny.encode_numpy(np.empty((0, 64, 64)), normalize=normalize).shape == (0, 12)
    for bad in (np.nan, np.inf, -np.inf):
        array = torch.rand(4, 64, 64).numpy()
        array[2:, 5, 5] = bad
        with pytest.raises(ValueError, match="map 2 "):
            tiny.encode_numpy(array, normalize=normalize)
    for shape in [(64,), (1, 1, 1, 64, 64), (2, 3, 64, 64), (2, 1, 31, 64)]:
        with pytest.raises(ValueError, match="expected .*H, W|must be .*height, width"):
            tiny.encode_numpy(torch.rand(*shape).numpy(), normalize=normalize)
    for option in [{"batch_size": 0, "normalize": normalize}, {"normalize": f"{normalize}?"}]:
        with pytest.raises(ValueError, match=next(iter(option))):
            tiny.encode_numpy(torch.rand(2, 64, 64).numpy(), **option)


@pytest.mark.parametrize(("batch_size", "sizes"), [(None, [5]), (1, [1] * 5), (2, [2, 2, 1]), (9, [5])])
def test_batches_and_arrays_are_encoded_in_evaluation_mode(batch_size, sizes, tiny):
    array, seen = torch.rand(5, 1, 64, 64).double().numpy() / 2, []
    expected = tiny.encode(pixel_values := torch.from_numpy(array).float())
    tiny.train().freeze_layers(["layer1"])
    tiny.encoder.stem.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    before, modes = copy.deepcopy(tiny.state_dict()), [module.training for module in tiny.modules()]
    assert_near(tiny.encode_numpy(array, batch_size, normalize=False), expected)
    assert_near(embeddings := tiny.encode_batch(pixel_values, batch_size or 5), expected)
    assert not embeddings.requires_grad and not embeddings.is_inference()  # a head can be trained on it
    assert seen == sizes * 2
    assert_equal(tiny.state_dict(), before)
    assert [module.training for module in tiny.modules()] == modes


def test_tensors_move_to_the_device_and_are_never_taken_for_raw_maps(tiny_file):
    assert SemanticEncoder(1, 12, tiny_file).device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    encoder = load(tiny_file, device="meta")
    for method in (encoder.encode, encoder.encode_batch):
        assert method(torch.rand(2, 1, 64, 64)).device.type == "meta"
        for shape in [(64, 64), (2, 64, 64), (2, 3, 64, 64)]:
            with pytest.raises(ValueError, match="pixel_values must be"):
                method(torch.rand(*shape))


def test_a_frozen_encoder_does_not_change_in_training(tiny, tiny_file):
    tiny.train().freeze_parameters(True)
    for encoder in (tiny, nn.Sequential(load(tiny_file, freeze_weights=True)).train()[0]):
        before, pixel_values = copy.deepcopy(encoder.state_dict()), torch.rand(4, 1, 64, 64, requires_grad=True)
        encoder.encode(pixel_values).sum().backward()
        assert pixel_values.grad.abs().max() > 0 and encoder.encoder.fc[6].weight.grad is None
        assert_equal(encoder.state_dict(), before)
        encoder.freeze_parameters(False)
        encoder.encode(pixel_values)
        assert not torch.equal(encoder.encoder.stem[1].running_mean, before["encoder.stem.1.running_mean"])


def test_a_model_trains_through_its_backbone(tiny_autoencoder, tmp_path):
    backbone = load(write(tiny_autoencoder.state_dict(), tmp_path / "untrained.pth"))
    backbone.freeze_layers(["stem", "layer1"])
    model = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(12, 2)}).train()
    ramp = torch.linspace(-0.8, 0.8, 32).expand(8, 1, 32, 32)
    pixel_values, labels = torch.cat([ramp, ramp.mT]) + 0.2 * torch.rand(16, 1, 32, 32), torch.arange(16) // 8
    twin = copy.deepcopy(model)
    assert_equal(twin["backbone"].encode_batch(pixel_values), backbone.encode_batch(pixel_values))
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(20):
        losses.append(nn.functional.cross_entropy(model["head"](backbone.encode(pixel_values)), labels))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
    before, after = twin["backbone"].encoder.state_dict(), backbone.encoder.state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name.split(".")[0] for name in before} - {"stem", "layer1"}
