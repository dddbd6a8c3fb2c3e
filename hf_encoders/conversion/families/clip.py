"""CLIP with a ViT: OpenAI's names, open_clip's with either place of the text tower, and those of transformers.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, 2021. A tower that was saved
alone is a model of its own.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor

from ...checkpoints.finding.modules import as_mapping
from ..assumptions import Assumption
from .clip_names import NAMES, PARTS, SPLIT, canonical, refuse_relatives
from .family import EncoderOptions, Family, FileTensors, Images, Plan, Texts, block_count
from .inputs import image_inputs, text_inputs
from .layers import ACTIVATIONS, Tensors, attention, conv, layer_norm, linear, tensor
from .moves import Move, buffer, causal_mask, reshaped, same, split, transposed

_KINDS = ("weight", "bias")
_HEAD_SIZE = 64
# Widths of open_clip's large image towers (H, g, bigG, e), which have 16 heads of other sizes.
_SIXTEEN_HEADS = (1280, 1408, 1664, 1792)
_OF_TEXT = ("transformer.", "token_embedding.")  # in a file that has both towers
_EPS = 1e-5
_VOCABULARY = 49408  # OpenAI's; the last two tokens begin and end a text
_SCALARS = ("input_resolution", "context_length", "vocab_size")  # beside the weights of OpenAI's archives
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_QUICK = re.compile(r"quick_?gelu", re.IGNORECASE)
_NAMING = ("name", "model", "model_name", "arch", "architecture")  # keys that say which network a run trained


@dataclass(frozen=True)
class _Tower:
    """One of the towers of a file.

    Args:
        kind: "text" or "image".
        source: what its names in the file begin with.
        target: what its names in the model begin with.
        config: the arguments of its configuration.
        projection: the name of the projection in the file; empty without one.
        dim: the size of what it gives.
    """

    kind: str
    source: str
    target: str
    config: dict[str, object]
    width: int
    heads: int
    depth: int
    act: str
    eps: float
    projection: str
    dim: int


def _plan(file: FileTensors, options: EncoderOptions) -> Plan:
    image = "visual." if any(name.startswith("visual.") for name in file.shapes) else ""
    has_image = bool(image) or "class_embedding" in file.shapes
    has_text = not has_image or (bool(image) and any(name.startswith(_OF_TEXT) for name in file.shapes))
    refuse_relatives(file, image, has_text, has_image)
    alone = not (has_text and has_image)
    act, assumed, notes = _activation(file, options)
    towers = [_text_tower(file, options, act, alone)] if has_text else []
    towers += [_image_tower(file, options, act, alone, image)] if has_image else []
    assumed += [_assumed_heads(tower) for tower in towers] if options.attention_heads is None else []
    assumed += _assumed_pooling(file) if has_text else []
    moves = [move for tower in towers for move in _tower_moves(file, tower)]
    dropped = [name for name in _SCALARS if name in file.shapes]
    inputs: dict[str, Tensor] = {}
    images, texts = None, None
    for tower in towers:
        if tower.kind == "text":
            texts = Texts(file.shape("token_embedding.weight", 2)[0], _longest(file), "CLIPTokenizer")
            inputs["input_ids"] = text_inputs(texts.vocab_size, texts.max_length)["input_ids"]
        else:
            images = _images(file, tower.source)
            inputs |= image_inputs(images.channels, images.size or 0)
    settings: dict[str, object] = towers[0].config
    architecture = f"CLIP{'Text' if has_text else 'Vision'}Model{'WithProjection' if towers[0].projection else ''}"
    if not alone:
        text, vision = (tower.config for tower in towers)
        settings = {"projection_dim": towers[0].dim, "text_config": text, "vision_config": vision}
        architecture = "CLIPModel"
        moves.append(_scale_move(file))
    elif "logit_scale" in file.shapes:
        dropped.append("logit_scale")

    def reference(tensors: Tensors, given: Tensors) -> dict[str, Tensor]:
        return _forward(tensors, given, towers)

    return Plan(
        architecture=architecture,
        settings=settings,
        moves=moves,
        reference=reference,
        inputs=inputs,
        dropped=dropped,
        assumed=assumed,
        notes=notes,
        images=images,
        texts=texts,
    )


def _activation(file: FileTensors, options: EncoderOptions) -> tuple[str, list[Assumption], list[str]]:
    """The activation; the assumption if nothing tells it; a note if a person says another one than the file."""
    told, said = _told_activation(file), options.hidden_act
    if said is not None:
        if said not in ACTIVATIONS:
            raise file.refuse(f"--hidden-act {said} is not known; choose one of {', '.join(ACTIVATIONS)}")
        note = f"the activation is {said}, as was said; the file tells of {told}"
        return said, [], [] if told in (None, said) else [note]
    if told:
        return told, [], []
    of_transformers = any(".attn.q_proj." in name for name in file.shapes)
    act = "quick_gelu" if of_transformers else "gelu"  # the default of the code that writes such files
    what = f"the activation {act} (CLIPs have gelu or quick_gelu; OpenAI's have quick_gelu)"
    return act, [Assumption("activation", what, ("--hidden-act",))], []


def _told_activation(file: FileTensors) -> str | None:
    """The activation, if the file names its class, or is of code that has one alone, or names the network."""
    classes = {name.rpartition(".")[2].removesuffix("Activation") for name in file.classes}
    if ("QuickGELU" in classes) != ("GELU" in classes):
        return "quick_gelu" if "QuickGELU" in classes else "gelu"
    # The code that writes the three numbers has no other activation.
    return "quick_gelu" if all(name in file.shapes for name in _SCALARS) or _says_quick(file) else None


def _says_quick(file: FileTensors) -> bool:
    """Whether the file's arguments name a network with QuickGELU, as open_clip's "ViT-B-32-quickgelu"."""
    for entries in map(as_mapping, (dict(file.metadata), *file.metadata.values())):
        if any(isinstance(entries.get(key), str) and _QUICK.search(str(entries[key])) for key in _NAMING):
            return True
        if entries.get("force_quick_gelu") is True or entries.get("quick_gelu") is True:
            return True
    return False


def _assumed_heads(tower: _Tower) -> Assumption:
    what = f"{tower.heads} attention heads of {tower.width // tower.heads} channels in the {tower.kind} tower"
    return Assumption("heads", what, ("--attention-heads",))


def _assumed_pooling(file: FileTensors) -> list[Assumption]:
    """What a text tower with another vocabulary than OpenAI's may do in another way."""
    if file.shapes.get("token_embedding.weight", (0,))[0] == _VOCABULARY or _SCALARS[0] in file.shapes:
        return []
    causal = "" if _masks(file) else "causal attention and "
    return [Assumption("pooling", f"{causal}the text feature at the largest token id", ())]


def _longest(file: FileTensors) -> int:
    """The number of tokens of the longest text."""
    return file.shape("positional_embedding", 2)[0]


def _text_tower(file: FileTensors, options: EncoderOptions, act: str, alone: bool) -> _Tower:
    vocabulary, width = file.shape("token_embedding.weight", 2)
    length = _longest(file)
    for name, size in (("context_length", length), ("vocab_size", vocabulary)):
        _check_number(file, name, size)
    config: dict[str, object] = {
        "vocab_size": vocabulary,
        "max_position_embeddings": length,
        # With 2, CLIPTextModel takes the feature at the largest token id, as these networks do for whatever ids. With
        # any other number it takes the first of those ids, and the first token of a text that has none.
        "eos_token_id": 2,
        "bos_token_id": _VOCABULARY - 2 if vocabulary == _VOCABULARY else None,
        "pad_token_id": None,
    }
    return _tower(file, options, act, alone, "text", "", width, config)


def _image_tower(file: FileTensors, options: EncoderOptions, act: str, alone: bool, source: str) -> _Tower:
    width, channels, *patch = file.shape(f"{source}conv1.weight", 4)
    if patch[0] != patch[1]:
        raise file.refuse(f"patches of {patch[0]}x{patch[1]} pixels, which CLIPModel, with square ones, cannot hold")
    config: dict[str, object] = {
        "num_channels": channels,
        "patch_size": patch[0],
        "image_size": _images(file, source).size,
    }
    return _tower(file, options, act, alone, "image", source, width, config)


def _images(file: FileTensors, source: str) -> Images:
    """What the image tower takes, by its positions and the number that OpenAI's archives hold."""
    _, channels, patch, _ = file.shape(f"{source}conv1.weight", 4)
    positions = file.shape(f"{source}positional_embedding", 2)[0]
    grid = isqrt(max(positions - 1, 0))
    if grid**2 != positions - 1 or not grid:
        raise file.refuse(
            f"{file.keys[f'{source}positional_embedding']!r} has {positions} positions, expected the class token's and"
            " those of a square grid of patches"
        )
    side = _number(file, "input_resolution")
    if side is not None and side // patch != grid:
        raise file.refuse(f"says input_resolution {side}, but its positions are those of {grid * patch} pixels")
    return Images(_MEAN, _STD, side or grid * patch, 1.0, "bicubic", channels)


def _tower(
    file: FileTensors,
    options: EncoderOptions,
    act: str,
    alone: bool,
    kind: str,
    source: str,
    width: int,
    sizes: dict[str, object],
) -> _Tower:
    """The part of both towers that is the same."""
    depth = block_count(file.shapes, f"{source}transformer.resblocks.")
    if not depth:
        raise file.refuse(f"its {kind} tower has no blocks ({source}transformer.resblocks.0)")
    heads = _heads(file, options, kind, width)
    projection, dim = _projection(file, kind, source)
    if not (projection or alone):
        raise file.refuse(f"its {kind} tower has no projection, which CLIPModel needs")
    eps = _EPS if options.layer_norm_eps is None else options.layer_norm_eps
    config: dict[str, object] = {
        "hidden_size": width,
        "intermediate_size": file.shape(f"{source}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "hidden_act": act,
        "layer_norm_eps": eps,
        **({"projection_dim": dim} if projection else {}),
        **sizes,
    }
    name = "text_model." if kind == "text" else "vision_model."
    return _Tower(kind, source, name if projection else "", config, width, heads, depth, act, eps, projection, dim)


def _projection(file: FileTensors, kind: str, source: str) -> tuple[str, int]:
    """The name of a tower's projection, and the size of what it gives; OpenAI's is [in, out], a Linear's [out, in]."""
    plain, layer = ("text_projection", "text_projection.weight") if kind == "text" else ("proj", "projection.weight")
    for name, output in ((f"{source}{plain}", 1), (f"{source}{layer}", 0)):
        if name in file.shapes:
            return name, file.shape(name, 2)[output]
    return "", 0


def _heads(file: FileTensors, options: EncoderOptions, kind: str, width: int) -> int:
    given = options.attention_heads
    if given:
        heads = given[0] if kind == "text" else given[-1]
        if heads < 1 or width % heads:
            raise file.refuse(f"--attention-heads {heads}: the {kind} tower's hidden size {width} is not a multiple")
        return heads
    if kind == "image" and width in _SIXTEEN_HEADS:
        return 16
    if width % _HEAD_SIZE:
        raise file.refuse(
            f"the {kind} tower's hidden size {width} is not a multiple of {_HEAD_SIZE}, so its number of attention"
            " heads is unknown; give it with --attention-heads"
        )
    return width // _HEAD_SIZE


def _number(file: FileTensors, name: str) -> int | None:
    """A number that the file holds beside its weights."""
    if name not in file.shapes:
        return None
    value = file.values[name]
    if value.numel() != 1 or value.is_complex() or not value.isfinite().all():
        raise file.refuse(f"{file.keys[name]!r} has shape {list(value.shape)}, expected one number, and a finite one")
    return int(value)


def _check_number(file: FileTensors, name: str, size: int) -> None:
    if (said := _number(file, name)) not in (None, size):
        raise file.refuse(f"says {name} {said}, but its weights are of {size}")


def _masks(file: FileTensors) -> list[str]:
    """The names of the buffers that hold the causal mask."""
    return [name for name in file.shapes if re.fullmatch(r"(?:transformer\.resblocks\.\d+\.)?attn_mask", name)]


def _tower_moves(file: FileTensors, tower: _Tower) -> Iterator[Move]:
    source, target = tower.source, tower.target
    if tower.kind == "text":
        yield same("token_embedding.weight", f"{target}embeddings.token_embedding.weight")
        norms = {"ln_final": "final_layer_norm"}
        for name in _masks(file):
            yield buffer(name, "causal_mask", file.shape(name, 2))
    else:
        yield same(f"{source}class_embedding", f"{target}embeddings.class_embedding")
        yield same(f"{source}conv1.weight", f"{target}embeddings.patch_embedding.weight")
        norms = {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}
    yield same(f"{source}positional_embedding", f"{target}embeddings.position_embedding.weight")
    if (counted := f"{source}position_ids") in file.shapes:
        yield buffer(counted, "arange", file.shapes[counted])
    for norm, its_target in norms.items():
        yield from (same(f"{source}{norm}.{kind}", f"{target}{its_target}.{kind}") for kind in _KINDS)
    joint = f"{source}transformer.resblocks.0.attn.q_proj.weight" not in file.shapes
    for number in range(tower.depth):
        block, its_target = f"{source}transformer.resblocks.{number}", f"{target}encoder.layers.{number}"
        for kind in _KINDS:
            if joint:
                yield split(f"{block}.attn.in_proj_{kind}", *(f"{its_target}.{to}.{kind}" for to in SPLIT.values()))
            for part, to in (PARTS if joint else PARTS | SPLIT).items():
                yield same(f"{block}.{part}.{kind}", f"{its_target}.{to}.{kind}")
    if tower.projection:
        moved = same if tower.projection.endswith(".weight") else transposed
        yield moved(tower.projection, f"{'text' if tower.kind == 'text' else 'visual'}_projection.weight")


def _scale_move(file: FileTensors) -> Move:
    one = file.shapes.get("logit_scale") == (1,)
    return reshaped("logit_scale", "logit_scale", (1,), ()) if one else same("logit_scale", "logit_scale")


def _forward(tensors: Tensors, inputs: Tensors, towers: Sequence[_Tower]) -> dict[str, Tensor]:
    if len(towers) == 1:
        return _of_tower(tensors, inputs, towers[0])
    text, image = (_of_tower(tensors, inputs, tower)[f"{tower.kind}_embeds"] for tower in towers)
    text, image = (x / x.norm(dim=-1, keepdim=True) for x in (text, image))
    scale = tensor(tensors, "logit_scale", text).reshape(()).exp()
    return {"text_embeds": text, "image_embeds": image, "logits_per_image": scale * image @ text.T}


def _of_tower(tensors: Tensors, inputs: Tensors, tower: _Tower) -> dict[str, Tensor]:
    source, mask = tower.source, None
    if tower.kind == "text":
        ids = inputs["input_ids"]
        x = tensors["token_embedding.weight"][ids].float()
        x = x + tensor(tensors, "positional_embedding", x)[: ids.shape[1]]
        mask = causal_mask(ids.shape[1])
    else:
        patch = tensors[f"{source}conv1.weight"].shape[-1]
        x = conv(tensors, f"{source}conv1", inputs["pixel_values"], stride=patch).flatten(2).transpose(1, 2)
        first = tensor(tensors, f"{source}class_embedding", x).expand(len(x), 1, -1)
        x = torch.cat([first, x], 1) + tensor(tensors, f"{source}positional_embedding", x)
        x = layer_norm(tensors, f"{source}ln_pre", x, tower.eps)
    for number in range(tower.depth):
        x = _block(tensors, f"{source}transformer.resblocks.{number}", x, tower, mask)
    if tower.kind == "text":
        x = layer_norm(tensors, "ln_final", x, tower.eps)
        pooled = x[torch.arange(len(x)), inputs["input_ids"].argmax(-1)]
    else:
        pooled = layer_norm(tensors, f"{source}ln_post", x[:, 0], tower.eps)
    outputs = {"last_hidden_state": x, "pooler_output": pooled}
    if tower.projection:
        matrix = tensor(tensors, tower.projection, x)
        outputs[f"{tower.kind}_embeds"] = pooled @ (matrix.T if tower.projection.endswith(".weight") else matrix)
    return outputs


def _block(tensors: Tensors, name: str, x: Tensor, tower: _Tower, mask: Tensor | None) -> Tensor:
    """Attention and a feed-forward part, each behind a LayerNorm and beside a residual."""
    y = layer_norm(tensors, f"{name}.ln_1", x, tower.eps)
    if f"{name}.attn.in_proj_weight" in tensors:
        weight, bias = (tensor(tensors, f"{name}.attn.in_proj_{kind}", x) for kind in _KINDS)
        query, key, value = torch.nn.functional.linear(y, weight, bias).chunk(3, -1)
    else:
        query, key, value = (linear(tensors, f"{name}.{part}", y) for part in SPLIT)
    x = x + linear(tensors, f"{name}.attn.out_proj", attention(query, key, value, tower.heads, mask))
    y = layer_norm(tensors, f"{name}.ln_2", x, tower.eps)
    y = ACTIVATIONS[tower.act](linear(tensors, f"{name}.mlp.c_fc", y))
    return x + linear(tensors, f"{name}.mlp.c_proj", y)


_OPTIONS = ("hidden_act", "layer_norm_eps", "attention_heads")
CLIP = Family("clip", NAMES, _plan, canonical, "CLIP", _OPTIONS)
