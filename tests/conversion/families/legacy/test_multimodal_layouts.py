"""Recognising legacy multimodal checkpoints: names, sizes, given configurations, and the refusal of everything else."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.nn.functional import linear, normalize
from transformers import BertConfig, BertModel, CLIPVisionConfig, RobertaConfig, ViTConfig, ViTModel

from hf_encoders import MultimodalEncoderConfig, MultimodalEncoderModel
from hf_encoders.checkpoints.errors import CheckpointError, LayoutError
from hf_encoders.checkpoints.files import open_checkpoint
from hf_encoders.checkpoints.finding.choice import choose
from hf_encoders.conversion.families.legacy.depth_layouts import read_depth_checkpoint
from hf_encoders.conversion.families.legacy.multimodal_layouts import (
    has_network_order,
    is_multimodal,
    model_name,
    read_multimodal_checkpoint,
)
from hf_encoders.conversion.families.names import FAMILIES
from tests.conftest import DATA
from tests.helpers.legacy_files import SAVINGS, cast, tiny_state, write_legacy
from tests.helpers.multimodal_files import (
    NAMINGS,
    POSITION_IDS,
    WRAPPINGS,
    multimodal_state,
    without_poolers,
    write_multimodal,
)

TEXT_LAYER, VISION_LAYER = "text_encoder.encoder.layer.{}.", "visual_encoder.encoder.layer.{}."
WEIGHT = "visual_encoder.encoder.layer.1.attention.attention.query.weight"
POSITIONS = "visual_encoder.embeddings.position_embeddings"
TEXT = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512,
        "vocab_size": 1000, "max_position_embeddings": 64}  # fmt: skip
VISION = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512,
          "image_size": 32, "patch_size": 8}  # fmt: skip


def read(folder, state, *configs):
    torch.save(state, folder / "a.pt")
    return read_multimodal_checkpoint(folder / "a.pt", *configs)


def message(folder, state, *configs):
    with pytest.raises(LayoutError) as caught:
        read(folder, state, *configs)
    text = str(caught.value)
    assert text.startswith(f"{folder}/a.pt: ") and text.isprintable()
    return text


def without(state, prefix):
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}


def same(config, expected):
    return config.to_dict() == expected.to_dict()


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_every_naming_gives_the_same_canonical_tensors(wrapping, naming, tmp_path):
    state = NAMINGS[naming](multimodal_state())
    found = read_multimodal_checkpoint(write_multimodal(tmp_path / "a.pt", wrapping, state))
    expected = without_poolers(multimodal_state())
    assert found.tensors.keys() == expected.keys() == found.source_keys.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.items())
    unused = [key for key in state if ".pooler." in key or key == POSITION_IDS]
    assert found.dropped == unused
    assert list(found.source_keys.values()) == [key for key in state if key not in unused]  # the file's order
    assert [model_name(name) for name in found.parameter_names] == [
        model_name(key) for key in state if key != POSITION_IDS
    ]
    assert found.layout == "multimodal-encoder"
    assert found.wrapping == ("bare state dict" if wrapping == "bare" else "training checkpoint")
    assert found.metadata.keys() == set(
        {"training": ["epoch", "global_step"], "best": ["epoch", "global_step", "best_loss"], "bare": []}[wrapping]
    )
    assert (found.optimizer_state is None) == (wrapping == "bare")
    assert has_network_order(found)


@pytest.mark.parametrize("saving", SAVINGS)
def test_every_way_of_saving_gives_the_same_canonical_tensors(saving, tmp_path):
    path = write_multimodal(tmp_path / "a.pt", **SAVINGS[saving])
    assert is_multimodal(choose(open_checkpoint(path), FAMILIES))
    found = read_multimodal_checkpoint(path)
    expected = cast(without_poolers(multimodal_state()), SAVINGS[saving].get("dtype"))
    assert list(found.tensors) == list(expected)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.items())
    assert not any(tensor.requires_grad or isinstance(tensor, torch.nn.Parameter) for tensor in found.tensors.values())
    assert found.source_keys == {name: SAVINGS[saving].get("rename", str)(name) for name in expected}


def test_sizes_are_inferred(tmp_path):
    found = read(tmp_path, multimodal_state())
    assert same(found.text_config, BertConfig(**TEXT))
    assert same(found.vision_config, ViTConfig(**VISION))
    assert found.projection_dim == 256


def test_full_size_key_list_gives_the_base_configurations(tmp_path):
    rows = [line.split("\t") for line in (DATA / "multimodal_base_keys.tsv").read_text().splitlines()[1:]]
    shapes = {key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape, _ in rows}
    found = read(tmp_path, {key: torch.zeros(()).expand(shape) for key, shape in shapes.items()})
    assert same(found.text_config, BertConfig()) and same(found.vision_config, ViTConfig())
    assert found.parameter_names == list(shapes)


def test_one_head_of_64_channels_is_read_from_a_real_checkpoint():
    found = read_multimodal_checkpoint(DATA / "multimodal_resume_checkpoint.pt")
    assert found.text_config.num_attention_heads == found.vision_config.num_attention_heads == 1
    assert found.vision_config.image_size == 32 and found.vision_config.patch_size == 16
    assert found.metadata["global_step"] == 3 and has_network_order(found)


@pytest.mark.numeric
def test_towers_with_these_tensors_give_the_legacy_embeddings(tmp_path):
    found, golden = read(tmp_path, multimodal_state()), load_file(DATA / "multimodal_tiny_golden.safetensors")
    tensors = {model_name(name): tensor for name, tensor in found.tensors.items()}
    text = BertModel(found.text_config, add_pooling_layer=False).eval()
    vision = ViTModel(found.vision_config, add_pooling_layer=False).eval()
    for tower, prefix in ((text, "text_encoder."), (vision, "visual_encoder.")):
        assert {prefix + name for name, _ in tower.named_parameters()} == {n for n in tensors if n.startswith(prefix)}
        tower.load_state_dict({name: tensors[prefix + name] for name, _ in tower.named_parameters()}, strict=False)
    inputs = {name: golden[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        for states, name in ((text(**inputs), "text"), (vision(golden["pixel_values"]), "image")):
            projection = f"{'text' if name == 'text' else 'visual'}_projection"
            features = linear(
                states.last_hidden_state[:, 0], tensors[f"{projection}.weight"], tensors[f"{projection}.bias"]
            )
            torch.testing.assert_close(normalize(features), golden[f"{name}_embeds"], atol=1e-5, rtol=0)


def test_transformers_itself_puts_the_tensors_under_the_same_names(tmp_path):
    found = read(tmp_path, multimodal_state())
    vision = {n.removeprefix("visual_encoder."): t for n, t in found.tensors.items() if n.startswith("visual_encoder.")}
    save_file(vision, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found.vision_config.save_pretrained(tmp_path)
    loaded = dict(ViTModel.from_pretrained(tmp_path, add_pooling_layer=False).named_parameters())
    assert len(loaded) == len(vision)
    assert all(torch.equal(loaded[model_name(f"visual_encoder.{n}")[15:]], tensor) for n, tensor in vision.items())


def test_names_are_those_of_this_package_s_model(tmp_path):
    found = read(tmp_path, multimodal_state())
    config = MultimodalEncoderConfig(text_config=found.text_config, vision_config=found.vision_config)
    with torch.device("meta"):
        shapes = {name: parameter.shape for name, parameter in MultimodalEncoderModel(config).named_parameters()}
    assert shapes == {model_name(name): tensor.shape for name, tensor in found.tensors.items()}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, False),
        ({1: torch.ones(1)}, False),
        ({"model_state_dict": [1]}, False),
        ({"epoch": 1, "model_state_dict": {"x": torch.ones(1)}}, False),
        ({"epoch": 1, "model_state_dict": {2: 3, "module.text_encoder._orig_mod.x": torch.ones(1)}}, True),
        ({"_orig_mod.visual_encoder.x": torch.ones(1)}, True),
    ],
)
def test_multimodal_files_are_known_by_their_keys(content, expected, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    try:
        found = is_multimodal(choose(open_checkpoint(tmp_path / "a.pt"), FAMILIES))
    except LayoutError:  # without any tensor
        found = False
    assert found is expected


def test_depth_files_are_no_multimodal_files_nor_the_other_way_round(tmp_path):
    assert not is_multimodal(choose(open_checkpoint(write_legacy(tmp_path / "a.pt")), FAMILIES))
    assert "'encoder.stem.0.weight'" in message(tmp_path, tiny_state())
    for wrapping in WRAPPINGS:
        path = write_multimodal(tmp_path / "b.pt", wrapping, rename="module.{}".format)
        for layout in ("auto", "depth-encoder"):
            with pytest.raises(LayoutError, match=r"b\.pt: a multimodal \(BERT \+ ViT\) checkpoint, not a depth"):
                read_depth_checkpoint(path, layout)


def test_a_temperature_of_one_dimension_becomes_a_scalar(tmp_path):
    found = read(tmp_path, multimodal_state() | {"temperature": torch.tensor([0.05])})
    assert torch.equal(found.tensors["temperature"], torch.tensor(0.05))
    assert "'temperature' has shape [2], expected []" in message(
        tmp_path, multimodal_state() | {"temperature": torch.ones(2)}
    )


def test_missing_and_left_over_keys_are_named(tmp_path):
    state = multimodal_state()
    del state[WEIGHT], state["temperature"]
    text = message(tmp_path, {f"module.{name}": t for name, t in {**state, "logit_scale": torch.ones(1)}.items()})
    assert f"not a whole legacy multimodal encoder (78 of 79 keys match): missing '{WEIGHT}'; unexp" in text
    assert "unexpected 'module.logit_scale'" in text


@pytest.mark.parametrize("layer", [TEXT_LAYER, VISION_LAYER])
def test_layers_with_a_gap_are_not_taken_for_a_smaller_tower(layer, tmp_path):
    first = {n: t for n, t in multimodal_state().items() if n.startswith(layer.format(0))}
    three = multimodal_state() | {layer.format(2) + name.removeprefix(layer.format(0)): t for name, t in first.items()}
    for gap in (0, 1):
        text = message(tmp_path, without(three, layer.format(gap)))
        assert f"missing '{layer.format(gap)}attention" in text and f"unexpected '{layer.format(2)}attention" in text


@pytest.mark.parametrize("tower", ["text_encoder.", "visual_encoder.", "text_encoder.encoder.", "text_projection."])
def test_a_file_without_a_tower_is_refused(tower, tmp_path):
    assert f"missing '{tower}" in message(tmp_path, without(multimodal_state(), tower))


@pytest.mark.parametrize(
    ("key", "other"),
    [(WEIGHT, f"_orig_mod.{WEIGHT}"), (WEIGHT, "visual_encoder.layers.1.attention.q_proj.weight")],
)
def test_a_parameter_twice_is_refused(key, other, tmp_path):
    state = multimodal_state() | {other: torch.zeros(128, 128)}
    assert f"{other!r} and {key!r} are the same parameter twice" in message(tmp_path, state)


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        (WEIGHT, (128, 127), "expected [128, 128] beside"),
        ("text_encoder.encoder.layer.1.output.dense.weight", (128, 511), "expected [128, 512] beside"),
        ("text_encoder.embeddings.LayerNorm.bias", (), "expected [128] beside"),
        ("visual_projection.weight", (255, 128), "expected [256, 128] beside"),
        ("text_projection.weight", (0, 128), "expected [256, 128] beside"),
        ("text_projection.bias", (7,), "expected [256] beside"),
        ("visual_encoder.embeddings.patch_embeddings.projection.weight", (128, 3, 8, 4), "expected [128, 3, 8, 8] bes"),
        (POSITIONS, (1, 18, 128), "expected the class token's position and those of a square grid of patches"),
        (POSITIONS, (1, 0, 128), "expected the class token's position"),
        (POSITIONS, (17, 128), "expected [1, "),
        (POSITIONS, (1, 17, 64), "expected [1, 17, 128] beside"),
        ("visual_encoder.embeddings.patch_embeddings.projection.weight", (), "expected [128, 3, 16, 16] beside"),
        ("text_encoder.embeddings.word_embeddings.weight", (1000, 0), "expected [1000, 128] beside"),
    ],
)  # fmt: skip
def test_wrong_shapes_are_named(name, shape, said, tmp_path):
    text = message(tmp_path, multimodal_state() | {name: torch.zeros(shape)})
    assert f"'{name}' has shape {list(shape)}, {said}" in text


def narrow(state, prefix, size=72):
    """A state dict whose tensors below a prefix have `size` channels for 128."""
    return {
        name: torch.zeros([size if n == 128 else n for n in tensor.shape]) if name.startswith(prefix) else tensor
        for name, tensor in state.items()
    }


@pytest.mark.parametrize(
    ("tower", "prefix", "option"), [("text", "text_", "--text"), ("vision", "visual_", "--vision")]
)
def test_an_unknown_number_of_heads_is_asked_for(tower, prefix, option, tmp_path):
    state = narrow(multimodal_state(), prefix)
    text = message(tmp_path, state)
    assert f"the {tower} tower's hidden size 72 is not a multiple of 64" in text and f"with {option}-model" in text
    config = (BertConfig if tower == "text" else ViTConfig)(
        **(TEXT if tower == "text" else VISION) | {"hidden_size": 72, "num_attention_heads": 6}
    )
    configs = (config, None) if tower == "text" else (None, config)
    assert getattr(read(tmp_path, state, *configs), f"{tower}_config") is config


def test_given_configurations_are_used(tmp_path):
    text = BertConfig(**TEXT | {"num_attention_heads": 4}, layer_norm_eps=1e-5, hidden_act="relu")
    vision = ViTConfig(**VISION | {"num_attention_heads": 8, "image_size": [32, 32], "patch_size": (8, 8)})
    found = read(tmp_path, multimodal_state(), text, vision)
    assert found.text_config is text and found.vision_config is vision
    assert has_network_order(found)
    state = {n: t for n, t in multimodal_state().items() if not n.endswith(("query.bias", "key.bias", "value.bias"))}
    state |= {n: t for n, t in multimodal_state().items() if n.startswith("text_")}
    assert read(tmp_path, state, text, ViTConfig(**VISION, qkv_bias=False)).vision_config.qkv_bias is False
    assert "missing '" in message(tmp_path, state, text, vision)


@pytest.mark.parametrize(
    ("tower", "changes"),
    [("text", {"hidden_size": 768}), ("text", {"num_hidden_layers": 3}), ("text", {"intermediate_size": 256}),
     ("text", {"vocab_size": 999}), ("text", {"max_position_embeddings": 512}), ("text", {"type_vocab_size": 1}),
     ("vision", {"hidden_size": 768}), ("vision", {"num_hidden_layers": 1}), ("vision", {"intermediate_size": 8}),
     ("vision", {"patch_size": 16}), ("vision", {"num_channels": 1}), ("vision", {"image_size": 224})],
)  # fmt: skip
def test_a_given_configuration_of_other_sizes_is_refused(tower, changes, tmp_path):
    [(name, stated)] = changes.items()
    config = BertConfig(**TEXT | changes) if tower == "text" else ViTConfig(**VISION | changes)
    text = message(tmp_path, multimodal_state(), *((config,) if tower == "text" else (None, config)))
    actual = (TEXT | {"type_vocab_size": 2} if tower == "text" else VISION | {"num_channels": 3})[name]
    assert f"the {tower} configuration says {name} {stated}, the file {actual}" in text


@pytest.mark.parametrize(
    ("configs", "said"),
    [
        ((RobertaConfig(**TEXT), None), "the text tower is bert, the given text configuration is of roberta;"),
        ((ViTConfig(**VISION), None), "the given text configuration is of vit;"),
        ((None, CLIPVisionConfig()), "the vision tower is vit, the given vision configuration is of clip_vision_model"),
        ((BertConfig(**TEXT | {"num_attention_heads": 3}), None), "no BERT and ViT can be built from these config"),
    ],
)
def test_a_given_configuration_of_another_kind_is_refused(configs, said, tmp_path):
    assert said in message(tmp_path, multimodal_state(), *configs)


def test_a_sorted_file_has_not_the_network_s_order(tmp_path):
    state = multimodal_state()
    assert not has_network_order(read(tmp_path, {name: state[name] for name in sorted(state)}))
    swapped = {**{n: t for n, t in state.items() if n != "temperature"}, "temperature": state["temperature"]}
    assert not has_network_order(read(tmp_path, swapped))


@pytest.mark.parametrize("content", [{"model_state_dict": {}}, {"epoch": 1}, {"encoder_state_dict": {"x": 1}}])
def test_what_holds_no_state_dict(content, tmp_path):
    assert "holds no state dict; at its top are '" in message(tmp_path, content)


@given(st.data())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_any_change_of_keys_and_shapes_is_refused_in_one_line(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "multimodal-garbage"
    folder.mkdir(exist_ok=True)
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in multimodal_state().items()}
    needed = [name for name in without_poolers(state) if name != "temperature"]  # which may be missing
    for name in data.draw(st.lists(st.sampled_from(needed), min_size=1, max_size=3)):
        shape = data.draw(st.lists(st.sampled_from([0, 1, 5, 63, 1 << 40]), max_size=4))
        if data.draw(st.booleans()):
            state.pop(name, None)
            state |= data.draw(st.sampled_from([{}, {f"x.{name}": torch.ones(1)}, {name.upper(): torch.ones(1)}]))
        else:
            state[name] = torch.zeros(()).expand([n if n < 1 << 20 or not i else 7 for i, n in enumerate(shape)])
    with pytest.raises(CheckpointError) as caught:
        read(folder, state)
    assert str(caught.value).isprintable()
