"""DINOv2, with registers and without, and other ViTs with layer scale: Meta's names, timm's, DeiT III's, transformers'.

Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, 2023. Darcet et al., Vision Transformers Need
Registers, 2024. Touvron et al., DeiT III, 2022, has layer scale as well, and loads as the same class.
"""

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from ...checkpoints.finding.networks import FamilyNames
from .family import EncoderOptions, Family, FileTensors, Plan, block_count
from .layers import PARTS, Tensors, layer_norm, linear, tensor
from .moves import Move, made, same, split, zero_row_first, zeros_after
from .transformers_names import DINOV2_NAMING
from .vit_parts import Choices, block, choices, embedded, patches, pools_average, refuse_relatives

_BLOCK = r"blocks\.\d+\.(?:\d+\.)?"  # Meta's training keeps blocks in chunks: blocks.CHUNK.N, where N counts all blocks
_NAMES = FamilyNames(
    "dinov2",
    re.compile(
        r"cls_token|pos_embed|mask_token|reg(?:ister)?_tokens?|patch_embed\..+|(?:norm|fc_norm|head)\.(?:weight|bias)"
        rf"|{_BLOCK}.+"
    ),
    (
        re.compile(r"patch_embed\.proj\."),
        re.compile(rf"{_BLOCK}attn\."),
        # What no plain ViT has: layer scale, gated MLPs, chunks or registers.
        re.compile(
            rf"{_BLOCK}(?:ls1\.gamma|gamma_1|mlp\.w12\.weight)$|blocks\.\d+\.\d+\.attn\.|reg(?:ister)?_tokens?$"
        ),
    ),
)
_CHUNKED = re.compile(r"blocks\.\d+\.(?=\d+\.)")
_SCALE = re.compile(r"(blocks\.\d+)\.gamma_([12])$")  # DeiT III
_HEADS = re.compile(r"head\.(?:\d+|mlp|last_layer)\b.*|(?:dino_head|ibot_head|head_dist|projector|predictor)\..*")
_CLASSIFIER = "classifier"  # in transformers
_KIND = "Dinov2Model"
_FACTORS = range(1, 17)  # how much wider than the network its MLPs may be


def _canonical(name: str) -> str:
    return DINOV2_NAMING.canonical(_SCALE.sub(r"\1.ls\2.gamma", _CHUNKED.sub("blocks.", name, count=1)))


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    refuse_relatives(file, _KIND)
    width = file.shape("cls_token", 3)[2]
    depth = block_count(file.shapes, "blocks.")
    registers = next((name for name in ("register_tokens", "reg_token") if name in file.shapes), "")
    if "dist_token" in file.shapes:
        raise file.refuse(f"a distilled DeiT with layer scale or registers, which {_KIND} cannot hold")
    cut, has_class = patches(file, "patch_embed.proj.weight", "pos_embed", 1)
    if not cut.is_square:
        raise file.refuse(f"a ViT with layer scale for images that are not square, for which {_KIND} changes positions")
    if registers == "reg_token" and has_class:
        raise file.refuse("a ViT of timm with positions for its class token or registers, beside registers, which"
                          " Dinov2WithRegistersModel cannot hold")  # fmt: skip
    is_gated, factor = _mlp(file, width)
    head, dropped = _head(file, options, width)
    chosen, assumed = choices(file, options, width)
    if is_gated and options.hidden_act not in (None, "silu", "swish"):
        raise file.refuse("its MLPs are gated by SiLU (SwiGLU); leave --hidden-act out")
    if is_gated:
        assumed = [each for each in assumed if each.quantity != "activation"]
    model = "Dinov2WithRegisters" if registers else "Dinov2"
    prefix = ("dinov2_with_registers." if registers else "dinov2.") if head else ""
    settings: dict[str, object] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": chosen.heads,
        "mlp_ratio": factor,
        "use_swiglu_ffn": is_gated,
        "hidden_act": "silu" if is_gated else chosen.act,
        "layer_norm_eps": chosen.eps,
        "qkv_bias": any(f"blocks.0.attn.{name}.bias" in file.shapes for name in ("qkv", "query")),
        **cut.settings(),
    }
    if registers:
        settings["num_register_tokens"] = file.shape(registers, 3)[1]
    else:
        settings["use_mask_token"] = "mask_token" in file.shapes
    if head:
        settings["num_labels"] = file.shape(f"{head}.weight", 2)[0]
    side = cut.rows * cut.height
    note = f"for images of other sizes than {side} transformers interpolates the positions a little otherwise than Meta"

    def reference(tensors: Tensors, inputs: Tensors) -> dict[str, Tensor]:
        return _forward(tensors, inputs["pixel_values"], depth, chosen, has_class, registers, head)

    return Plan(
        architecture=f"{model}{'ForImageClassification' if head else 'Model'}",
        settings=settings,
        moves=list(_moves(file, depth, prefix, has_class, registers, head)),
        reference=reference,
        inputs=cut.inputs(),
        dropped=dropped,
        assumed=assumed,
        notes=[] if DINOV2_NAMING.is_of(file) else [note],
        images=cut.images(),
    )


def _mlp(file: FileTensors, width: int) -> tuple[bool, int]:
    """Whether the MLPs are gated, and transformers' `mlp_ratio`, from which it computes their widths."""
    is_gated = "blocks.0.mlp.w3.weight" in file.shapes
    hidden = file.shape(f"blocks.0.mlp.{'w3' if is_gated else 'fc2'}.weight", 2)[1]
    is_gated = is_gated or file.shape("blocks.0.mlp.fc1.weight", 2)[0] == 2 * hidden
    for factor in _FACTORS:
        wide = width * factor
        # Two thirds of it, up to a multiple of eight: both matrices together are as large as one that is not gated.
        if hidden == ((int(wide * 2 / 3) + 7) // 8 * 8 if is_gated else wide):
            return is_gated, factor
    rule = "two thirds of a multiple of its width" if is_gated else "a multiple of its width"
    raise file.refuse(f"its MLPs are {hidden} wide beside a width of {width}; {_KIND} takes {rule} alone")


def _head(file: FileTensors, options: EncoderOptions, width: int) -> tuple[str, list[str]]:
    """The name of the classifier that is kept, empty without one, and the names of what is left out."""
    names = file.shapes
    dropped = [name for name in names if _HEADS.fullmatch(name)]
    norm = [name for name in names if name.startswith("fc_norm.")]
    head = _CLASSIFIER if DINOV2_NAMING.is_of(file) else "head"
    classifier = [name for name in (f"{head}.weight", f"{head}.bias") if name in names]
    if options.without_head or f"{head}.weight" not in names:
        return "", [*dropped, *norm, *classifier]
    if head == _CLASSIFIER:
        if (into := file.shape(f"{head}.weight", 2)[1]) != 2 * width:
            raise file.refuse(
                f"its classifier reads {into} channels, and Dinov2ForImageClassification's {2 * width}, of the class"
                " token and the mean of the patches; --without-head converts the rest"
            )
        return head, dropped
    if norm or pools_average(file):
        raise file.refuse(
            "its classifier reads the mean of the patches alone, which Dinov2ForImageClassification's does not;"
            " --without-head converts the rest"
        )
    return head, dropped


def _moves(file: FileTensors, depth: int, prefix: str, has_class: bool, registers: str, head: str) -> Iterator[Move]:
    def layer(source: str, target: str) -> Iterator[Move]:
        for kind in ("weight", "bias"):
            yield same(f"{source}.{kind}", f"{prefix}{target}.{kind}")

    def scale(source: str, target: str, width: int) -> Iterator[Move]:
        if "blocks.0.ls1.gamma" in file.shapes:
            yield same(source, f"{prefix}{target}")
        else:
            yield made(f"{prefix}{target}", "ones", (width,))

    width = file.shape("cls_token", 3)[2]
    yield same("cls_token", f"{prefix}embeddings.cls_token")
    # timm's no_embed_class adds positions to the patches alone: the class token has one of zeros.
    yield (same if has_class else zero_row_first)("pos_embed", f"{prefix}embeddings.position_embeddings")
    if "mask_token" in file.shapes:
        yield same("mask_token", f"{prefix}embeddings.mask_token")
    elif registers:
        yield made(f"{prefix}embeddings.mask_token", "zeros", (1, width))
    if registers:
        yield same(registers, f"{prefix}embeddings.register_tokens")
    yield from layer("patch_embed.proj", "embeddings.patch_embeddings.projection")
    is_split = "blocks.0.attn.query.weight" in file.shapes
    kinds = ("weight", "bias") if f"blocks.0.attn.{'query' if is_split else 'qkv'}.bias" in file.shapes else ("weight",)
    is_gated, _ = _mlp(file, width)
    for number in range(depth):
        source, target = f"blocks.{number}", f"encoder.layer.{number}"
        yield from layer(f"{source}.norm1", f"{target}.norm1")
        for kind in kinds:
            three = (f"{prefix}{target}.attention.{part}_proj.{kind}" for part in "qkv")
            if is_split:
                yield from (same(f"{source}.attn.{part}.{kind}", to) for part, to in zip(PARTS, three, strict=True))
            else:
                yield split(f"{source}.attn.qkv.{kind}", *three)
        yield from layer(f"{source}.attn.proj", f"{target}.attention.o_proj")
        yield from scale(f"{source}.ls1.gamma", f"{target}.layer_scale1.lambda1", width)
        yield from layer(f"{source}.norm2", f"{target}.norm2")
        if is_gated and f"{source}.mlp.gate.weight" in file.shapes:
            yield from layer(f"{source}.mlp.gate", f"{target}.mlp.gate_proj")
            yield from layer(f"{source}.mlp.up", f"{target}.mlp.up_proj")
            yield from layer(f"{source}.mlp.w3", f"{target}.mlp.down_proj")
        elif is_gated:
            first, last = ("w12", "w3") if f"{source}.mlp.w12.weight" in file.shapes else ("fc1", "fc2")
            for kind in ("weight", "bias"):
                two = (f"{prefix}{target}.mlp.{part}_proj.{kind}" for part in ("gate", "up"))
                yield split(f"{source}.mlp.{first}.{kind}", *two)
            yield from layer(f"{source}.mlp.{last}", f"{target}.mlp.down_proj")
        else:
            yield from layer(f"{source}.mlp.fc1", f"{target}.mlp.fc1")
            yield from layer(f"{source}.mlp.fc2", f"{target}.mlp.fc2")
        yield from scale(f"{source}.ls2.gamma", f"{target}.layer_scale2.lambda1", width)
    yield from layer("norm", "layernorm")
    if head == _CLASSIFIER:
        yield from (same(f"{head}.{kind}", f"{head}.{kind}") for kind in ("weight", "bias"))
    elif head:
        # transformers' classifier reads the class token and the mean of the patches, timm's the class token alone.
        yield zeros_after("head.weight", "classifier.weight")
        yield same("head.bias", "classifier.bias")


def _forward(
    tensors: Tensors, images: Tensor, depth: int, chosen: Choices, has_class: bool, registers: str, head: str
) -> dict[str, Tensor]:
    x = embedded(tensors, "patch_embed.proj", images)
    positions = tensor(tensors, "pos_embed", x)
    class_token = tensor(tensors, "cls_token", x)
    if has_class:
        class_token, positions = class_token + positions[:, :1], positions[:, 1:]
    # Registers have no positions, and follow the class token.
    special = [class_token, *([tensor(tensors, registers, x)] if registers else [])]
    x = torch.cat([*(token.expand(len(x), -1, -1) for token in special), x + positions], dim=1)
    for number in range(depth):
        x = block(tensors, f"blocks.{number}", x, chosen)
    x = layer_norm(tensors, "norm", x, chosen.eps)
    outputs = {"last_hidden_state": x, "pooler_output": x[:, 0]}
    if head == _CLASSIFIER:
        patches_alone = x[:, sum(token.shape[1] for token in special) :]
        outputs["logits"] = linear(tensors, head, torch.cat([x[:, 0], patches_alone.mean(1)], dim=1))
    elif head:
        outputs["logits"] = linear(tensors, head, x[:, 0])
    return outputs


DINOV2 = Family("dinov2", (_NAMES, DINOV2_NAMING.names), _plan, _canonical, "DINOv2")
