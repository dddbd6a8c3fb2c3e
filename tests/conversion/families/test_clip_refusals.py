"""What is no whole CLIP, or one that CLIPModel cannot hold, is refused in one line that says what it is."""

import pytest
import torch

from hf_encoders.checkpoints.errors import LayoutError
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.families.family import EncoderOptions
from tests.helpers.clip_network import (
    DIM,
    LENGTH,
    TEXT,
    VOCABULARY,
    Clip,
    QuickGELU,
    custom_text,
    of_transformers,
    prefixed,
    scalars,
)  # fmt: skip


def refusal(folder, state, options=None):
    torch.save(state, folder / "a.pt")
    with pytest.raises(LayoutError) as caught:
        convert(folder / "a.pt", folder / "repo", encoder=options)
    text = str(caught.value)
    assert text.startswith(f"{folder}/a.pt: ") and "\n" not in text and not (folder / "repo").exists()
    return text


def without(state, *beginnings):
    return {name: tensor for name, tensor in state.items() if not name.startswith(beginnings)}


def plus(*names):
    return lambda state: state | {name: torch.ones(4, 4) for name in names}


def of_bert(state):
    names = ("embeddings.word_embeddings", "encoder.layer.0.attention.self.query", "encoder.layer.0.output.dense")
    return without(state, "transformer.", "token_embedding", "positional_embedding", "ln_final", "text_projection") | {
        f"text.transformer.{name}.weight": torch.ones(4, 4) for name in names
    }


def resnet(state):
    names = ("conv1", "conv2", "conv3", "layer1.0.conv1", "layer4.2.conv3", "attnpool.k_proj", "attnpool.c_proj")
    norms = [f"visual.{name}.{kind}" for name in ("bn1", "layer1.0.bn1") for kind in ("weight", "running_mean")]
    return (
        without(state, "visual.")
        | {name: torch.ones(4) for name in norms}
        | {f"visual.{name}.weight": torch.ones(4, 4, 3, 3) for name in names}
    )


def timm(state):
    parts = [f"blocks.{n}.{part}.weight" for n in range(40) for part in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
    names = ("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight", *parts)
    return without(state, "visual.") | {f"visual.trunk.{name}": torch.ones(4, 4) for name in names}


def eva(state):
    names = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "norm.weight")
    return custom_text(without(state, "visual.")) | {f"visual.{name}": torch.ones(4, 4) for name in names}


RELATIVES = {
    "an image tower of timm": timm,
    "an image tower of timm ": lambda state: custom_text(timm(state)),
    "another image tower than its own ViT": eva,
    "a ModifiedResNet as its image tower": resnet,
    "a text tower of transformers (text.transformer)": of_bert,
    "a CoCa": plus("text_decoder.resblocks.0.attn.in_proj_weight"),
    "a CoCa,": lambda state: custom_text(plus("cls_emb")(state)),
    "a SigLIP": plus("logit_bias"),
    "(SiglipModel of transformers": lambda state: plus("logit_bias")(of_transformers(state)),
    "pools by attention": plus("visual.attn_pool.query"),
    "without a LayerNorm before its image tower (ln_pre)": lambda state: without(state, "visual.ln_pre"),
    "normalises the patches": plus("visual.patchnorm_pre_ln.weight"),
    "LayerScale": plus("visual.transformer.resblocks.0.ls_1.gamma"),
    "scaled attention": plus("transformer.resblocks.1.attn.logit_scale"),
    "a LongCLIP": plus("positional_embedding_res"),
    "projection has a bias": lambda state: (
        without(state, "text_projection")
        | {"text_projection.weight": torch.ones(DIM, TEXT), "text_projection.bias": torch.ones(DIM)}
    ),
}


@pytest.mark.parametrize("relative", RELATIVES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_relatives_are_refused_by_their_names(relative, prefix, tmp_path):
    text = refusal(tmp_path, prefixed(prefix, RELATIVES[relative](Clip().state_dict())))
    assert relative.strip() in text and "which CLIPModel cannot hold" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: without(s, "transformer.resblocks.1."), "missing 'transformer.resblocks.1."),
        (lambda s: without(s, "transformer.resblocks.0.attn.in_proj_bias"), "not a whole CLIP for CLIPModel"),
        (lambda s: without(s, "logit_scale"), "missing 'logit_scale'"),
        (plus("visual.queries"), "unexpected 'visual.queries'"),
        (plus("transformer.resblocks.0.adapter.down"), "unexpected 'transformer.resblocks.0.adapter.down'"),
        (lambda s: without(s, "visual.proj"), "its image tower has no projection, which CLIPModel needs"),
        (lambda s: without(s, "visual.transformer."), "its image tower has no blocks"),
        (lambda s: s | {"visual.proj": torch.ones(192, DIM + 1)}, "'visual.proj' has shape [192, 25], which becomes"),
        (lambda s: s | {"visual.proj": torch.ones(3)}, "'visual.proj' has shape [3], expected 2 dimensions"),
        (lambda s: s | {"visual.positional_embedding": torch.ones(12, 192)}, "has 12 positions, expected the class"),
        (lambda s: s | {"visual.conv1.weight": torch.ones(192, 3, 8, 4)}, "patches of 8x4 pixels"),
        (lambda s: s | {"ln_final.weight": torch.ones(TEXT + 1)}, "'ln_final.weight' has shape [129]"),
        (lambda s: s | {"attn_mask": torch.zeros(LENGTH, LENGTH)}, "'attn_mask' is not what CLIPModel makes by itself"),
        (lambda s: s | {"attn_mask": torch.zeros(3, LENGTH)}, "'attn_mask' is not what CLIPModel makes by itself"),
        (lambda s: s | scalars(input_resolution=99), "says input_resolution 99, but its positions are those of 24"),
        (lambda s: s | scalars(vocab_size=49408), f"says vocab_size 49408, but its weights are of {VOCABULARY}"),
        (lambda s: s | {"vocab_size": torch.ones(2)}, "'vocab_size' has shape [2], expected one number"),
        (
            lambda s: s | {"vocab_size": torch.tensor(torch.nan)},
            "'vocab_size' has shape [], expected one number, and",
        ),
        (lambda s: s | {"token_embedding.weight": torch.ones(1, 1).expand(901629, TEXT)}, "a MetaCLIP 2"),
        (
            lambda s: of_transformers(s) | {"text_model.embeddings.position_ids": torch.zeros(1, LENGTH).long()},
            "'text_model.embeddings.position_ids' is not what CLIPModel makes",
        ),
        (
            lambda s: without(of_transformers(s), "text_model.encoder.layers.1."),
            "missing 'transformer.resblocks.1.",
        ),
    ],
)
def test_a_file_that_is_no_whole_clip_is_refused(change, expected, tmp_path):
    assert expected in refusal(tmp_path, change(Clip().state_dict()))


@pytest.mark.parametrize(
    ("options", "network", "expected"),
    [
        ({"hidden_act": "gelu_of_mine"}, {}, "--hidden-act gelu_of_mine is not known; choose one of gelu, "),
        ({"attention_heads": (5,)}, {}, "--attention-heads 5: the text tower's hidden size 128 is not a multiple"),
        ({"attention_heads": (2, 5)}, {}, "--attention-heads 5: the image tower's hidden size 192 is not a multiple"),
        ({"attention_heads": (0,)}, {}, "--attention-heads 0: the text tower"),
        ({}, {"image": 100, "heads": (2, 4)}, "the image tower's hidden size 100 is not a multiple of 64"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, network, expected, tmp_path):
    assert expected in refusal(tmp_path, Clip(QuickGELU, **network).state_dict(), EncoderOptions(**options))


@pytest.mark.parametrize("prefix", ["", "visual."])
def test_a_modified_resnet_alone_is_refused_by_its_name(prefix, tmp_path):
    state = {name: tensor for name, tensor in resnet({}).items() if name.startswith("visual.")}
    state = {prefix + name.removeprefix("visual."): tensor for name, tensor in state.items()}
    assert "the ModifiedResNet of a CLIP" in refusal(tmp_path, state)
