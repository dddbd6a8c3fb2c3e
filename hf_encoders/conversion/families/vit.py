"""ViT and DeiT: timm's names, which DeiT, DINO, MAE and MoCo v3 share, torchvision's, and transformers' own.

Dosovitskiy et al., An Image is Worth 16x16 Words, 2021. Touvron et al., Training data-efficient image transformers and
distillation through attention, 2021, adds a second token and head. Layer scale is DINOv2's family, see `dinov2.py`.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from ...checkpoints.finding.networks import FamilyNames
from ...plurals import counted
from . import vit_transformers
from .family import EncoderOptions, Family, FileTensors, Plan, block_count
from .layers import Tensors, layer_norm, linear, tensor
from .moves import Move, made, same, split, zero_row_first
from .vit_parts import (
    Choices,
    block,
    choices,
    class_token_pooler,
    embedded,
    patches,
    pools_average,
    refuse_relatives,
    special_tokens,
)

_TIMM = FamilyNames(
    "vit",
    re.compile(
        r"cls_token|pos_embed|dist_token|mask_token|patch_embed\..+|(?:norm|fc_norm|head|head_dist)\.(?:weight|bias)"
        r"|pre_logits\.fc\..+|blocks\.\d+\.(?!\d|ls\d|gamma_|mlp\.w).+"
    ),
    (re.compile(r"patch_embed\.(?:proj|backbone)\."), re.compile(r"blocks\.\d+\.attn\.")),
)
_TORCHVISION = FamilyNames(
    "vit",
    re.compile(
        r"class_token|(?:conv_proj|encoder\.ln|heads\.head|heads\.pre_logits)\.(?:weight|bias)|encoder\.pos_embedding"
        r"|encoder\.layers\.encoder_layer_\d+\..+"
    ),
    (re.compile(r"conv_proj\."), re.compile(r"encoder\.layers\.encoder_layer_0\.")),
)
# torchvision's names → timm's. Its first releases called the MLP's layers linear_1 and linear_2.
_OF_TORCHVISION = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"class_token$", "cls_token"),
        (r"conv_proj\.", "patch_embed.proj."),
        (r"encoder\.pos_embedding$", "pos_embed"),
        (r"encoder\.ln\.", "norm."),
        (r"heads\.head\.", "head."),
        (r"heads\.pre_logits\.", "pre_logits.fc."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.", r"blocks.\1.norm\2."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"blocks.\1.attn.qkv."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"blocks.\1.attn.proj."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.", r"blocks.\1.mlp.fc1."),
        (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.", r"blocks.\1.mlp.fc2."),
    )
)
# What MAE's decoder and the heads of self-supervised training are called, beside the encoder.
_DECODER = re.compile(r"decoder_(?:embed|pos_embed|blocks|norm|pred)\b.*")
_HEADS = re.compile(
    r"head\.(?:\d+|mlp|last_layer|layers|projection)\b.*|mask_token|masked_embed|fc\.\w+\.\w+"
    r"|(?:dino_head|ibot_head|projection_head|projector|prediction_head|predictor|prototypes|aux_head)\..*"
)
_CLASSIFIERS = ("head", "head_dist")
_POOLER = "pre_logits.fc"
_KIND = "ViTModel"


def _canonical(name: str) -> str:
    for pattern, new in _OF_TORCHVISION:
        if match := pattern.match(name):
            return match.expand(new) + name[match.end() :]
    return vit_transformers.canonical(name)


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    if vit_transformers.is_named_so(file.shapes):
        return vit_transformers.plan(file, options)
    refuse_relatives(file, _KIND)
    width = file.shape("cls_token", 3)[2]
    depth = block_count(file.shapes, "blocks.")
    hidden = file.shape("blocks.0.mlp.fc1.weight", 2)[0]
    if hidden == 2 * file.shape("blocks.0.mlp.fc2.weight", 2)[1]:
        raise file.refuse(f"a ViT with gated MLPs (SwiGLU), which {_KIND} cannot hold")
    is_distilled = "dist_token" in file.shapes
    cut, has_all = patches(file, "patch_embed.proj.weight", "pos_embed", 2 if is_distilled else 1)
    if is_distilled and not has_all:
        raise file.refuse("a distilled DeiT without positions of its two tokens, which DeiTModel cannot hold")
    heads, dropped = _heads(file, options, is_distilled)
    chosen, assumed = choices(file, options, width)
    model = "deit" if is_distilled else "vit"
    prefix = f"{model}." if heads else ""
    has_pooler = f"{_POOLER}.weight" in file.shapes
    settings: dict[str, object] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": chosen.heads,
        "intermediate_size": hidden,
        "hidden_act": chosen.act,
        "layer_norm_eps": chosen.eps,
        "qkv_bias": "blocks.0.attn.qkv.bias" in file.shapes,
        "pooler_act": "tanh" if has_pooler else "linear",
        **cut.settings(),
    }
    if has_pooler:
        settings["pooler_output_size"] = file.shape(f"{_POOLER}.weight", 2)[0]
    if heads:
        settings["num_labels"] = file.shape("head.weight", 2)[0]
    notes = cut.notes()
    if decoder := [name for name in dropped if _DECODER.fullmatch(name)]:
        notes.append(f"left the decoder of a masked autoencoder out ({counted(len(decoder), 'tensor')})")

    def reference(tensors: Tensors, inputs: Tensors) -> dict[str, Tensor]:
        return _forward(tensors, inputs["pixel_values"], depth, chosen, has_all, heads)

    return Plan(
        architecture=_architecture(is_distilled, heads),
        settings=settings,
        moves=list(_moves(file, depth, prefix, has_all, heads, width)),
        reference=reference,
        inputs=cut.inputs(),
        dropped=dropped,
        assumed=assumed,
        notes=notes,
        images=cut.images(),
    )


def _architecture(is_distilled: bool, heads: tuple[str, ...]) -> str:
    if is_distilled:
        return "DeiTForImageClassificationWithTeacher" if heads else "DeiTModel"
    return "ViTForImageClassification" if heads else "ViTModel"


def _heads(file: FileTensors, options: EncoderOptions, is_distilled: bool) -> tuple[tuple[str, ...], list[str]]:
    """The classifiers that are kept, and the names of what is left out."""
    names = file.shapes
    dropped = [name for name in names if _HEADS.fullmatch(name) or _DECODER.fullmatch(name)]
    there = tuple(head for head in _CLASSIFIERS if f"{head}.weight" in names)
    norm = [name for name in names if name.startswith("fc_norm.")]
    if options.without_head:
        heads = [f"{head}.{kind}" for head in _CLASSIFIERS for kind in ("weight", "bias")]
        return (), [*dropped, *norm, *(name for name in heads if name in names)]
    if not there:
        return (), [*dropped, *norm]
    hint = "; --without-head converts the rest"
    if norm or pools_average(file):
        raise file.refuse(f"its classifier reads the mean of the patches, ViTForImageClassification's does not{hint}")
    if f"{_POOLER}.weight" in names:
        raise file.refuse(f"its classifier reads pre_logits, which ViTForImageClassification does not have{hint}")
    if there != (_CLASSIFIERS if is_distilled else _CLASSIFIERS[:1]):
        raise file.refuse(f"a DeiT needs both tokens and both heads, or one of each{hint}")
    return there, dropped


def _moves(
    file: FileTensors, depth: int, prefix: str, has_all: bool, heads: tuple[str, ...], width: int
) -> Iterator[Move]:
    def layer(source: str, target: str) -> Iterator[Move]:
        for kind in ("weight", "bias"):
            yield same(f"{source}.{kind}", f"{prefix}{target}.{kind}")

    yield same("cls_token", f"{prefix}embeddings.cls_token")
    if "dist_token" in file.shapes:
        yield same("dist_token", f"{prefix}embeddings.distillation_token")
    # timm's no_embed_class adds positions to the patches alone: the class token has one of zeros.
    yield (same if has_all else zero_row_first)("pos_embed", f"{prefix}embeddings.position_embeddings")
    yield from layer("patch_embed.proj", "embeddings.patch_embeddings.projection")
    kinds = [kind for kind in ("weight", "bias") if f"blocks.0.attn.qkv.{kind}" in file.shapes]
    for number in range(depth):
        source, target = f"blocks.{number}", f"layers.{number}"
        yield from layer(f"{source}.norm1", f"{target}.layernorm_before")
        for kind in kinds or ["weight"]:
            three = (f"{prefix}{target}.attention.{part}_proj.{kind}" for part in "qkv")
            yield split(f"{source}.attn.qkv.{kind}", *three)
        yield from layer(f"{source}.attn.proj", f"{target}.attention.o_proj")
        yield from layer(f"{source}.norm2", f"{target}.layernorm_after")
        yield from layer(f"{source}.mlp.fc1", f"{target}.mlp.fc1")
        yield from layer(f"{source}.mlp.fc2", f"{target}.mlp.fc2")
    yield from layer("norm", "layernorm")
    if f"{_POOLER}.weight" in file.shapes:
        yield from layer(_POOLER, "pooler.dense")
    else:
        yield from class_token_pooler(prefix, width)
    for head, target in zip(heads, ("cls_classifier", "distillation_classifier"), strict=False):
        target = target if len(heads) == 2 else "classifier"
        yield same(f"{head}.weight", f"{target}.weight")
        if f"{head}.bias" in file.shapes:
            yield same(f"{head}.bias", f"{target}.bias")
        else:
            yield made(f"{target}.bias", "zeros", (file.shape(f"{head}.weight", 2)[0],))


def _forward(
    tensors: Tensors, images: Tensor, depth: int, chosen: Choices, has_all: bool, heads: tuple[str, ...]
) -> dict[str, Tensor]:
    x = embedded(tensors, "patch_embed.proj", images)
    positions = tensor(tensors, "pos_embed", x)
    special = [name for name in ("cls_token", "dist_token") if name in tensors]
    x = (
        special_tokens(tensors, x, *special) + positions
        if has_all
        else special_tokens(tensors, x + positions, *special)
    )
    for number in range(depth):
        x = block(tensors, f"blocks.{number}", x, chosen)
    x = layer_norm(tensors, "norm", x, chosen.eps)
    pooled = torch.tanh(linear(tensors, _POOLER, x[:, 0])) if f"{_POOLER}.weight" in tensors else x[:, 0]
    outputs = {"last_hidden_state": x, "pooler_output": pooled}
    if heads:
        outputs["logits"] = torch.stack([linear(tensors, head, x[:, i]) for i, head in enumerate(heads)]).mean(0)
    return outputs


VIT = Family("vit", (_TIMM, _TORCHVISION, *vit_transformers.NAMES), _plan, _canonical, "ViT")
