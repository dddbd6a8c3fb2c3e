"""`device_map`: towers on several devices, or offloaded to disk, as accelerate places them."""

from itertools import pairwise

import pytest
import torch
from accelerate import infer_auto_device_map
from accelerate.hooks import send_to_device
from transformers import AutoModel

from hf_encoders import DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from tests.conftest import TINY
from tests.helpers.multimodal_models import LENGTH, SIZE, tiny_model

pytestmark = pytest.mark.numeric

IMAGES = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)).numpy()
INPUTS = {"text": ["a red chair", "the lamp"], "image": list(IMAGES), "depth": IMAGES[:, 0]}
WHERE = {"text": "text_encoder", "image": "visual_encoder", "depth": "depth_encoder"}
RESIDUAL = {
    "BertLayer", "ViTLayer", "DepthSemanticEncoderBottleneck", "DepthSemanticEncoderGate",
    "DepthSemanticEncoderSqueezeExcitation",
}  # fmt: skip


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("repo")
    tiny_model().save_pretrained(folder)
    return folder


def tiny_depth():
    return DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY)).eval()


def embeddings(model):
    return {name: getattr(model, f"encode_{name}")(inputs) for name, inputs in INPUTS.items()}


def parts(model):
    return [name for name, _ in model.named_children()] + ["temperature"]


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
def test_one_device(device_map, repo):
    torch.testing.assert_close(
        embeddings(AutoModel.from_pretrained(repo, device_map=device_map)), embeddings(tiny_model())
    )


@pytest.mark.parametrize("offloaded", [["text"], ["image", "depth"], ["text", "image", "depth"]])
def test_offloaded_towers(offloaded, repo, tmp_path):
    device_map = dict.fromkeys(parts(tiny_model()), "cpu") | {WHERE[name]: "disk" for name in offloaded}
    model = AutoModel.from_pretrained(repo, device_map=device_map, offload_folder=tmp_path / "offload")
    assert {name for name in INPUTS if next(getattr(model, WHERE[name]).parameters()).is_meta} == set(offloaded)
    torch.testing.assert_close(embeddings(model), embeddings(tiny_model()))
    model.save_pretrained(tmp_path / "again")
    torch.testing.assert_close(embeddings(AutoModel.from_pretrained(tmp_path / "again")), embeddings(tiny_model()))


def test_all_offloaded(repo, tmp_path):
    model = AutoModel.from_pretrained(repo, device_map={"": "disk"}, offload_folder=tmp_path)
    assert model.device.type == "meta"  # what transformers says of such a model
    torch.testing.assert_close(embeddings(model), embeddings(tiny_model()))
    tokens = model.text_tokenizer(INPUTS["text"], padding=True, return_tensors="pt")
    torch.testing.assert_close(model.encode_text(tokens), tiny_model().encode_text(INPUTS["text"]))
    assert model.similarity(IMAGES[0, 0], IMAGES[1, 0]).device.type == "cpu"


@pytest.mark.parametrize("device_map", ["auto", {"": "disk"}, "stem on disk"])
def test_depth_encoder(device_map, tmp_path):
    expected = tiny_depth()
    if device_map == "stem on disk":
        device_map = {name: "cpu" for name, _ in expected.named_children()} | {"stem": "disk"}
    expected.save_pretrained(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, device_map=device_map, offload_folder=tmp_path / "offload")
    torch.testing.assert_close(model.encode(INPUTS["depth"]), expected.encode(INPUTS["depth"]))


def test_bfloat16_on_a_device_map(repo):
    model = AutoModel.from_pretrained(repo, device_map="cpu", dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    for name, expected in embeddings(tiny_model()).items():
        assert torch.cosine_similarity(embeddings(model)[name], expected).min() > 0.99


def maps_over_two(model):
    """Every way in which `device_map="auto"` may split the model over two devices."""
    size = sum(parameter.nbytes for parameter in model.parameters())
    found = []
    for percent in range(2, 100, 8):
        memory = {0: size * percent // 100, 1: 4 * size, "cpu": 4 * size}
        device_map = infer_auto_device_map(model, memory, no_split_module_classes=list(model._no_split_modules))
        if set(device_map.values()) == {0, 1} and device_map not in found:
            found.append(device_map)
    return found


@pytest.mark.parametrize("build", [tiny_model, tiny_depth])
def test_no_residual_block_is_split(build):
    model = build()
    blocks = [name for name, module in model.named_modules() if type(module).__name__ in RESIDUAL]
    device_maps = maps_over_two(model)
    assert len(device_maps) > 3 and blocks
    for device_map in device_maps:
        for block in blocks:
            assert not any(part.startswith(f"{block}.") for part in device_map), (block, device_map)


def on_two_devices(model, device_map):
    """Split the model as accelerate does, with "meta" as the second device, since a CPU has but one.

    Hooks bring the inputs of a module to its device; operations over two devices raise as on two GPUs.
    """

    def arrive(tensors, device):
        if isinstance(tensors, torch.Tensor) and tensors.is_meta and device == "cpu":
            return torch.zeros_like(tensors, device="cpu")  # the one copy that a meta tensor has not
        return send_to_device(tensors, device)

    def hook(device):
        return lambda _, args, options: (
            tuple(arrive(value, device) for value in args),
            {name: arrive(value, device) for name, value in options.items()},
        )

    for name, device in device_map.items():
        if name == "temperature":
            model.temperature = torch.nn.Parameter(model.temperature.to(device))
            continue
        for module in model.get_submodule(name).to(device).modules():
            module.register_forward_pre_hook(hook(device), with_kwargs=True)
    return model


def two_devices(device_map):
    return {name: ("cpu", "meta")[number] for name, number in device_map.items()}


def test_depth_encoder_on_two_devices():
    by_hand = [name for name, module in tiny_depth().named_children() if any(True for _ in module.parameters())]
    device_maps = [two_devices(device_map) for device_map in maps_over_two(tiny_depth())]
    device_maps.append({name: "cpu" if number < 9 else "meta" for number, name in enumerate(by_hand)})
    assert device_maps[-1]["se_block"] == "cpu" and device_maps[-1]["depth_enhance"] == "meta"
    for device_map in device_maps:
        model = on_two_devices(tiny_depth(), device_map)
        assert model(torch.zeros(2, 1, 64, 64)).pooler_output.shape == (2, 12)


def test_multimodal_encoder_on_two_devices():
    inputs = {
        "input_ids": torch.ones(2, LENGTH, dtype=torch.long),
        "pixel_values": torch.from_numpy(IMAGES),
        "depth_values": torch.from_numpy(IMAGES[:, :1]),
    }
    names = parts(tiny_model())
    by_hand = [
        {name: "meta" if name == "temperature" or name in names[first:last] else "cpu" for name in names}
        for first, last in pairwise([0, 1, 2, 4, 6])
    ]
    inferred = [two_devices(device_map) | {"temperature": "meta"} for device_map in maps_over_two(tiny_model())]
    for device_map in by_hand + inferred:
        outputs = on_two_devices(tiny_model(), device_map)(**inputs, return_loss=True)
        assert outputs.loss.device.type == outputs.logits_per_image.device.type == "meta"  # the temperature's
