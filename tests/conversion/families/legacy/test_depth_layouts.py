"""Recognising legacy depth checkpoints: names, layouts, sizes, metadata, and the refusal of everything else."""

import pytest
import torch

from hf_encoders import DepthSemanticEncoderConfig
from hf_encoders.checkpoints.state_dicts import LayoutError, check_values
from hf_encoders.conversion.families.legacy.depth_layouts import infer_config, read_depth_checkpoint
from tests.conftest import DATA, SMALL_CHECKPOINT, TINY
from tests.helpers.legacy_files import SAVINGS, SIZE, WRAPPINGS, cast, encoder_part, tiny_state, write_legacy

WEIGHT = "encoder.layer2.1.conv2.weight"
COUNTER = "encoder.stem.1.num_batches_tracked"


def read(folder, content, layout="auto"):
    torch.save(content, folder / "a.pth")
    return read_depth_checkpoint(folder / "a.pth", layout)


def message(folder, content, layout="auto"):
    with pytest.raises(LayoutError) as caught:
        read(folder, content, layout)
    text = str(caught.value)
    assert text.startswith(f"{folder}/a.pth: ") and text.isprintable()
    return text


def canonical(wrapping, state):
    return state if wrapping in ("training", "bare autoencoder") else encoder_part(state, "encoder.")


@pytest.mark.parametrize("saving", ["plain", "module.", "_orig_mod.", "module._orig_mod.", "sub-module", "parameters"])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_tensors_get_their_canonical_names(wrapping, saving, tmp_path):
    found = read_depth_checkpoint(write_legacy(tmp_path / "a.pth", wrapping, **SAVINGS[saving]))
    expected = canonical(wrapping, tiny_state())
    assert list(found.tensors) == list(expected)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.items())
    assert not any(tensor.requires_grad or isinstance(tensor, torch.nn.Parameter) for tensor in found.tensors.values())
    rename = SAVINGS[saving].get("rename", str)
    bare = "" if wrapping in ("training", "bare autoencoder", "wrapper class") else "encoder."
    assert found.source_keys == {name: rename(name.removeprefix(bare)) for name in expected}
    assert list(found.encoder_tensors()) == [n.removeprefix("encoder.") for n in expected if n.startswith("encoder.")]


def test_optimizer_states_are_left_out_of_the_metadata(tmp_path):
    found = read_depth_checkpoint(write_legacy(tmp_path / "a.pth"))
    assert found.metadata.keys() == {"epoch", "loss", "best_loss", "training_history", "config"}
    found = read_depth_checkpoint(write_legacy(tmp_path / "b.pth", "extracted"))
    assert found.metadata.keys() == {"model_config", "extracted_from", "extraction_info"}
    assert read_depth_checkpoint(write_legacy(tmp_path / "c.pth", "wrapper class")).metadata == {}


@pytest.mark.parametrize("layout", ["depth-autoencoder", "depth-encoder"])
def test_full_size_key_list_gives_the_default_configuration(layout):
    rows = [line.split("\t") for line in (DATA / "depth_autoencoder_keys.tsv").read_text().splitlines()[1:]]
    shapes = {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape, _ in rows}
    shapes = {key: shape for key, shape in shapes.items() if layout != "depth-encoder" or key.startswith("encoder.")}
    assert infer_config(shapes) == DepthSemanticEncoderConfig()


def test_sample_checkpoint_is_read():
    found = read_depth_checkpoint(SMALL_CHECKPOINT)
    assert (found.layout, found.wrapping, found.metadata["epoch"]) == ("depth-autoencoder", "training checkpoint", 13)
    assert found.config.hidden_size == 768 and found.config.image_size == 128


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"image_size": 224}, 224),
        ({"image_size": 31}, 128),  # smaller than the network takes
        ({"image_size": True}, 128),
        ({"image_size": [64, 64]}, 128),
        ({}, 128),
        (None, 128),
    ],
)
def test_image_size_is_the_stated_one_where_it_makes_sense(config, expected, tmp_path):
    found = read(tmp_path, {"model_state_dict": tiny_state(), "config": config})
    assert found.config.image_size == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "holds no state dict; at its top are nothing"),
        ({"model_state_dict": {}}, "holds no state dict; at its top are 'model_state_dict'"),
        ({"model_state_dict": [1]}, "holds no state dict"),
        ({"epoch": 1, "optimizer_state_dict": {}}, "at its top are 'epoch', 'optimizer_state_dict' (expected"),
        ({1: torch.ones(1)}, "holds 1 tensor without names"),
        (torch.ones(1), "holds a single tensor, expected a dictionary"),
        ([1, {"a": "b"}], "holds a list without tensors"),
        ({"encoder_state_dict": {"w": torch.ones(1), "note": "x"}}, "(0 of 335 keys match)"),
        ({"state_dict": {"w": torch.ones(1)}}, "unexpected 'w'"),
    ],
)  # fmt: skip
def test_what_holds_no_state_dict(content, said, tmp_path):
    assert said in message(tmp_path, content)


def test_missing_and_left_over_keys_are_named(tmp_path):
    state = tiny_state()
    del state[WEIGHT], state["decoder.final_conv.9.bias"]
    text = message(
        tmp_path, {f"module.{name}": tensor for name, tensor in {**state, "encoder.x": torch.ones(1)}.items()}
    )
    assert f"closest layout is depth-autoencoder ({len(state)} of {len(state) + 2} keys match)" in text
    assert f"missing '{WEIGHT}', 'decoder.final_conv.9.bias'; unexpected 'module.encoder.x'" in text
    without_alphas = {name: tensor for name, tensor in tiny_state().items() if not name.endswith(".alpha")}
    assert "missing 'decoder.decoder_blocks.0.se.alpha'," in message(tmp_path, without_alphas)
    assert message(tmp_path, without_alphas).endswith(" and 2 more")


def test_a_layer_without_its_last_blocks_is_not_taken_for_a_smaller_one(tmp_path):
    state = {name: tensor for name, tensor in tiny_state().items() if not name.startswith("encoder.layer2.1.conv1")}
    text = message(tmp_path, state)
    assert "(456 of 457 keys match): missing 'encoder.layer2.1.conv1.weight'" in text and "unexpected" not in text


def test_missing_keys_are_told_at_the_sizes_that_can_be_read(tmp_path):
    """Without the tensors that tell a width most directly, others tell it."""
    lost = (
        "encoder.fc.0.weight",
        "encoder.layer1.0.conv3.weight",
        "encoder.stem.0.weight",
        "decoder.final_conv.5.weight",
    )
    text = message(tmp_path, {name: tensor for name, tensor in tiny_state().items() if name not in lost})
    assert "(453 of 457 keys match): missing 'encoder.stem.0.weight', 'encoder.layer1.0.conv3.weight', 'enc" in text
    assert "unexpected" not in text and "has shape" not in text


@pytest.mark.parametrize(
    ("name", "shape"),
    [(WEIGHT, (2, 2, 3, 1)), ("encoder.fc.6.bias", (11,)), ("decoder.global_fc.0.weight", (8, 11)), (COUNTER, (1,))],
)
def test_wrong_shapes_are_named(name, shape, tmp_path):
    text = message(tmp_path, tiny_state() | {name: torch.zeros(shape, dtype=tiny_state()[name].dtype)})
    assert f"'{name}' has shape {list(shape)}, expected {list(tiny_state()[name].shape)}" in text


@pytest.mark.parametrize(
    ("name", "shape"),
    [("encoder.fc.0.weight", ()), ("encoder.fc.0.weight", (16, 3)), ("encoder.layer4.0.conv1.weight", (0, 16, 1, 1))],
)
def test_shapes_that_tell_no_width_are_named(name, shape, tmp_path):
    text = message(tmp_path, tiny_state() | {name: torch.zeros(shape)})
    assert f"'{name}' has shape {list(shape)}, expected {list(tiny_state()[name].shape)}" in text


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["conv1.weight", "layer1.0.conv1.weight"], "closest layout is depth-encoder (1 of "),
        (["text_encoder.embeddings.weight", "visual_encoder.x"], "a multimodal (BERT + ViT) checkpoint"),
        (["module.visual_encoder.x", "temperature"], "a multimodal (BERT + ViT) checkpoint"),
        (["encoder.block.weight", "decoder.block.weight"], "closest layout is depth-autoencoder (0 of"),
    ],
)  # fmt: skip
def test_other_architectures_are_named(keys, said, tmp_path):
    text = message(tmp_path, {"model_state_dict": {key: torch.ones(1) for key in keys}})
    assert said in text
    assert "multimodal" in text or (f"unexpected '{keys[0]}'" in text and "missing 'encoder.stem.0.weight'" in text)


def test_a_parameter_twice_is_refused(tmp_path):
    state = tiny_state() | {f"module.{WEIGHT}": torch.zeros(2, 2, 3, 3)}
    assert f"'module.{WEIGHT}' and '{WEIGHT}' are the same parameter twice" in message(tmp_path, state)


def test_layout_must_be_the_one_asked_for(tmp_path):
    state = tiny_state()
    assert read(tmp_path, state, "depth-autoencoder").layout == "depth-autoencoder"
    assert read(tmp_path, encoder_part(state), "depth-encoder").layout == "depth-encoder"
    assert "is depth-autoencoder, not depth-encoder" in message(tmp_path, state, "depth-encoder")
    assert "is depth-encoder, not depth-autoencoder" in message(tmp_path, encoder_part(state), "depth-autoencoder")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_precision_of_weights_is_good(dtype):
    check_values("a.pth", cast(tiny_state(), dtype))
    check_values("a.pth", {COUNTER: torch.tensor(3, dtype=torch.int32)})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (WEIGHT, lambda t: t.index_fill(0, torch.tensor(1), float("nan")), "holds NaN or infinity"),
        (WEIGHT, lambda t: t.half() * float("inf"), "holds NaN or infinity"),
        ("encoder.stem.1.running_var", lambda t: t.bfloat16() * float("-inf"), "holds NaN or infinity"),
        (WEIGHT, lambda t: t.long(), "holds int64, expected floating-point numbers"),
        (WEIGHT, lambda t: t > 0, "holds bool, expected floating-point numbers"),
        (WEIGHT, lambda t: t.to(torch.complex64), "holds complex64, expected floating-point numbers"),
        (WEIGHT, lambda t: t.to(torch.float8_e4m3fn), "holds float8_e4m3fn, expected floating-point numbers"),
        (COUNTER, lambda t: t.to(torch.complex64), "holds complex64, expected an integer"),
        (WEIGHT, lambda t: t.to_sparse(), "is a sparse, quantised or empty tensor"),
        (WEIGHT, lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is a sparse, quantised or empty tensor"),
        (WEIGHT, lambda t: t.to("meta"), "is a sparse, quantised or empty tensor"),
    ],
)
def test_tensors_that_no_weights_can_be_are_named(name, change, said):
    state = tiny_state()
    with pytest.raises(LayoutError, match=f"a.pth: {name} {said}"):
        check_values("a.pth", state | {name: change(state[name])})


def test_tiny_network_is_the_one_of_the_fixtures(tmp_path, tiny_config):
    found = read_depth_checkpoint(write_legacy(tmp_path / "a.pth")).config
    assert {name: getattr(found, name) for name in TINY} == TINY
    assert found.image_size == SIZE and found.num_channels == tiny_config.num_channels
