"""ConvNeXt: the paper's own names, timm's, torchvision's and transformers'.

Liu et al., A ConvNet for the 2020s, 2022. All LayerNorms have an epsilon of 1e-6, in the paper's code, in torchvision
and in timm (but for the XXLarge), and fixed in transformers, but for the last one. `convnextv2.py` shares what both
generations have.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ...checkpoints.finding.networks import FamilyNames
from ..assumptions import Assumption
from ..encoders.stated import own_config
from .family import EncoderOptions, Family, FileTensors, Images, Plan, block_count
from .inputs import image_inputs
from .layers import ACTIVATIONS, Tensors, conv, layer_norm, linear, tensor
from .moves import Move, made, reshaped, same
from .transformers_names import (
    AMONG,
    CONVNEXT_NAMING,
    CONVNEXTV2_NAMING,
    STAGE_NORMS,
    Naming,
    stated_activation,
    stated_epsilon,
)

EPS = 1e-6
_CONFIGURED_EPS = 1e-12  # of the last norm of transformers' models
_PAIR = ("weight", "bias")
_NAMES = (
    FamilyNames(
        "convnext",
        re.compile(
            r"downsample_layers\.\d+\.\d\.(?:weight|bias)|(?:norm|head)\.(?:weight|bias)"
            r"|stages\.\d+\.\d+\.(?:gamma|(?:dwconv|norm|pwconv[12])\.(?:weight|bias))"
        ),
        (
            re.compile(r"downsample_layers\.0\.0\.weight$"),
            re.compile(r"stages\.0\.0\.dwconv\.weight$"),
            re.compile(r"stages\.0\.0\.pwconv1\.weight$"),
        ),
    ),
    FamilyNames(
        "convnext",
        re.compile(
            r"stem\.\d\.(?:weight|bias)|(?:norm_pre|head\.(?:norm|fc|pre_logits\.fc))\.(?:weight|bias)"
            r"|stages\.\d+\.downsample\.\d\.(?:weight|bias)"
            r"|stages\.\d+\.blocks\.\d+\.(?:gamma|(?:conv_dw|norm|mlp\.fc[12])\.(?:weight|bias))"
        ),
        (
            re.compile(r"stem\.0\.weight$"),
            re.compile(r"stages\.0\.blocks\.0\.conv_dw\.weight$"),
            re.compile(r"stages\.0\.blocks\.0\.mlp\.fc1\.weight$"),
        ),
    ),
    FamilyNames(
        "convnext",
        re.compile(
            r"features\.[02468]\.[01]\.(?:weight|bias)|classifier\.[02]\.(?:weight|bias)"
            r"|features\.[1357]\.\d+\.(?:layer_scale|block\.[0235]\.(?:weight|bias))"
        ),
        (
            re.compile(r"features\.0\.0\.weight$"),
            re.compile(r"features\.1\.0\.block\.0\.weight$"),
            re.compile(r"features\.1\.0\.layer_scale$"),
        ),
    ),
    CONVNEXT_NAMING.names,
)
_TORCHVISION = {
    r"block\.0": "dwconv",
    r"block\.2": "norm",
    r"block\.3": "pwconv1",
    r"block\.5": "pwconv2",
    "layer_scale": "gamma",
}
# timm's and torchvision's names → the paper's. A first stage that downsamples keeps its name: the stem has the other.
_RENAMED = (
    (re.compile(r"stem\."), "downsample_layers.0."),
    (re.compile(r"stages\.([1-9]\d*)\.downsample\."), r"downsample_layers.\1."),
    (re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.conv_dw\."), r"stages.\1.\2.dwconv."),
    (re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.fc([12])\."), r"stages.\1.\2.pwconv\3."),
    (re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.grn\.weight$"), r"stages.\1.\2.grn.gamma"),
    (re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.mlp\.grn\.bias$"), r"stages.\1.\2.grn.beta"),
    (re.compile(r"stages\.(\d+)\.blocks\."), r"stages.\1."),
    (re.compile(r"head\.norm\."), "norm."),
    (re.compile(r"head\.fc\."), "head."),
    *((re.compile(rf"features\.{2 * stage}\."), f"downsample_layers.{stage}.") for stage in range(4)),
    *(
        (re.compile(rf"features\.{2 * stage + 1}\.(\d+)\.{theirs}\b"), rf"stages.{stage}.\1.{ours}")
        for stage in range(4)
        for theirs, ours in _TORCHVISION.items()
    ),
    (re.compile(r"classifier\.0\."), "norm."),
    (re.compile(r"classifier\.2\."), "head."),
)
_HIDDEN_LAYER = "head.pre_logits.fc.weight"
_XXLARGE = ([3, 4, 30, 3], 384)  # depths, and the width of the first stage


@dataclass(frozen=True)
class Generation:
    """What differs between ConvNeXt and ConvNeXt V2.

    Args:
        label: for people.
        classes: how transformers' classes begin.
        prefix: of the encoder's tensors beside a classifier, in transformers.
        naming: transformers' names.
        response_norm: whether the blocks have a global response normalisation, in place of a layer scale.
    """

    label: str
    classes: str
    prefix: str
    naming: Naming
    response_norm: bool = False


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network.

    Args:
        patch: the stem's kernel and stride.
        depths: the number of blocks of each stage.
        widths: the channels of each stage.
    """

    patch: int
    depths: list[int]
    widths: list[int]


def canonical(name: str) -> str:
    """The paper's name of a tensor that is named as in timm or torchvision; any other as it is."""
    for pattern, replacement in _RENAMED:
        if pattern.match(name):
            return pattern.sub(replacement, name, count=1)
    return CONVNEXTV2_NAMING.canonical(CONVNEXT_NAMING.canonical(name))


def plan_convnext(file: FileTensors, options: EncoderOptions, generation: Generation) -> Plan:
    """The plan of a network of either generation.

    Raises:
        LayoutError: for what transformers' class cannot hold.
    """
    _, channels, patch, _ = file.shape("downsample_layers.0.0.weight", 4)
    file.shape("stages.0.0.dwconv.weight", 4)
    _refuse_relatives(file, generation)
    stages = range(block_count(file.shapes, "stages."))
    sizes = Sizes(
        patch=patch,
        depths=[block_count(file.shapes, f"stages.{stage}.") for stage in stages],
        widths=[file.shape(f"stages.{stage}.0.dwconv.weight", 4)[0] for stage in stages],
    )
    is_of_transformers = generation.naming.is_of(file)
    if is_of_transformers:
        activation, eps, assumed = _chosen_of_transformers(file, options, sizes)
    else:
        activation, eps, assumed = _settled(file, options, generation, sizes), EPS, []
    its_head = "classifier" if is_of_transformers else "head"
    head = its_head if f"{its_head}.weight" in file.shapes and not options.without_head else ""
    if head and _HIDDEN_LAYER in file.shapes:
        raise file.refuse(
            f"a {generation.label} whose classifier has a hidden layer (head.pre_logits), which"
            f" {generation.classes}ForImageClassification cannot hold; --without-head converts all but the classifier"
        )
    is_backbone = not head and "norm.weight" not in file.shapes
    settings: dict[str, object] = {
        "num_channels": channels,
        "patch_size": patch,
        "num_stages": len(sizes.depths),
        "hidden_sizes": sizes.widths,
        "depths": sizes.depths,
        "hidden_act": activation,
        "layer_norm_eps": eps,
    }
    if not generation.response_norm:
        # The value itself is that of a new network; zero means that there is no layer scale.
        settings["layer_scale_init_value"] = 1e-6 if _has_layer_scale(file) else 0.0
    if head:
        settings["num_labels"] = file.shape(f"{head}.weight", 2)[0]

    def reference(tensors: Tensors, inputs: Tensors) -> dict[str, Tensor]:
        return _forward(tensors, inputs["pixel_values"], sizes, activation, eps, head)

    return Plan(
        architecture=f"{generation.classes}{'ForImageClassification' if head else 'Model'}",
        settings=settings,
        moves=list(_moves(file, sizes, generation, head, is_backbone)),
        reference=reference,
        inputs=image_inputs(channels, patch * 2 ** (len(sizes.depths) - 1) * 3),
        dropped=[name for name in file.shapes if name.startswith(f"{its_head}.")] if not head else [],
        assumed=assumed,
        untrained=["layernorm"] if is_backbone else [],
        images=Images((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), None, channels=channels),
    )


def _refuse_relatives(file: FileTensors, generation: Generation) -> None:
    """Refuse the relatives that transformers' class cannot hold, by their names."""
    model = f"{generation.classes}Model"

    def has(pattern: str) -> bool:
        return any(re.match(pattern, name) for name in file.shapes)

    if has(r"downsample_layers\.0\.[23]\.") or len(file.shapes.get("downsample_layers.0.1.weight", ())) > 1:
        raise file.refuse(
            f"a {generation.label} with an overlapping stem of two convolutions, which {model} cannot hold"
        )
    if has(r"stages\.0\.downsample\."):
        raise file.refuse(f"a {generation.label} whose first stage downsamples, which {model} cannot hold")
    if has(r"norm_pre\."):
        raise file.refuse(f"a {generation.label} that normalises before it pools (norm_pre), which {model} cannot hold")
    if has(r"norms\.\d"):
        raise file.refuse("a ConvNeXt of DINOv3 (norms), which is transformers' DINOv3ConvNextModel")
    if has(re.escape(STAGE_NORMS)):
        raise file.refuse(
            f"a {generation.label} with a norm for each stage (a detector's backbone), which {model} cannot hold;"
            f" --ignore '*{STAGE_NORMS}*' converts the rest"
        )
    if has(r"norm\d\.(?:weight|bias)$"):
        raise file.refuse(
            f"a {generation.label} with a norm for each stage (a detector's backbone), which {model} cannot hold;"
            " --ignore '*norm?.*' converts the rest"
        )
    if has(r"stages\.\d+\.\d+\.(?:xca|convs)\."):
        raise file.refuse(f"an EdgeNeXt, whose blocks have attention, and which {model} cannot hold")
    if has(r"stages\.\d+\.\d+\.shortcut\."):
        raise file.refuse(f"a {generation.label} whose blocks have shortcuts with weights, which {model} cannot hold")
    if "stages.0.0.norm.weight" in file.shapes and "stages.0.0.norm.bias" not in file.shapes:
        raise file.refuse(f"a {generation.label} with norms without a bias (RMSNorm), which {model} cannot hold")


def _settled(file: FileTensors, options: EncoderOptions, generation: Generation, sizes: Sizes) -> str:
    """The activation; refuses an epsilon that transformers' class does not have."""
    model = f"{generation.classes}Model"
    if options.layer_norm_eps not in (None, EPS):
        raise file.refuse(
            f"{model} has an epsilon of {EPS} in the LayerNorms of its blocks, and cannot have"
            f" {options.layer_norm_eps}; leave --layer-norm-eps out"
        )
    if (sizes.depths, sizes.widths[0]) == _XXLARGE and options.layer_norm_eps is None and not generation.response_norm:
        raise file.refuse(
            f"a ConvNeXt-XXLarge, which timm trains with an epsilon of 1e-05 in its LayerNorms, and {model} has {EPS};"
            f" if this one was trained so, say --layer-norm-eps {EPS}"
        )
    activation = options.hidden_act or "gelu"
    if activation not in ACTIVATIONS:
        raise file.refuse(f"--hidden-act {activation} is not known; choose one of {', '.join(ACTIVATIONS)}")
    return activation


def _chosen_of_transformers(
    file: FileTensors, options: EncoderOptions, sizes: Sizes
) -> tuple[str, float, list[Assumption]]:
    """The activation, and the epsilon of the last norm, which alone follows a configuration of transformers.

    Raises:
        LayoutError: if there is no such activation.
    """
    stated, assumed = stated_activation(file, sizes.widths[-1]) if options.hidden_act is None else (None, [])
    activation = options.hidden_act or stated or "gelu"
    if activation not in ACTIVATIONS:
        raise file.refuse(f"--hidden-act {activation} is not known; choose one of {', '.join(ACTIVATIONS)}")
    if options.layer_norm_eps is not None:
        return activation, options.layer_norm_eps, assumed
    told = stated_epsilon(file, sizes.widths[-1])
    eps = told or _CONFIGURED_EPS
    if told and own_config(file.metadata, sizes.widths[-1]).get("layer_norm_eps") == told:
        return activation, eps, assumed
    what = f"an epsilon of {eps:g} in the last LayerNorm{AMONG if told else ', as in transformers,'}"
    return activation, eps, [*assumed, Assumption("epsilon", what, ("--layer-norm-eps",))]


def _has_layer_scale(file: FileTensors) -> bool:
    return any(re.fullmatch(r"stages\.\d+\.\d+\.gamma", name) for name in file.shapes)


def _moves(file: FileTensors, sizes: Sizes, generation: Generation, head: str, is_backbone: bool) -> Iterator[Move]:
    prefix = f"{generation.prefix}." if head else ""

    def pair(source: str, target: str) -> Iterator[Move]:
        yield from (same(f"{source}.{kind}", f"{target}.{kind}") for kind in _PAIR)

    yield from pair("downsample_layers.0.0", f"{prefix}embeddings.patch_embeddings")
    yield from pair("downsample_layers.0.1", f"{prefix}embeddings.layernorm")
    for stage, depth in enumerate(sizes.depths):
        target = f"{prefix}encoder.stages.{stage}"
        if stage:
            yield from pair(f"downsample_layers.{stage}.0", f"{target}.downsampling_layer.0")
            yield from pair(f"downsample_layers.{stage}.1", f"{target}.downsampling_layer.1")
        for block in range(depth):
            yield from _block_moves(file, f"stages.{stage}.{block}", f"{target}.layers.{block}", generation)
    if is_backbone:
        yield made(f"{prefix}layernorm.weight", "ones", (sizes.widths[-1],))
        yield made(f"{prefix}layernorm.bias", "zeros", (sizes.widths[-1],))
    else:
        yield from pair("norm", f"{prefix}layernorm")
    if head:
        yield from pair(head, "classifier")


def _block_moves(file: FileTensors, source: str, target: str, generation: Generation) -> Iterator[Move]:
    for theirs, ours in (("dwconv", "dwconv"), ("norm", "layernorm")):
        yield from (same(f"{source}.{theirs}.{kind}", f"{target}.{ours}.{kind}") for kind in _PAIR)
    for name in ("pwconv1", "pwconv2"):
        shape = file.shapes.get(f"{source}.{name}.weight", ())
        yield _squeezed(f"{source}.{name}.weight", f"{target}.{name}.weight", shape, 2)
        yield same(f"{source}.{name}.bias", f"{target}.{name}.bias")
    if generation.response_norm:
        for theirs, ours in (("gamma", "weight"), ("beta", "bias")):
            shape = file.shapes.get(f"{source}.grn.{theirs}", ())
            yield _squeezed(f"{source}.grn.{theirs}", f"{target}.grn.{ours}", shape, 4)
    elif _has_layer_scale(file):
        shape = file.shapes.get(f"{source}.gamma", ())
        yield _squeezed(f"{source}.gamma", f"{target}.layer_scale_parameter", shape, 1)


def _squeezed(source: str, target: str, shape: tuple[int, ...], dimensions: int) -> Move:
    """A tensor with more dimensions of one at its end (as convolutions have) or fewer at its start (timm's vectors)."""
    more = len(shape) - dimensions
    if more > 0 and set(shape[dimensions:]) == {1}:
        return reshaped(source, target, shape, shape[:dimensions])
    if more < 0 and len(shape) == 1:
        return reshaped(source, target, shape, (1,) * -more + shape)
    return same(source, target)


def _forward(tensors: Tensors, x: Tensor, sizes: Sizes, activation: str, eps: float, head: str) -> dict[str, Tensor]:
    x = _channel_norm(tensors, "downsample_layers.0.1", conv(tensors, "downsample_layers.0.0", x, stride=sizes.patch))
    for stage, depth in enumerate(sizes.depths):
        if stage:
            name = f"downsample_layers.{stage}"
            x = conv(tensors, f"{name}.1", _channel_norm(tensors, f"{name}.0", x), stride=2)
        for block in range(depth):
            x = x + _branch(tensors, f"stages.{stage}.{block}", x, activation)
    pooled = x.mean((2, 3))
    if "norm.weight" in tensors:
        pooled = layer_norm(tensors, "norm", pooled, eps)
    else:
        pooled = F.layer_norm(pooled, pooled.shape[-1:], eps=eps)
    outputs = {"last_hidden_state": x, "pooler_output": pooled}
    if head:
        outputs["logits"] = linear(tensors, head, pooled)
    return outputs


def _branch(tensors: Tensors, name: str, x: Tensor, activation: str) -> Tensor:
    """What a block adds to its input [B, C, H, W]."""
    x = conv(tensors, f"{name}.dwconv", x, padding=3, groups=x.shape[1]).permute(0, 2, 3, 1)
    x = _pointwise(tensors, f"{name}.pwconv1", layer_norm(tensors, f"{name}.norm", x, EPS))
    x = ACTIVATIONS[activation](x)
    if f"{name}.grn.gamma" in tensors:
        # Woo et al., ConvNeXt V2, 2023: the norm of each channel over the image, relative to the other channels'.
        norms = x.square().sum((1, 2), keepdim=True).sqrt()
        scaled = x * (norms / (norms.mean(-1, keepdim=True) + 1e-6))
        gamma, beta = (tensor(tensors, f"{name}.grn.{kind}", x).flatten() for kind in ("gamma", "beta"))
        x = gamma * scaled + beta + x
    x = _pointwise(tensors, f"{name}.pwconv2", x)
    if f"{name}.gamma" in tensors:
        x = x * tensor(tensors, f"{name}.gamma", x).flatten()
    return x.permute(0, 3, 1, 2)


def _pointwise(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """A linear layer [out, in], or a convolution [out, in, 1, 1], over the last dimension."""
    return F.linear(x, tensor(tensors, f"{name}.weight", x).flatten(1), tensor(tensors, f"{name}.bias", x))


def _channel_norm(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """LayerNorm over the channels of [B, C, H, W]."""
    return layer_norm(tensors, name, x.permute(0, 2, 3, 1), EPS).permute(0, 3, 1, 2)


_FIRST = Generation("ConvNeXt", "ConvNext", "convnext", CONVNEXT_NAMING)


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    return plan_convnext(file, options, _FIRST)


_OPTIONS = ("hidden_act", "layer_norm_eps", "without_head")

CONVNEXT = Family("convnext", _NAMES, _plan, canonical, "ConvNeXt", _OPTIONS)
