"""What the Vision Transformers of several families share: sizes that no tensor tells, relatives, and the reference.

The names are timm's; the canonical names of the families `vit` and `dinov2` are the same.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ...checkpoints.finding.modules import as_mapping, without_nodes
from ..assumptions import Assumption
from ..encoders.stated import own_config, stated_numbers, stated_of_width, stated_values
from .family import EncoderOptions, FileTensors, Images
from .inputs import image_inputs
from .layers import ACTIVATIONS, Tensors, attention, layer_norm, linear, maybe, query_key_value, tensor
from .moves import Move, made

EPS = 1e-6  # of timm, torchvision, DeiT, DINO, MAE, MoCo v3 and DINOv2
_HEAD = 64  # channels a head, in all published networks but those of _HEADS
_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}  # width → heads: so400m, ViT-H, ViT-g, ViT-G
# What an architecture is called, with its width → heads. The width must agree: people change it and keep the name.
_PUBLISHED = {
    ("tiny", 192): 3, ("small", 384): 6, ("base", 768): 12, ("large", 1024): 16, ("huge", 1280): 16,
    ("giant", 1408): 16, ("giant", 1536): 24, ("gigantic", 1664): 16,
}  # fmt: skip
_SIZE = re.compile(r"gigantic|giant|huge|large|base|small|tiny")
_MOCO = re.compile(r"(?:^|\.)(?:base|momentum)_encoder(?:\.|$)")
_MOCO_SMALL = (384, 12)  # width and heads of MoCo v3's vit_small, where all others have 6
_AMONG = ", as one of the networks in the file's arguments has,"
_IMAGE_SIZE = ("img_size", "image_size", "input_size")
_IMAGENET = Images(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# Pattern of a name → the relative that has such a tensor. The first that matches is told.
_RELATIVES = (
    (r"patch_embed\.(?:backbone\.|proj\.\d+\.)", "a hybrid ViT, with several convolutions before its blocks"),
    (r"norm_pre\.", "a ViT with a norm before its blocks (norm_pre), as timm's of CLIP"),
    (r"neck\.\d|.*\.rel_pos_[hw]$", "an image encoder of SAM"),
    (r"blocks\.\d+\.attn\.q_proj\.", "an EVA"),
    (r".*\.mlp\.(?:w1|fc1_g)\.weight$", "a ViT with gated MLPs of separate matrices (SwiGLU), as EVA and AIMv2"),
    (r"rope|storage_tokens$", "a ViT with rotary positions, as DINOv3"),
    (r"blocks_token_only\.|.*\.attn\.proj_[lw]\.", "a CaiT"),
    (r".*(?:relative_position|rel_pos)|.*\.attn\.[qv]_bias$", "a BEiT or a relative of it"),
    (r".*\.attn\.[qk]_norm\.", "a ViT with norms of query and key (qk_norm)"),
    (r".*\.(?:attn|mlp)\.norm\.", "a ViT with norms within its blocks"),
    (r"attn_pool\.", "a ViT with attention pooling, as SigLIP"),
)


@dataclass(frozen=True)
class Choices:
    """What no tensor of a ViT tells.

    Args:
        heads: of the attention.
        eps: of all norms.
        act: the activation of the MLPs, by transformers' name.
    """

    heads: int
    eps: float
    act: str


@dataclass(frozen=True)
class Patches:
    """How images are cut.

    Args:
        rows: of patches.
        columns: of patches.
        height: of a patch, in pixels.
        width: of a patch.
        channels: of an image.
    """

    rows: int
    columns: int
    height: int
    width: int
    channels: int

    @property
    def is_square(self) -> bool:
        """Whether the images are."""
        return self.rows * self.height == self.columns * self.width

    def settings(self) -> dict[str, object]:
        """The arguments of transformers' configurations: one number for a square, else height and width."""
        image, patch = (self.rows * self.height, self.columns * self.width), (self.height, self.width)
        return {
            "image_size": image[0] if self.is_square else list(image),
            "patch_size": patch[0] if patch[0] == patch[1] else list(patch),
            "num_channels": self.channels,
        }

    def inputs(self) -> dict[str, Tensor]:
        """The verification's images."""
        return image_inputs(self.channels, self.rows * self.height, self.columns * self.width)

    def images(self) -> Images | None:
        """How images are prepared. None for those that are not square: no image processor of transformers fits."""
        if not self.is_square:
            return None
        size, kept = self.rows * self.height, _IMAGENET
        return Images(kept.mean, kept.std, size, kept.crop, kept.resample, self.channels)

    def notes(self) -> list[str]:
        """A line for people whose images are not square."""
        if self.is_square:
            return []
        return [f"images are {self.rows * self.height} pixels high and {self.columns * self.width} wide"]


def choices(
    file: FileTensors, options: EncoderOptions, width: int, default_eps: float = EPS, act: str = "gelu"
) -> tuple[Choices, list[Assumption]]:
    """What no tensor tells: from a person, from the file's arguments, or assumed.

    Raises:
        LayoutError: if a person's values are none, or nothing gives a number of heads.
    """
    heads, assumed = _heads(file, options, width)
    eps = options.layer_norm_eps
    own = own_config(file.metadata, width)
    if eps is None and isinstance(told := without_nodes(own.get("layer_norm_eps")), float) and 0 < told < 1:
        eps = told
    if eps is None:
        found = stated_of_width(file.metadata, width, "layer_norm_eps")
        stated = [value for value in found if isinstance(value, float) and 0 < value < 1]
        eps = stated[0] if stated else default_eps
        what = f"an epsilon of {eps:g} in all LayerNorms{_AMONG if stated else ''}"
        assumed.append(Assumption("epsilon", what, ("--layer-norm-eps",)))
    said = [value for value in stated_of_width(file.metadata, width, "hidden_act") if isinstance(value, str)]
    if options.hidden_act is None and said and without_nodes(own.get("hidden_act")) != said[0]:
        assumed.append(Assumption("activation", f"the activation {said[0]}{_AMONG}", ("--hidden-act",)))
    act = options.hidden_act or (said[0] if said else act)
    if act not in ACTIVATIONS:
        raise file.refuse(f"no activation is called {act!r}; say one of {', '.join(ACTIVATIONS)} with --hidden-act")
    return Choices(heads, eps, act), assumed


def _heads(file: FileTensors, options: EncoderOptions, width: int) -> tuple[int, list[Assumption]]:
    if options.attention_heads is not None:
        if len(options.attention_heads) != 1:
            raise file.refuse("it has one tower; give one number to --attention-heads")
        heads = options.attention_heads[0]
        if heads < 1 or width % heads:
            raise file.refuse(f"{heads} heads do not divide its width of {width}; correct --attention-heads")
        return heads, []
    if (told := _told_heads(file, width)) is not None:
        return told, []
    if (number := _some_heads(file, width)) is not None:  # of this network, or of a part beside it
        what = f"{number} attention heads of {width // number} channels{_AMONG}"
        return number, [Assumption("heads", what, ("--attention-heads",))]
    in_moco = bool(_MOCO.search(file.place)) and width == _MOCO_SMALL[0]
    heads = _MOCO_SMALL[1] if in_moco else _HEADS.get(width, width // _HEAD if width % _HEAD == 0 else 0)
    if not heads:
        raise file.refuse(f"nothing tells the number of heads of a width of {width}; say it with --attention-heads")
    what = f"{heads} attention heads of {width // heads} channels{', as MoCo v3,' if in_moco else ''}"
    return heads, [Assumption("heads", what, ("--attention-heads",))]


def _told_heads(file: FileTensors, width: int) -> int | None:
    """The heads that the file tells: in the arguments of its model, or by the name of a published one of this width."""
    if _divides(heads := without_nodes(own_config(file.metadata, width).get("num_attention_heads")), width):
        return cast("int", heads)
    for arguments in map(as_mapping, stated_values(file.metadata, "model_kwargs")):
        if arguments and _divides(heads := without_nodes(arguments.get("num_heads")), width):
            return cast("int", heads)
    for name in stated_values(file.metadata, "arch", "model", "model_name"):
        if not isinstance(name, str) or not re.search("vit|deit", name.lower()):
            continue
        # MoCo v3's vit_small has 12 heads, and DINO's has 6; only DINO's files have further arguments.
        if name == "vit_small" and (_MOCO.search(file.place) or "args" not in file.metadata):
            continue
        if (size := _SIZE.search(name.lower())) and (size[0], width) in _PUBLISHED:
            return _PUBLISHED[size[0], width]
    return None


def _some_heads(file: FileTensors, width: int) -> int | None:
    """A number of heads anywhere among the file's arguments."""
    found = stated_values(file.metadata, "num_heads", "num_attention_heads", "heads", "n_heads")
    return next((cast("int", heads) for heads in found if _divides(heads, width)), None)


def _divides(heads: object, width: int) -> bool:
    return type(heads) is int and heads > 0 and width % heads == 0


def pools_average(file: FileTensors) -> bool:
    """Whether the file's arguments tell that its classifier reads the mean of the patches."""
    arguments = map(as_mapping, stated_values(file.metadata, "model_kwargs"))
    told = [
        *stated_values(file.metadata, "global_pool", "gp"),
        *(without_nodes(each.get("global_pool")) for each in arguments),
    ]
    return any(value is True or value in ("avg", "avgmax", "max") for value in told)


def patches(file: FileTensors, kernel: str, positions: str, special: int) -> tuple[Patches, bool]:
    """How images are cut, and whether the special tokens have positions as well.

    Args:
        file: the tensors.
        kernel: the name of the convolution [D, C, h, w] that embeds the patches.
        positions: the name of the positions [1, N, D].
        special: the number of tokens before those of the patches which may have positions.

    Raises:
        LayoutError: if the positions are of no square, and no argument in the file tells which rectangle.
    """
    _, channels, height, width = file.shape(kernel, 4)
    count = file.shape(positions, 3)[1]
    for grid in (_told_grid, _square_grid):
        for is_all in (True, False):
            if cut := grid(file, count - special if is_all else count, height, width):
                return Patches(*cut, height, width, channels), is_all
    raise file.refuse(
        f"has {count} positions, which are no square of patches with or without {special} more; the size of its images"
        " is not told by the file (no img_size among its arguments)"
    )


def _told_grid(file: FileTensors, count: int, height: int, width: int) -> tuple[int, int] | None:
    for size in stated_numbers(file.metadata, *_IMAGE_SIZE):
        if len(size) >= 2:
            rows, columns = int(size[-2]) // height, int(size[-1]) // width
            if rows > 0 and rows * columns == count:
                return rows, columns
    return None


def _square_grid(file: FileTensors, count: int, height: int, width: int) -> tuple[int, int] | None:
    pixels = count * height * width
    side = isqrt(max(pixels, 0))
    if side and side * side == pixels and side % height == side % width == 0:
        return side // height, side // width
    side = isqrt(max(count, 0))
    return (side, side) if side and side * side == count else None


def refuse_relatives(file: FileTensors, kind: str) -> None:
    """Refuse the relatives of ViT that transformers' class cannot hold, by their names.

    Raises:
        LayoutError: which names the relative.
    """
    names = file.shapes
    if len(names.get("patch_embed.proj.weight", ())) == 5:
        raise file.refuse(f"a ViT of videos (VideoMAE), whose patches have a duration, which {kind} cannot hold")
    for pattern, relative in _RELATIVES:
        if any(re.match(pattern, name) for name in names):
            raise file.refuse(f"{relative}, which {kind} cannot hold")
    if "norm.weight" not in names and any(name.startswith("fc_norm.") for name in names):
        raise file.refuse(f"a global-pooled ViT without final norm (fc_norm instead), which {kind} cannot hold")
    for name, what in (("cls_token", "a class token"), ("pos_embed", "learnt positions")):
        if name not in names:
            raise file.refuse(f"a ViT without {what} ({name}), which {kind} cannot hold")


def class_token_pooler(prefix: str, width: int) -> Iterator[Move]:
    """A pooler that gives the class token as it is, with `pooler_act` "linear". AutoModel builds one always."""
    yield made(f"{prefix}pooler.dense.weight", "identity", (width, width))
    yield made(f"{prefix}pooler.dense.bias", "zeros", (width,))


def special_tokens(tensors: Tensors, x: Tensor, *names: str) -> Tensor:
    """Tokens [1, n, D] in front of those of some images [B, N, D]."""
    return torch.cat([*(tensor(tensors, name, x).expand(len(x), -1, -1) for name in names), x], dim=1)


def embedded(tensors: Tensors, name: str, images: Tensor) -> Tensor:
    """Patches that do not overlap, embedded: images [B, C, H, W] → [B, N, D]."""
    kernel = tensor(tensors, f"{name}.weight", images)
    embedding = F.conv2d(images, kernel, maybe(tensors, f"{name}.bias", images), stride=kernel.shape[2:])
    return embedding.flatten(2).transpose(1, 2)


def block(tensors: Tensors, name: str, x: Tensor, chosen: Choices) -> Tensor:
    """One block with timm's names: layer scale where there is one, a gated MLP where its first matrix is doubled."""
    y = layer_norm(tensors, f"{name}.norm1", x, chosen.eps)
    query, key, value = query_key_value(tensors, f"{name}.attn", y)
    y = linear(tensors, f"{name}.attn.proj", attention(query, key, value, chosen.heads))
    x = x + _scaled(tensors, f"{name}.ls1.gamma", y)
    y = layer_norm(tensors, f"{name}.norm2", x, chosen.eps)
    first, last = ("w12", "w3") if f"{name}.mlp.w3.weight" in tensors else ("fc1", "fc2")
    if f"{name}.mlp.gate.weight" in tensors:
        y = torch.cat([linear(tensors, f"{name}.mlp.{part}", y) for part in ("gate", "up")], dim=-1)
    else:
        y = linear(tensors, f"{name}.mlp.{first}", y)
    if y.shape[-1] == 2 * tensors[f"{name}.mlp.{last}.weight"].shape[1]:
        gate, up = y.chunk(2, dim=-1)
        y = F.silu(gate) * up
    else:
        y = ACTIVATIONS[chosen.act](y)
    return x + _scaled(tensors, f"{name}.ls2.gamma", linear(tensors, f"{name}.mlp.{last}", y))


def _scaled(tensors: Tensors, name: str, y: Tensor) -> Tensor:
    scale = maybe(tensors, name, y)
    return y if scale is None else y * scale
