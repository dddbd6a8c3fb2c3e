"""How transformers names its ResNet, ConvNeXt (V2), Swin and DINOv2, in files that other trainers save of its models.

Each name becomes the family's own, so that one plan and one reference serve all ways of naming. transformers 4 and the
files that `save_pretrained` writes have the old names (`attention.self.query`), and the models of transformers 5 have
the new ones in memory (`attention.q_proj`). ViT's are in `vit_transformers.py`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...checkpoints.finding.networks import FamilyNames
from ...checkpoints.finding.wrappers import WRAPPERS
from ..assumptions import Assumption
from ..encoders.stated import own_config, stated_of_width, stated_values
from .family import FileTensors
from .layers import ACTIVATIONS

_ENDS = r"\.(?:weight|bias)"
_CLASSIFIER = rf"classifier{_ENDS}"
AMONG = ", as one of the networks in the file's arguments has,"
STAGE_NORMS = "hidden_states_norms."  # of the classes called ...Backbone, for detectors


@dataclass(frozen=True)
class Naming:
    """Transformers' names of a family.

    Args:
        stem: the end of the name of the network's first kernel, which no other way of naming has.
        own: the name that the family has for that kernel.
        canonical: a name → the family's own; names of other ways stay as they are.
        names: how the files name their tensors.
    """

    stem: str
    own: str
    canonical: Callable[[str], str]
    names: FamilyNames

    def is_of(self, file: FileTensors) -> bool:
        """Whether a file has transformers' names."""
        parts = file.keys.get(self.own, "").split(".")
        # Some averages are saved under names without dots.
        return "".join(part for part in parts if part not in WRAPPERS).endswith(self.stem.replace(".", ""))


def _naming(
    family: str,
    prefix: str,
    stem: str,
    own: str,
    pattern: str,
    marks: Sequence[str],
    renamed: Sequence[tuple[str, str]],
) -> Naming:
    """Transformers' names of a family: the encoder's may begin with a prefix, as beside a classifier."""
    start = rf"(?:{prefix}\.)?"
    rules = [(re.compile(start + theirs), ours) for theirs, ours in renamed]

    def canonical(name: str) -> str:
        for rule, ours in rules:
            if match := rule.match(name):
                return match.expand(ours) + name[match.end() :]
        return name

    found = FamilyNames(
        family,
        re.compile(rf"{start}(?:{pattern}|{re.escape(STAGE_NORMS)}\w+{_ENDS})|{_CLASSIFIER}"),
        tuple(re.compile(start + mark) for mark in marks),
    )
    return Naming(stem, own, canonical, found)


def _resnet() -> Naming:
    renamed = [
        (r"embedder\.embedder\.convolution\.", "conv1."),
        (r"embedder\.embedder\.normalization\.", "bn1."),
        # RT-DETR's ResNet has several convolutions here, as a ResNet-D.
        (r"embedder\.embedder\.(\d+)\.convolution\.", r"conv1.\1."),
    ]
    for stage in range(4):
        block = rf"encoder\.stages\.{stage}\.layers\.(\d+)\."
        ours = rf"layer{stage + 1}.\1."
        renamed += [(rf"{block}shortcut\.convolution\.", f"{ours}downsample.0.")]
        renamed += [(rf"{block}shortcut\.normalization\.", f"{ours}downsample.1.")]
        for number in range(3):
            renamed += [(rf"{block}layer\.{number}\.convolution\.", f"{ours}conv{number + 1}.")]
            renamed += [(rf"{block}layer\.{number}\.normalization\.", f"{ours}bn{number + 1}.")]
    layer = r"(?:convolution|normalization)\.\w+"
    return _naming(
        "resnet",
        "(?:resnet|regnet)",
        "embedder.embedder.convolution.weight",
        "conv1.weight",
        rf"embedder\.embedder\.(?:\d\.)?{layer}|encoder\.stages\.\d+\.layers\.\d+\.(?:shortcut|layer\.\d)\.{layer}"
        rf"|encoder\.stages\.\d+\.layers\.\d+\.(?:layer\.\d\.attention\.\d{_ENDS}|shortcut\.1\.{layer})"
        rf"|classifier\.1{_ENDS}",
        (
            r"embedder\.embedder\.(?:0\.)?convolution\.weight$",
            r"encoder\.stages\.0\.layers\.0\.layer\.0\.convolution\.",
        ),
        renamed,
    )


def _convnext(family: str, block: str, mark: str) -> Naming:
    theirs = r"encoder\.stages\.(\d+)\.layers\.(\d+)\."
    return _naming(
        family,
        family,
        "embeddings.patch_embeddings.weight",
        "downsample_layers.0.0.weight",
        rf"(?:embeddings\.(?:patch_embeddings|layernorm)|layernorm){_ENDS}"
        rf"|encoder\.stages\.\d+\.(?:downsampling_layer\.[01]{_ENDS}|layers\.\d+\.(?:{block}"
        rf"|(?:dwconv|layernorm|pwconv[12]){_ENDS}))",
        (
            r"embeddings\.patch_embeddings\.weight$",
            r"encoder\.stages\.0\.layers\.0\.dwconv\.weight$",
            rf"encoder\.stages\.0\.layers\.0\.{mark}",
        ),
        [
            (r"embeddings\.patch_embeddings\.", "downsample_layers.0.0."),
            (r"embeddings\.layernorm\.", "downsample_layers.0.1."),
            (r"encoder\.stages\.([1-9]\d*)\.downsampling_layer\.", r"downsample_layers.\1."),
            (rf"{theirs}layer_scale_parameter$", r"stages.\1.\2.gamma"),
            (rf"{theirs}layernorm\.", r"stages.\1.\2.norm."),
            (rf"{theirs}grn\.weight$", r"stages.\1.\2.grn.gamma"),
            (rf"{theirs}grn\.bias$", r"stages.\1.\2.grn.beta"),
            (theirs, r"stages.\1.\2."),
            (r"layernorm\.(?=weight|bias)", "norm."),
        ],
    )


def _swin() -> Naming:
    theirs, ours = r"encoder\.layers\.(\d+)\.blocks\.(\d+)\.", r"layers.\1.blocks.\2."
    block = (
        ("attention.self.query.", "attn.query."),
        ("attention.self.key.", "attn.key."),
        ("attention.self.value.", "attn.value."),
        ("attention.output.dense.", "attn.proj."),
        ("attention.q_proj.", "attn.query."),
        ("attention.k_proj.", "attn.key."),
        ("attention.v_proj.", "attn.value."),
        ("attention.o_proj.", "attn.proj."),
        ("attention.self.continuous_position_bias_mlp.", "attn.cpb_mlp."),
        ("attention.self.", "attn."),
        ("attention.relative_position_bias.", "attn."),
        ("layernorm_before.", "norm1."),
        ("layernorm_after.", "norm2."),
        ("intermediate.dense.", "mlp.fc1."),
        ("output.dense.", "mlp.fc2."),
        ("mlp.", "mlp."),
    )
    return _naming(
        "swin",
        "(?:swin|swinv2)",
        "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.weight",
        rf"embeddings\.(?:(?:patch_embeddings\.projection|norm){_ENDS}|position_embeddings|mask_token)"
        rf"|encoder\.layers\.\d+\.(?:downsample\.(?:norm|reduction){_ENDS}"
        rf"|blocks\.\d+\.(?:attention|layernorm_(?:before|after)|intermediate|output|mlp)\..+)|layernorm{_ENDS}"
        rf"|decoder\.0{_ENDS}",
        (
            r"embeddings\.patch_embeddings\.projection\.weight$",
            r"encoder\.layers\.0\.blocks\.0\.layernorm_before\.",
            r"encoder\.layers\.0\.blocks\.0\.attention\..*(?:relative_position_bias_table|logit_scale)$",
        ),
        [
            (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"embeddings\.norm\.", "patch_embed.norm."),
            (r"embeddings\.position_embeddings$", "absolute_pos_embed"),
            (r"embeddings\.mask_token$", "mask_token"),
            *((theirs + re.escape(old), ours + new) for old, new in block),
            (r"encoder\.layers\.(\d+)\.downsample\.", r"layers.\1.downsample."),
            (r"layernorm\.(?=weight|bias)", "norm."),
        ],
    )


def _dinov2() -> Naming:
    theirs, ours = r"encoder\.layer\.(\d+)\.", r"blocks.\1."
    block = (
        ("attention.attention.query.", "attn.query."),
        ("attention.attention.key.", "attn.key."),
        ("attention.attention.value.", "attn.value."),
        ("attention.output.dense.", "attn.proj."),
        ("attention.q_proj.", "attn.query."),
        ("attention.k_proj.", "attn.key."),
        ("attention.v_proj.", "attn.value."),
        ("attention.o_proj.", "attn.proj."),
        ("layer_scale1.lambda1", "ls1.gamma"),
        ("layer_scale2.lambda1", "ls2.gamma"),
        ("mlp.weights_in.", "mlp.w12."),
        ("mlp.weights_out.", "mlp.w3."),
        ("mlp.gate_proj.", "mlp.gate."),
        ("mlp.up_proj.", "mlp.up."),
        ("mlp.down_proj.", "mlp.w3."),
        ("", ""),
    )
    return _naming(
        "dinov2",
        "(?:dinov2|dinov2_with_registers)",
        "embeddings.patch_embeddings.projection.weight",
        "patch_embed.proj.weight",
        rf"embeddings\.(?:cls_token|position_embeddings|mask_token|register_tokens|patch_embeddings\.projection{_ENDS})"
        rf"|encoder\.layer\.\d+\.(?:(?:norm[12]|attention|mlp)\..+|layer_scale[12]\.lambda1)|layernorm{_ENDS}",
        (
            r"embeddings\.patch_embeddings\.projection\.weight$",
            r"encoder\.layer\.\d+\.norm1\.",
            r"encoder\.layer\.\d+\.layer_scale1\.lambda1$",
        ),
        [
            (r"embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
            (r"embeddings\.position_embeddings$", "pos_embed"),
            (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            *((theirs + re.escape(old), ours + new) for old, new in block),
            (r"layernorm\.(?=weight|bias)", "norm."),
        ],
    )


RESNET_NAMING = _resnet()
CONVNEXT_NAMING = _convnext("convnext", "layer_scale_parameter", "pwconv1")
CONVNEXTV2_NAMING = _convnext("convnextv2", rf"grn{_ENDS}", r"grn\.weight$")
SWIN_NAMING = _swin()
DINOV2_NAMING = _dinov2()


def stated_activation(file: FileTensors, width: int) -> tuple[str | None, list[Assumption]]:
    """The activation that a configuration in the file states, with what is to be told of it.

    Raises:
        LayoutError: if no such activation is known.
    """
    found = [value for value in stated_of_width(file.metadata, width, "hidden_act") if isinstance(value, str)]
    if not found:
        return None, []
    if found[0] not in ACTIVATIONS:
        raise file.refuse(f"no activation is called {found[0]!r}; say one of {', '.join(ACTIVATIONS)} by --hidden-act")
    if own_config(file.metadata, width).get("hidden_act") == found[0]:
        return found[0], []
    what = f"the activation {found[0]}{AMONG}"
    return found[0], [Assumption("activation", what, ("--hidden-act",))]


def stated_epsilon(file: FileTensors, width: int) -> float | None:
    """The epsilon of LayerNorms that a configuration in the file states."""
    found = stated_of_width(file.metadata, width, "layer_norm_eps")
    return next((value for value in found if isinstance(value, float) and 0 < value < 1), None)


def states(file: FileTensors, name: str) -> bool:
    """Whether a configuration in the file says yes to something."""
    return any(value is True for value in stated_values(file.metadata, name))
