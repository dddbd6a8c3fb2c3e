"""ViT and DeiT under transformers' own names, old and new, as other trainers save them.

A part of the family `vit`. Dosovitskiy et al., 2021; Touvron et al., 2021.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ...checkpoints.finding.networks import FamilyNames
from .family import EncoderOptions, FileTensors, Plan, block_count
from .layers import ACTIVATIONS, Tensors, attention, layer_norm, linear, tensor
from .moves import Move, same
from .vit_parts import Choices, choices, class_token_pooler, embedded, patches, special_tokens

_BLOCK = r"(?:encoder\.layer|layers)\.\d+\."
NAMES = (
    FamilyNames(
        "vit",
        re.compile(
            r"(?:(?:vit|deit)\.)?(?:embeddings\.(?:cls_token|position_embeddings|distillation_token|mask_token"
            rf"|patch_embeddings\.projection\.(?:weight|bias))|{_BLOCK}(?:attention|layernorm_(?:before|after)"
            r"|intermediate|output|mlp)\..+|(?:layernorm|pooler\.dense)\.(?:weight|bias))"
            r"|(?:cls_|distillation_)?classifier\.(?:weight|bias)"
        ),
        (
            re.compile(r"(?:(?:vit|deit)\.)?embeddings\.patch_embeddings\.projection\."),
            re.compile(rf"(?:(?:vit|deit)\.)?{_BLOCK}layernorm_before\."),
        ),
    ),
)
_CANONICAL = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"(?:vit|deit)\.(?=(?:embeddings|encoder|layers|layernorm|pooler)\.)", ""),
        (r"encoder\.layer\.(?=\d+\.)", "layers."),
        (r"(layers\.\d+\.)attention\.attention\.query\.", r"\1attention.q_proj."),
        (r"(layers\.\d+\.)attention\.attention\.key\.", r"\1attention.k_proj."),
        (r"(layers\.\d+\.)attention\.attention\.value\.", r"\1attention.v_proj."),
        (r"(layers\.\d+\.)attention\.output\.dense\.", r"\1attention.o_proj."),
        (r"(layers\.\d+\.)intermediate\.dense\.", r"\1mlp.fc1."),
        (r"(layers\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
    )
)
_CLASSIFIERS = ("classifier", "cls_classifier", "distillation_classifier")
_LEFT_OUT = re.compile(r"embeddings\.mask_token|decoder\..+")
_POOLER = "pooler.dense"
_EPS = 1e-12  # of transformers' ViTConfig
_LAYERS = (
    "layernorm_before", "attention.q_proj", "attention.k_proj", "attention.v_proj", "attention.o_proj",
    "layernorm_after", "mlp.fc1", "mlp.fc2",
)  # fmt: skip


def canonical(name: str) -> str:
    """The name in the models of transformers 5, below `vit.`; other names stay as they are."""
    for pattern, new in _CANONICAL:
        if match := pattern.match(name):
            name = match.expand(new) + name[match.end() :]
    return name


def is_named_so(names: Mapping[str, object]) -> bool:
    """Whether canonical names are transformers'."""
    return "embeddings.patch_embeddings.projection.weight" in names


def plan(file: FileTensors, options: EncoderOptions) -> Plan:
    """What becomes of the tensors of a file; see `Family.plan`.

    Raises:
        LayoutError: for what ViTModel cannot hold, by its name.
    """
    _refuse_relatives(file)
    width = file.shape("embeddings.cls_token", 3)[2]
    depth = block_count(file.shapes, "layers.")
    is_distilled = "embeddings.distillation_token" in file.shapes
    special = ("embeddings.cls_token", *(["embeddings.distillation_token"] if is_distilled else []))
    where = "embeddings.position_embeddings"
    cut, has_all = patches(file, "embeddings.patch_embeddings.projection.weight", where, len(special))
    if not has_all:
        raise file.refuse(f"its {where} lack the class token's, which ViTModel has")
    classifiers, dropped = _classifiers(file, options)
    chosen, assumed = choices(file, options, width, _EPS)
    has_pooler = f"{_POOLER}.weight" in file.shapes
    prefix = ("deit." if is_distilled else "vit.") if classifiers else ""
    settings: dict[str, object] = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": chosen.heads,
        "intermediate_size": file.shape("layers.0.mlp.fc1.weight", 2)[0],
        "hidden_act": chosen.act,
        "layer_norm_eps": chosen.eps,
        "qkv_bias": "layers.0.attention.q_proj.bias" in file.shapes,
        "pooler_act": "tanh" if has_pooler else "linear",
        **cut.settings(),
    }
    if has_pooler:
        settings["pooler_output_size"] = file.shape(f"{_POOLER}.weight", 2)[0]
    if classifiers:
        settings["num_labels"] = file.shape(f"{classifiers[0]}.weight", 2)[0]

    def reference(tensors: Tensors, inputs: Tensors) -> dict[str, Tensor]:
        return _forward(tensors, inputs["pixel_values"], depth, chosen, special, classifiers)

    return Plan(
        architecture=_architecture(is_distilled, classifiers),
        settings=settings,
        moves=list(_moves(file, depth, prefix, special, classifiers, width)),
        reference=reference,
        inputs=cut.inputs(),
        dropped=dropped,
        assumed=assumed,
        notes=cut.notes(),
        images=cut.images(),
    )


def _refuse_relatives(file: FileTensors) -> None:
    names = file.shapes
    if len(names["embeddings.patch_embeddings.projection.weight"]) == 5:
        raise file.refuse("a ViT of videos (VideoMAE), whose patches have a duration, which ViTModel cannot hold")
    if any(re.search(r"relative_position|lambda_[12]$", name) for name in names):
        raise file.refuse("a BEiT or a relative of it, which ViTModel cannot hold")
    if any(re.search(r"\.layer_scale[12]\.lambda1$", name) for name in names):
        raise file.refuse("a DINOv2 under transformers' names, which is no ViTModel; load it as Dinov2Model")
    if "embeddings.detection_tokens" in names:
        raise file.refuse("a YOLOS (detection_tokens), which ViTModel cannot hold")
    for name, what in (("cls_token", "a class token"), ("position_embeddings", "learnt positions")):
        if f"embeddings.{name}" not in names:
            raise file.refuse(f"a ViT without {what} ({name}), which ViTModel cannot hold")


def _architecture(is_distilled: bool, classifiers: tuple[str, ...]) -> str:
    if len(classifiers) == 2:
        return "DeiTForImageClassificationWithTeacher"
    return f"{'DeiT' if is_distilled else 'ViT'}{'ForImageClassification' if classifiers else 'Model'}"


def _classifiers(file: FileTensors, options: EncoderOptions) -> tuple[tuple[str, ...], list[str]]:
    """The classifiers that are kept, and the names of what is left out."""
    names = file.shapes
    dropped = [name for name in names if _LEFT_OUT.fullmatch(name)]
    there = tuple(head for head in _CLASSIFIERS if f"{head}.weight" in names)
    if options.without_head:
        return (), [*dropped, *(name for name in names if name.partition(".")[0] in _CLASSIFIERS)]
    if there and f"{_POOLER}.weight" in names:
        raise file.refuse(
            "it has a trained pooler beside a classifier, and ViTForImageClassification's classifier does not read one;"
            " --without-head converts the rest"
        )
    is_distilled = "embeddings.distillation_token" in names
    if there not in ((), _CLASSIFIERS[:1], *([_CLASSIFIERS[1:]] if is_distilled else [])):
        raise file.refuse(f"its heads are {' and '.join(there)}, not a DeiT's; --without-head converts the rest")
    return there, dropped


def _moves(
    file: FileTensors, depth: int, prefix: str, special: tuple[str, ...], classifiers: tuple[str, ...], width: int
) -> Iterator[Move]:
    def layer(name: str, before: str = prefix) -> Iterator[Move]:
        for kind in ("weight", "bias"):
            yield same(f"{name}.{kind}", f"{before}{name}.{kind}")

    for name in (*special, "embeddings.position_embeddings"):
        yield same(name, f"{prefix}{name}")
    yield from layer("embeddings.patch_embeddings.projection")
    has_bias = "layers.0.attention.q_proj.bias" in file.shapes
    for number in range(depth):
        for name in (f"layers.{number}.{part}" for part in _LAYERS):
            if name[-6:] in ("q_proj", "k_proj", "v_proj") and not has_bias:
                yield same(f"{name}.weight", f"{prefix}{name}.weight")
            else:
                yield from layer(name)
    yield from layer("layernorm")
    if f"{_POOLER}.weight" in file.shapes:
        yield from layer(_POOLER)
    else:
        yield from class_token_pooler(prefix, width)
    for name in classifiers:
        yield from layer(name, "")


def _forward(
    tensors: Tensors,
    images: Tensor,
    depth: int,
    chosen: Choices,
    special: tuple[str, ...],
    classifiers: tuple[str, ...],
) -> dict[str, Tensor]:
    x = special_tokens(tensors, embedded(tensors, "embeddings.patch_embeddings.projection", images), *special)
    x = x + tensor(tensors, "embeddings.position_embeddings", x)
    for number in range(depth):
        name = f"layers.{number}"
        y = layer_norm(tensors, f"{name}.layernorm_before", x, chosen.eps)
        query, key, value = (linear(tensors, f"{name}.attention.{part}_proj", y) for part in "qkv")
        x = x + linear(tensors, f"{name}.attention.o_proj", attention(query, key, value, chosen.heads))
        y = layer_norm(tensors, f"{name}.layernorm_after", x, chosen.eps)
        x = x + linear(tensors, f"{name}.mlp.fc2", ACTIVATIONS[chosen.act](linear(tensors, f"{name}.mlp.fc1", y)))
    x = layer_norm(tensors, "layernorm", x, chosen.eps)
    pooled = torch.tanh(linear(tensors, _POOLER, x[:, 0])) if f"{_POOLER}.weight" in tensors else x[:, 0]
    outputs = {"last_hidden_state": x, "pooler_output": pooled}
    if classifiers:
        logits = [linear(tensors, name, x[:, number]) for number, name in enumerate(classifiers)]
        outputs["logits"] = torch.stack(logits).mean(0)
    return outputs
