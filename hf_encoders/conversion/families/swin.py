"""Swin Transformer: Microsoft's names, timm's, torchvision's and transformers'.

Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, 2021. Heads and windows follow from
the tables of relative positions. timm keeps the merging of patches at the start of a stage, Microsoft at the end of the
one before. The networks agree where the windows divide the grid of every stage: elsewhere SwinModel pads before it
shifts, and timm after.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ...checkpoints.finding.networks import FamilyNames
from ..assumptions import Assumption
from ..encoders.stated import own_config
from .family import EncoderOptions, Family, FileTensors, Images, Plan, block_count
from .inputs import image_inputs
from .layers import ACTIVATIONS, PARTS, Tensors, conv, layer_norm, linear, query_key_value, tensor
from .moves import Move, buffer, same, split, window_index, window_mask
from .transformers_names import AMONG, STAGE_NORMS, SWIN_NAMING, stated_activation, stated_epsilon

_PAIR = ("weight", "bias")
_EPS = 1e-5  # of all LayerNorms, in Microsoft's code and in timm; that of the embeddings is fixed in transformers
_NAMES = (
    FamilyNames(
        "swin",
        re.compile(
            r"patch_embed\.(?:proj|norm)\.(?:weight|bias)|absolute_pos_embed|mask_token|norm\.(?:weight|bias)"
            r"|head\.(?:fc\.)?(?:weight|bias)|layers\.\d+\.downsample\.(?:norm|reduction)\.(?:weight|bias)"
            r"|layers\.\d+\.blocks\.\d+\.(?:attn_mask|(?:norm[12]|mlp\.fc[12])\.(?:weight|bias)"
            r"|attn\.(?:(?:qkv|proj)\.(?:weight|bias)|relative_position_(?:bias_table|index)"
            r"|logit_scale|[qv]_bias|relative_coords_table|cpb_mlp\..+))"
        ),
        (
            re.compile(r"patch_embed\.proj\.weight$"),
            re.compile(r"layers\.0\.blocks\.0\.attn\.qkv\.weight$"),
            re.compile(r"layers\.0\.blocks\.0\.attn\.(?:relative_position_bias_table|logit_scale)$"),
        ),
    ),
    FamilyNames(
        "swin",
        re.compile(
            r"features\.0\.[02]\.(?:weight|bias)|(?:norm|head)\.(?:weight|bias)"
            r"|features\.[246]\.(?:norm|reduction)\.(?:weight|bias)"
            r"|features\.[1357]\.\d+\.(?:(?:norm[12]|mlp\.[03])\.(?:weight|bias)|attn\..+)"
        ),
        (
            re.compile(r"features\.0\.2\.weight$"),
            re.compile(r"features\.1\.0\.attn\.qkv\.weight$"),
            re.compile(r"features\.1\.0\.attn\.(?:relative_position_bias_table|logit_scale)$"),
        ),
    ),
    SWIN_NAMING.names,
)
# timm's and torchvision's names → Microsoft's.
_RENAMED = (
    (re.compile(r"head\.fc\."), "head."),
    (re.compile(r"features\.0\.0\."), "patch_embed.proj."),
    (re.compile(r"features\.0\.2\."), "patch_embed.norm."),
    *((re.compile(rf"features\.{2 * stage + 2}\."), f"layers.{stage}.downsample.") for stage in range(3)),
    *(
        (re.compile(rf"features\.{2 * stage + 1}\.(\d+)\.{theirs}"), rf"layers.{stage}.blocks.\1.{ours}")
        for stage in range(4)
        for theirs, ours in ((r"mlp\.0\.", "mlp.fc1."), (r"mlp\.3\.", "mlp.fc2."), ("", ""))
    ),
)
_TABLE = "attn.relative_position_bias_table"
_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")
_MASK = "attn_mask"
_LEFT_OUT = re.compile(r"mask_token|decoder\.0\.\w+")  # of masked training


@dataclass(frozen=True)
class _Sizes:
    """The sizes of a network.

    Args:
        patch: the side of a patch.
        depths: the number of blocks of each stage.
        heads: of the attention of each stage.
        window: the side of a window.
        merging: 0 if patches are merged at the end of a stage, 1 if at the start of the next.
        eps: of the norms of blocks, and of the last.
    """

    patch: int
    depths: list[int]
    heads: list[int]
    window: int
    merging: int
    eps: float


def _canonical(name: str) -> str:
    for pattern, replacement in _RENAMED:
        if pattern.match(name):
            return pattern.sub(replacement, name, count=1)
    return SWIN_NAMING.canonical(name)


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    width, channels, patch, _ = file.shape("patch_embed.proj.weight", 4)
    is_of_transformers = SWIN_NAMING.is_of(file)
    first = "query" if is_of_transformers else "qkv"
    file.shape(f"layers.0.blocks.0.attn.{first}.weight", 2)
    _refuse_relatives(file)
    stages = range(block_count(file.shapes, "layers."))
    merging = 1 if f"layers.{stages[-1]}.downsample.reduction.weight" in file.shapes else 0
    widest = width * 2 ** (len(stages) - 1)
    activation, eps, assumed = (
        _of_transformers(file, options, widest) if is_of_transformers else _settled(file, options)
    )
    sizes = _Sizes(
        patch=patch,
        depths=[block_count(file.shapes, f"layers.{stage}.blocks.") for stage in stages],
        heads=[file.shape(f"layers.{stage}.blocks.0.{_TABLE}", 2)[1] for stage in stages],
        window=_window(file),
        merging=merging,
        eps=eps,
    )
    for stage, heads in enumerate(sizes.heads):
        if width * 2**stage % heads:
            raise file.refuse(f"{heads} attention heads do not divide the {width * 2**stage} channels of stage {stage}")
    # The widest stage tells the ratio best, for its width times the ratio was rounded down.
    hidden, into = file.shape(f"layers.{stages[-1]}.blocks.0.mlp.fc1.weight", 2)
    has_positions = "absolute_pos_embed" in file.shapes
    its_head = "classifier" if is_of_transformers else "head"
    head = its_head if f"{its_head}.weight" in file.shapes and not options.without_head else ""
    told = _told_side(file, sizes)
    # The published networks see the last stage in one window.
    side = told or sizes.patch * sizes.window * 2 ** (len(sizes.depths) - 1)
    settings: dict[str, object] = {
        "image_size": side,
        "patch_size": patch,
        "num_channels": channels,
        "embed_dim": width,
        "depths": sizes.depths,
        "num_heads": sizes.heads,
        "window_size": sizes.window,
        "mlp_ratio": _ratio(hidden, into),
        "qkv_bias": f"layers.0.blocks.0.attn.{first}.bias" in file.shapes,
        "hidden_act": activation,
        "use_absolute_embeddings": has_positions,
        "layer_norm_eps": eps,
    }
    if head:
        settings["num_labels"] = file.shape(f"{head}.weight", 2)[0]

    def reference(tensors: Tensors, inputs: Tensors) -> dict[str, Tensor]:
        return _forward(tensors, inputs["pixel_values"], sizes, activation, head)

    # With one stage, the windows of the image that it takes would never be shifted.
    checked = side if has_positions or len(sizes.depths) > 1 else 2 * side
    return Plan(
        architecture="SwinForImageClassification" if head else "SwinModel",
        settings=settings,
        moves=list(_moves(file, sizes, head)),
        reference=reference,
        inputs=image_inputs(channels, checked),
        dropped=_dropped(file, "" if head else its_head),
        assumed=assumed,
        images=Images(
            (0.485, 0.456, 0.406),
            (0.229, 0.224, 0.225),
            told,
            0.9,
            channels=channels,
            likely_size=side,
            misfit=lambda side: _misfit(side, sizes),
        ),
    )


def _refuse_relatives(file: FileTensors) -> None:
    """Refuse the relatives that SwinModel cannot hold, by their names."""
    if any(re.search(r"\.attn\.(?:logit_scale|cpb_mlp)\b", name) for name in file.shapes):
        raise file.refuse("a Swin Transformer V2 (logit_scale, cpb_mlp), which SwinModel cannot hold")
    if "patch_embed.norm.weight" not in file.shapes:
        raise file.refuse("a Swin Transformer without a norm after its patches, which SwinModel cannot hold")
    if any(name.startswith(STAGE_NORMS) for name in file.shapes):
        raise file.refuse(
            "a Swin Transformer with a norm for each stage (a detector's backbone), not one at its end;"
            f" --ignore '*{STAGE_NORMS}*' converts the rest"
        )
    if any(re.match(r"(?:norm\d|layers\.\d+\.norm)\.", name) for name in file.shapes):
        raise file.refuse("a Swin Transformer with a norm for each stage (a detector's backbone), not one at its end")


def _dropped(file: FileTensors, head: str) -> list[str]:
    """The names of what is left out: of masked training, and of a head if one is named."""
    return [name for name in file.shapes if _LEFT_OUT.fullmatch(name) or (head and name.startswith(f"{head}."))]


def _window(file: FileTensors) -> int:
    """The side of all windows."""
    found: dict[int, str] = {}
    for name, shape in file.shapes.items():
        if not name.endswith(_TABLE) or len(shape) != 2:
            continue
        side = (math.isqrt(shape[0]) + 1) // 2
        if (2 * side - 1) ** 2 != shape[0]:
            raise file.refuse(
                f"{file.keys[name]!r} has shape {list(shape)}, of windows that are no squares, which SwinModel cannot"
                " hold"
            )
        found.setdefault(side, file.keys[name])
    if len(found) > 1:
        (one, its_key), (other, other_key), *_ = found.items()
        raise file.refuse(
            f"its windows are of several sizes ({one} by {its_key!r}, {other} by {other_key!r}), and SwinModel has one"
        )
    if not found:
        raise file.refuse("lacks tables of relative positions (attn.relative_position_bias_table)")
    return next(iter(found))


def _settled(file: FileTensors, options: EncoderOptions) -> tuple[str, float, list[Assumption]]:
    """The activation and the epsilon; refuses options that contradict the file, or that SwinModel does not have."""
    if options.layer_norm_eps not in (None, _EPS):
        raise file.refuse(
            f"SwinModel has an epsilon of {_EPS} in the LayerNorms of its patches, and cannot have"
            f" {options.layer_norm_eps}; leave --layer-norm-eps out"
        )
    return _known(file, options.hidden_act or "gelu"), _EPS, []


def _of_transformers(file: FileTensors, options: EncoderOptions, width: int) -> tuple[str, float, list[Assumption]]:
    """The activation, and the epsilon outside of patches: a person's, or of a configuration in the file, or usual."""
    stated, assumed = stated_activation(file, width) if options.hidden_act is None else (None, [])
    activation = _known(file, options.hidden_act or stated or "gelu")
    told = stated_epsilon(file, width) if options.layer_norm_eps is None else None
    if told and own_config(file.metadata, width).get("layer_norm_eps") != told:
        what = f"an epsilon of {told:g} in the LayerNorms of blocks{AMONG}"
        assumed = [*assumed, Assumption("epsilon", what, ("--layer-norm-eps",))]
    return activation, options.layer_norm_eps or told or _EPS, assumed


def _known(file: FileTensors, activation: str) -> str:
    if activation not in ACTIVATIONS:
        raise file.refuse(f"--hidden-act {activation} is not known; choose one of {', '.join(ACTIVATIONS)}")
    return activation


def _ratio(hidden: int, width: int) -> float:
    """The ratio by which the width is multiplied; int(ratio * width) is the width of the hidden layer."""
    ratio = hidden / width
    return ratio if int(ratio * width) == hidden else math.nextafter(ratio, math.inf)


def _told_side(file: FileTensors, sizes: _Sizes) -> int | None:
    """The side of the images that the network was made for, in pixels; None if its tensors do not tell."""
    if "absolute_pos_embed" in file.shapes:
        count = file.shape("absolute_pos_embed", 3)[1]
        across = math.isqrt(count)
        if across**2 != count:
            raise file.refuse(f"its {count} positions are no square, which SwinModel cannot hold")
        return across * sizes.patch
    for name, shape in file.shapes.items():
        if name.endswith(_MASK) and (match := _BLOCK.match(name)) and len(shape) == 3:
            return math.isqrt(shape[0]) * sizes.window * 2 ** int(match[1]) * sizes.patch
    return None


def _misfit(side: int, sizes: _Sizes) -> str:
    """Why SwinModel computes something else for images of a side; empty if it does not.

    Where windows do not divide the grid, timm pads what was shifted, and SwinModel shifts what was padded. That is the
    same only if the padding is as wide as what was shifted, and both make up a window.
    """
    if not sizes.merging:  # Microsoft's network takes no such images, and torchvision's pads first
        return ""
    for stage, depth in enumerate(sizes.depths):
        grid = -(-side // (sizes.patch * 2**stage))  # merging pads a grid of odd size
        padding = -grid % sizes.window
        if depth > 1 and padding and grid > sizes.window and 2 * padding != sizes.window:
            fitting = sizes.patch * sizes.window * 2 ** (len(sizes.depths) - 1)
            return (
                f"windows of {sizes.window} patches do not divide images of {side} pixels, which timm and SwinModel pad"
                f" differently; say --image-size with a multiple of {fitting} if it was trained so"
            )
    return ""


def _moves(file: FileTensors, sizes: _Sizes, head: str) -> Iterator[Move]:
    prefix = "swin." if head else ""

    def pair(source: str, target: str) -> Iterator[Move]:
        yield from (same(f"{source}.{kind}", f"{prefix}{target}.{kind}") for kind in _PAIR)

    yield from pair("patch_embed.proj", "embeddings.patch_embeddings.projection")
    yield from pair("patch_embed.norm", "embeddings.norm")
    if "absolute_pos_embed" in file.shapes:
        yield same("absolute_pos_embed", f"{prefix}embeddings.position_embeddings")
    is_split = "layers.0.blocks.0.attn.query.weight" in file.shapes
    has_bias = f"layers.0.blocks.0.attn.{'query' if is_split else 'qkv'}.bias" in file.shapes
    for stage, depth in enumerate(sizes.depths):
        for block in range(depth):
            source, target = f"layers.{stage}.blocks.{block}", f"encoder.layers.{stage}.blocks.{block}"
            for kind in _PAIR[: 1 + has_bias]:
                parts = [f"{prefix}{target}.attention.{part}_proj.{kind}" for part in "qkv"]
                if is_split:
                    three = (f"{source}.attn.{part}.{kind}" for part in PARTS)
                    yield from (same(part, target) for part, target in zip(three, parts, strict=True))
                else:
                    yield split(f"{source}.attn.qkv.{kind}", *parts)
            yield from pair(f"{source}.attn.proj", f"{target}.attention.o_proj")
            table = "attention.relative_position_bias.relative_position_bias_table"
            yield same(f"{source}.{_TABLE}", f"{prefix}{target}.{table}")
            yield from pair(f"{source}.norm1", f"{target}.layernorm_before")
            yield from pair(f"{source}.norm2", f"{target}.layernorm_after")
            yield from pair(f"{source}.mlp.fc1", f"{target}.mlp.fc1")
            yield from pair(f"{source}.mlp.fc2", f"{target}.mlp.fc2")
            yield from _buffers(file, source, stage, block, sizes)
        if stage + 1 < len(sizes.depths):
            source, target = f"layers.{stage + sizes.merging}.downsample", f"encoder.layers.{stage}.downsample"
            yield from pair(f"{source}.norm", f"{target}.norm")
            yield same(f"{source}.reduction.weight", f"{prefix}{target}.reduction.weight")
    yield from pair("norm", "layernorm")
    if head:
        yield from (same(f"{head}.{kind}", f"classifier.{kind}") for kind in _PAIR)


def _buffers(file: FileTensors, block: str, stage: int, number: int, sizes: _Sizes) -> Iterator[Move]:
    """What follows from the sizes of windows and images, and is in Microsoft's files."""
    area = sizes.window**2
    if (name := f"{block}.attn.relative_position_index") in file.shapes:
        # torchvision's is flat.
        yield buffer(name, "window_index", (area, area) if len(file.shapes[name]) > 1 else (area * area,))
    if (name := f"{block}.{_MASK}") in file.shapes:
        side = _told_side(file, sizes) or 0
        across = side // (sizes.patch * 2**stage * sizes.window)
        if number % 2 == 0 or across < 2:
            raise file.refuse(f"{file.keys[name]!r} is the mask of a block that has no shifted windows")
        yield buffer(name, "window_mask", (across**2, area, area))


def _forward(tensors: Tensors, x: Tensor, sizes: _Sizes, activation: str, head: str) -> dict[str, Tensor]:
    x = conv(tensors, "patch_embed.proj", x, stride=sizes.patch).permute(0, 2, 3, 1)
    x = layer_norm(tensors, "patch_embed.norm", x, _EPS)
    if "absolute_pos_embed" in tensors:
        x = x + tensor(tensors, "absolute_pos_embed", x).reshape(1, *x.shape[1:])
    for stage, depth in enumerate(sizes.depths):
        for block in range(depth):
            # One window over the whole grid has nowhere to shift to.
            shift = sizes.window // 2 if block % 2 and x.shape[1] > sizes.window else 0
            x = _block(tensors, f"layers.{stage}.blocks.{block}", x, sizes, shift, sizes.heads[stage], activation)
        if stage + 1 < len(sizes.depths):
            x = _merge(tensors, f"layers.{stage + sizes.merging}.downsample", x)
    hidden = layer_norm(tensors, "norm", x, sizes.eps).flatten(1, 2)
    outputs = {"last_hidden_state": hidden, "pooler_output": hidden.mean(1)}
    if head:
        outputs["logits"] = linear(tensors, head, outputs["pooler_output"])
    return outputs


def _block(tensors: Tensors, name: str, x: Tensor, sizes: _Sizes, shift: int, heads: int, activation: str) -> Tensor:
    """One block over a grid [B, H, W, C] that windows divide."""
    window, eps = sizes.window, sizes.eps
    batch, height, width, channels = x.shape
    down, across, area = height // window, width // window, window**2
    y = layer_norm(tensors, f"{name}.norm1", x, eps).roll((-shift, -shift), (1, 2))
    y = y.reshape(batch, down, window, across, window, channels).transpose(2, 3).reshape(batch, -1, area, channels)
    table = tensor(tensors, f"{name}.{_TABLE}", x)
    bias = table[window_index(window)].permute(2, 0, 1)  # [heads, area, area]
    if shift:
        bias = bias + window_mask(across, window)[:, None].to(x.dtype)  # [windows, heads, area, area]
    parts = query_key_value(tensors, f"{name}.attn", y)
    query, key, value = (part.unflatten(-1, (heads, -1)).transpose(2, 3) for part in parts)
    weights = (query @ key.transpose(-2, -1) * (channels // heads) ** -0.5 + bias).softmax(-1)
    y = linear(tensors, f"{name}.attn.proj", (weights @ value).transpose(2, 3).flatten(3))
    y = y.reshape(batch, down, across, window, window, channels).transpose(2, 3).reshape(x.shape)
    x = x + y.roll((shift, shift), (1, 2))
    y = ACTIVATIONS[activation](linear(tensors, f"{name}.mlp.fc1", layer_norm(tensors, f"{name}.norm2", x, eps)))
    return x + linear(tensors, f"{name}.mlp.fc2", y)


def _merge(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """Four neighbours [B, H, W, C] → one of twice the channels: first the left column, from top to bottom."""
    x = torch.cat([x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)], dim=-1)
    return linear(tensors, f"{name}.reduction", layer_norm(tensors, f"{name}.norm", x, _EPS))


_OPTIONS = ("hidden_act", "layer_norm_eps", "without_head")

SWIN = Family("swin", _NAMES, _plan, _canonical, "Swin Transformer", _OPTIONS)
