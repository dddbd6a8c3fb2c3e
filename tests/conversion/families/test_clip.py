"""CLIPs of OpenAI, open_clip and other trainers become CLIPModel, and each tower alone a model of its own."""

import argparse
import json

import pytest
import torch
from torch import nn
from transformers import AutoModel, CLIPTextModelWithProjection, CLIPVisionModelWithProjection

from hf_encoders.checkpoints.finding.weights import LazyTensors, TensorWeight
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.families import moves
from hf_encoders.conversion.families.clip import CLIP
from hf_encoders.conversion.families.family import EncoderOptions, FileTensors
from hf_encoders.conversion.verify_repo import verify_repo
from tests.helpers.clip_network import (
    DIM,
    LENGTH,
    SIDE,
    TEXT,
    VOCABULARY,
    Clip,
    QuickGELU,
    custom_text,
    of_transformers,
    prefixed,
    samples,
    scalars,
)  # fmt: skip

QUICK = EncoderOptions(hidden_act="quick_gelu")
HEADS = EncoderOptions(hidden_act="gelu", attention_heads=(2, 3))


def loaded(folder, content, options=None, kind=AutoModel):
    """The model that a file becomes, and the report of its conversion."""
    if not (folder / "a.pt").exists():
        torch.save(content, folder / "a.pt")
    convert(folder / "a.pt", folder / "repo", encoder=options, overwrite=True)
    model, loading = kind.from_pretrained(folder / "repo", output_loading_info=True, dtype=torch.float32)
    assert not loading["missing_keys"] and not loading["mismatched_keys"]
    report = json.loads((folder / "repo" / "conversion_report.json").read_text())
    report["assumed"] = [each for each in report["assumed"] if each["of_network"]]  # without that of the images
    return model.eval(), report


def assert_same(ours, theirs):
    assert ours.shape == theirs.shape and (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def assert_same_clip(model, network, vocabulary=VOCABULARY):
    pixels, ids = samples(vocabulary)
    with torch.inference_mode():
        outputs = model(pixel_values=pixels, input_ids=ids)
        for name, expected in zip(
            ("image_embeds", "text_embeds", "logits_per_image"), network(pixels, ids), strict=True
        ):
            assert_same(outputs[name], expected)


def file_of(state, metadata=None, classes=()):
    """A file's tensors as the family gets them."""
    named = {CLIP.canonical(name): tensor for name, tensor in state.items()}
    values = LazyTensors("a.pt", {name: TensorWeight(tensor) for name, tensor in named.items()})
    shapes = {name: tuple(tensor.shape) for name, tensor in named.items()}
    return FileTensors("a.pt", shapes, {name: name for name in named}, values, metadata or {}, ".", classes)


def assumed(state, options=None, **of_file):
    return [each.quantity for each in CLIP.plan(file_of(state, **of_file), options or EncoderOptions()).assumed]


WAYS = {
    "a bare state dict": lambda state: state,
    "open_clip's training checkpoint": lambda state: {
        "epoch": 3,
        "name": "run",
        "state_dict": prefixed("module.", state),
    },
    "OpenAI's, with three numbers": lambda state: state | scalars(),
    "with the mask as a buffer": lambda state: state | {"attn_mask": torch.full((LENGTH, LENGTH), -torch.inf).triu(1)},
    "Lightning's": lambda state: {"pytorch-lightning_version": "2", "state_dict": prefixed("model.clip.", state)},
    "CustomTextCLIP": custom_text,
    "its towers apart": lambda state: {
        "visual": {name[7:]: tensor for name, tensor in state.items() if name.startswith("visual.")},
        "text": {name: tensor for name, tensor in state.items() if not name.startswith(("visual.", "logit_scale"))},
        "logit_scale": state["logit_scale"],
    },
    "a scale of one number": lambda state: state | {"logit_scale": state["logit_scale"].reshape(1)},
    "transformers'": of_transformers,
    "transformers', in a trainer": lambda state: {"model": prefixed("module.clip.", of_transformers(state))},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_clip_gives_the_same_numbers_however_it_was_saved(way, tmp_path):
    network = Clip()
    model, report = loaded(tmp_path, WAYS[way](network.state_dict()), HEADS)
    assert type(model).__name__ == report["architecture"] == "CLIPModel"
    assert_same_clip(model, network)
    # A vocabulary of another size may have another end of the text.
    assert [each["quantity"] for each in report["assumed"]] == ([] if "OpenAI" in way else ["pooling"])


@pytest.mark.filterwarnings("ignore")  # of the tracer
def test_a_torchscript_archive_tells_its_activation_by_a_class(tmp_path):
    network = Clip(QuickGELU)
    torch.jit.trace(network, samples()).save(tmp_path / "a.pt")
    model, report = loaded(tmp_path, None)
    assert model.config.text_config.hidden_act == model.config.vision_config.hidden_act == "quick_gelu"
    assert_same_clip(model, network)
    assert [each["quantity"] for each in report["assumed"]] == ["heads", "heads", "pooling"]


def test_half_precision_stays_and_is_computed_in_full(tmp_path):
    network = Clip().half()
    model, report = loaded(tmp_path, network.state_dict(), HEADS)
    assert report["dtype"] == "float16"
    assert_same_clip(model, network.float())


def test_the_activation_is_assumed_where_nothing_tells_it():
    state = Clip().state_dict()
    assert "activation" in assumed(state) and "activation" not in assumed(state, HEADS)
    for told in (
        {"classes": ("clip.model.CLIP", "clip.model.QuickGELU")},
        {"classes": ("transformers.activations.QuickGELUActivation",)},
        {"classes": ("__torch__.a.___torch_mangle_3.QuickGELU",)},
        {"metadata": {"name": "2024-model_ViT-B-32-quickgelu-lr_0.001"}},
        {"metadata": {"args": {"model": "ViT-B-32-quickgelu"}}},
        {"metadata": {"args": {"force_quick_gelu": True}}},
    ):
        plan = CLIP.plan(file_of(state, **told), EncoderOptions())
        assert plan.settings["text_config"]["hidden_act"] == "quick_gelu", told
        assert "activation" not in [each.quantity for each in plan.assumed]
    assert "activation" not in assumed(state | scalars())
    gelu = CLIP.plan(file_of(state, classes=("torch.nn.modules.activation.GELU",)), EncoderOptions())
    assert gelu.settings["vision_config"]["hidden_act"] == "gelu" and gelu.assumed[0].quantity == "heads"
    assert "activation" in assumed(state, classes=("a.GELU", "a.QuickGELU"))


def test_arguments_of_a_run_tell_the_activation(tmp_path):
    network = Clip(QuickGELU)
    content = {"args": argparse.Namespace(model="ViT-B-32-quickgelu"), "state_dict": network.state_dict()}
    assert_same_clip(loaded(tmp_path, content)[0], network)


def test_a_person_settles_the_activation(tmp_path):
    network = Clip(QuickGELU)
    model, report = loaded(tmp_path, network.state_dict(), QUICK)
    assert_same_clip(model, network)
    assert "activation" not in [each["quantity"] for each in report["assumed"]]
    plan = CLIP.plan(file_of(network.state_dict() | scalars()), HEADS)
    assert plan.settings["text_config"]["hidden_act"] == "gelu" and "the file tells of quick_gelu" in plan.notes[0]


@pytest.mark.parametrize(("text", "image", "heads"), [(6, 4, (3, 2)), (12, 12, (3,)), (128, 192, None)])
def test_heads_have_64_channels_unless_a_person_counts_them(text, image, heads, tmp_path):
    counts = (2, 3) if heads is None else (heads[0], heads[-1])
    network = Clip(text=text, image=image, heads=counts)
    model, report = loaded(tmp_path, network.state_dict(), EncoderOptions(hidden_act="gelu", attention_heads=heads))
    assert_same_clip(model, network)
    told = [each["what"] for each in report["assumed"] if each["quantity"] == "heads"]
    assert told == [] if heads else ["2 attention heads of 64 channels in the text tower",
                                     "3 attention heads of 64 channels in the image tower"]  # fmt: skip


@pytest.mark.parametrize(("width", "size"), [(1280, 80), (1408, 88), (1664, 104), (1024, 64)])
def test_large_image_towers_of_open_clip_have_larger_heads(width, size):
    with torch.device("meta"):
        state = Clip(image=width, heads=(2, 1)).state_dict()
    what = CLIP.plan(file_of(state), EncoderOptions()).assumed[2].what
    assert what == f"{width // size} attention heads of {size} channels in the image tower"


@pytest.mark.parametrize("vocabulary", [VOCABULARY, 49408])
def test_the_text_feature_is_at_the_largest_token_whatever_it_is(vocabulary, tmp_path):
    """No text holds the last token here, and OpenAI's network takes the largest one all the same."""
    network = Clip(text=6, image=4, heads=(3, 2), vocabulary=vocabulary)
    options = EncoderOptions(hidden_act="gelu", attention_heads=(3, 2))
    model, report = loaded(tmp_path, network.state_dict(), options)
    ids = torch.randint(0, 50, (16, 7))
    assert_same(model.get_text_features(input_ids=ids).pooler_output, network.text(ids))
    assert_same_clip(model, network, vocabulary)
    assert [each["quantity"] for each in report["assumed"]] == ["pooling"] * (vocabulary != 49408)


def test_a_mask_in_the_file_tells_that_attention_is_causal():
    state = Clip().state_dict()
    masked = state | {"attn_mask": torch.full((LENGTH, LENGTH), -torch.inf).triu(1)}
    texts = [CLIP.plan(file_of(each), HEADS).assumed[0].what for each in (state, masked)]
    assert texts == [f"{causal}the text feature at the largest token id" for causal in ("causal attention and ", "")]


@pytest.mark.parametrize("prefix", ["", "visual.", "module.visual."])
def test_an_image_tower_alone_keeps_its_projection(prefix, tmp_path):
    network = Clip().visual
    model, report = loaded(tmp_path, prefixed(prefix, network.state_dict()), HEADS)
    assert report["architecture"] == "CLIPVisionModelWithProjection" and report["assumed"] == []
    pixels = samples()[0]
    assert_same(model(pixel_values=pixels).last_hidden_state, network.hidden(pixels))
    model = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "repo")
    assert_same(model(pixel_values=pixels).image_embeds, network(pixels))


@pytest.mark.parametrize("prefix", ["", "text.", "cond_stage_model.model."])
def test_a_text_tower_alone_keeps_its_projection(prefix, tmp_path):
    network = Clip()
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("visual.")}
    model, report = loaded(tmp_path, prefixed(prefix, state), HEADS)
    assert report["architecture"] == "CLIPTextModelWithProjection"
    assert report["dropped"] == [f"{prefix}logit_scale"]
    ids = samples()[1]
    assert_same(model(input_ids=ids).last_hidden_state, network.hidden(ids))
    model = CLIPTextModelWithProjection.from_pretrained(tmp_path / "repo")
    assert_same(model(input_ids=ids).text_embeds, network.text(ids))


@pytest.mark.parametrize("tower", ["text", "visual"])
def test_a_tower_without_a_projection_is_a_model_too(tower, tmp_path):
    network = Clip()
    state = network.visual.state_dict() if tower == "visual" else network.state_dict()
    without = ("visual.", "logit_scale", "text_projection")
    state = {name: tensor for name, tensor in state.items() if name != "proj" and not name.startswith(without)}
    model, report = loaded(tmp_path, state, HEADS)
    assert (
        type(model).__name__ == report["architecture"] == ("CLIPVisionModel" if tower == "visual" else "CLIPTextModel")
    )
    pixels, ids = samples()
    if tower == "visual":
        assert_same(model(pixel_values=pixels).last_hidden_state, network.visual.hidden(pixels))
    else:
        assert_same(model(input_ids=ids).last_hidden_state, network.hidden(ids))


@pytest.mark.parametrize("projected", [True, False])
@pytest.mark.parametrize("prefix", ["vision_model.", "text_model.", "trainer.vision_model.", ""])
def test_a_tower_of_transformers_alone(prefix, projected, tmp_path):
    """CLIPTextModel saves its names without a prefix since release 5."""
    network, kind = Clip(), "text_model." if prefix in ("text_model.", "") else "vision_model."
    state = {name: tensor for name, tensor in of_transformers(network.state_dict()).items() if name.startswith(kind)}
    if projected and prefix:
        name = f"{'text' if kind == 'text_model.' else 'visual'}_projection.weight"
        state[name] = of_transformers(network.state_dict())[name]
    elif not prefix:
        state = {name.removeprefix(kind): tensor for name, tensor in state.items()}
    model, _ = loaded(tmp_path, prefixed(prefix.removesuffix(kind), state), EncoderOptions(hidden_act="gelu"))
    pixels, ids = samples()
    with torch.inference_mode():
        if kind == "text_model.":
            assert_same(model(input_ids=ids).last_hidden_state, network.hidden(ids))
        else:
            assert_same(model(pixel_values=pixels).last_hidden_state, network.visual.hidden(pixels))
    assert verify_repo(str(tmp_path / "repo"), None)


@pytest.mark.parametrize("way", [dict, of_transformers, lambda state: state | scalars()])
def test_the_file_comes_back_from_the_model(way):
    state = way(Clip().state_dict())
    file = file_of(state)
    mask = {"attn_mask": torch.full((LENGTH, LENGTH), -torch.inf).triu(1)}
    plan = CLIP.plan(file_of(state | mask), HEADS)
    back = moves.undo(plan.moves, moves.apply(plan.moves, {name: file.values[name] for name in file.shapes}))
    assert back.keys() | set(plan.dropped) == file.shapes.keys() | {"attn_mask"}
    assert all(torch.equal(tensor, mask[name] if name in mask else file.values[name]) for name, tensor in back.items())
    assert set(plan.dropped) <= scalars().keys()


def test_inputs_are_those_of_openai():
    plan = CLIP.plan(file_of(Clip().state_dict()), EncoderOptions())
    assert (plan.images.size, plan.images.crop, plan.images.resample, plan.images.channels) == (SIDE, 1.0, "bicubic", 3)
    assert plan.images.mean == (0.48145466, 0.4578275, 0.40821073)
    assert plan.images.std == (0.26862954, 0.26130258, 0.27577711)
    assert (plan.texts.vocab_size, plan.texts.max_length, plan.texts.tokenizer) == (VOCABULARY, LENGTH, "CLIPTokenizer")


def test_the_number_beside_the_weights_tells_a_size_that_patches_do_not_fill(tmp_path):
    network = Clip(QuickGELU)
    plan = CLIP.plan(file_of(network.state_dict() | scalars(input_resolution=30)), EncoderOptions())
    assert plan.images.size == plan.settings["vision_config"]["image_size"] == 30
    model, _ = loaded(tmp_path, network.state_dict() | scalars(input_resolution=30))
    assert_same(
        model.get_image_features(torch.ones(1, 3, 30, 30)).pooler_output, network.visual(torch.ones(1, 3, 30, 30))
    )


def test_another_epsilon_is_taken(tmp_path):
    network = Clip()
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 0.1
    options = EncoderOptions(hidden_act="gelu", attention_heads=(2, 3), layer_norm_eps=0.1)
    assert_same_clip(loaded(tmp_path, network.state_dict(), options)[0], network)


def test_linear_projections_are_taken_as_they_are(tmp_path):
    network = Clip()
    state = network.state_dict()
    state["text_projection.weight"] = state.pop("text_projection").T.contiguous()
    assert_same_clip(loaded(tmp_path, custom_text(state), HEADS)[0], network)
    assert state["text_projection.weight"].shape == (DIM, TEXT)
