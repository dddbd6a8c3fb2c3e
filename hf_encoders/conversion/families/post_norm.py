"""The encoder that BERT and RoBERTa share: blocks with their LayerNorms behind the additions.

Vaswani et al., Attention Is All You Need, 2017; Devlin et al., BERT, 2018; Liu et al., RoBERTa, 2019. The families
differ in the names of their tensors, and in how they count positions.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ...checkpoints.finding.modules import as_mapping
from ..assumptions import Assumption
from .family import EncoderOptions, FileTensors, block_count
from .layers import ACTIVATIONS, Tensors, attention, layer_norm, linear
from .moves import Move, buffer, made, same, split

_Value = TypeVar("_Value", bound="str | int | float")

_KINDS = ("weight", "bias")
_IN_PROJ = "self_attn.in_proj"  # query, key and value in one, in older files of fairseq
_POOLER = "pooler.dense"
_PARTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_HEAD_WIDTH = 64
# Widths of which all published networks have other heads: MiniLM's 12 of 32 channels, TinyBERT's 12 of 26.
_OTHER_HEADS = {384: 12, 312: 12}
_MOST_MAPPINGS = 1000  # of what a file says beside its weights
_DEEPEST = 5


@dataclass(frozen=True)
class Naming:
    """How an encoder's tensors are named.

    Args:
        words: the embeddings of tokens.
        positions: of positions.
        types: of token types.
        norm: the LayerNorm of the embeddings.
        blocks: the beginning of the blocks' names.
        parts: transformers' name of a part of a block → its name here.
    """

    words: str
    positions: str
    types: str
    norm: str
    blocks: str
    parts: Mapping[str, str]


TRANSFORMERS = Naming(
    words="embeddings.word_embeddings",
    positions="embeddings.position_embeddings",
    types="embeddings.token_type_embeddings",
    norm="embeddings.LayerNorm",
    blocks="encoder.layer.",
    parts={part: part for part in _PARTS},
)


@dataclass(frozen=True)
class Sizes:
    """What shapes and options say of an encoder.

    Args:
        vocab_size: the number of tokens.
        width: of the hidden states.
        depth: the number of blocks.
        inner: the width within a block's feed-forward network.
        positions: the number of positions that it embeds.
        types: the number of token types; 0 if the file has none.
        heads: the attention heads.
        act: the activation, by transformers' name.
        eps: of the LayerNorms.
        pooler: whether the file has one.
    """

    vocab_size: int
    width: int
    depth: int
    inner: int
    positions: int
    types: int
    heads: int
    act: str
    eps: float
    pooler: bool

    def settings(self, types: int) -> dict[str, object]:
        """The arguments of transformers' configuration.

        Args:
            types: the number of token types if the file has none.
        """
        return {
            "vocab_size": self.vocab_size,
            "hidden_size": self.width,
            "num_hidden_layers": self.depth,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
            "hidden_act": self.act,
            "max_position_embeddings": self.positions,
            "type_vocab_size": self.types or types,
            "layer_norm_eps": self.eps,
        }


def sizes_of(
    file: FileTensors, options: EncoderOptions, naming: Naming, eps: float, eps_in_use: tuple[float, ...] = ()
) -> tuple[Sizes, list[Assumption]]:
    """Read the sizes, and what had to be assumed.

    Args:
        file: the file.
        options: what a person says.
        naming: of its tensors.
        eps: the family's epsilon.
        eps_in_use: others that are in use under the same names.

    Raises:
        LayoutError: if a size cannot be read, or the file contradicts a person.
    """
    vocab_size, width = file.shape(f"{naming.words}.weight", 2)
    positions = file.shape(f"{naming.positions}.weight", 2)[0]
    types = file.shape(f"{naming.types}.weight", 2)[0] if f"{naming.types}.weight" in file.shapes else 0
    depth = block_count(file.shapes, naming.blocks)
    up = naming.parts["intermediate.dense"]
    whole = [name for block in range(depth) if (name := f"{naming.blocks}{block}.{up}.weight") in file.shapes]
    inner = file.shape(whole[0] if whole else f"{naming.blocks}0.{up}.weight", 2)[0]
    said = _Said(file, width)
    assumed = []
    heads = _heads(file, options, width, said)
    if heads is None:
        if width % _HEAD_WIDTH and width not in _OTHER_HEADS:
            raise file.refuse(
                f"its hidden size {width} is not a multiple of {_HEAD_WIDTH}, so its number of attention heads is"
                " unknown; give it with --attention-heads"
            )
        heads = _OTHER_HEADS.get(width) or width // _HEAD_WIDTH
        what = f"{heads} attention heads of {width // heads} channels"
        assumed.append(Assumption("heads", what, ("--attention-heads",)))
    act = said.settle("--hidden-act", options.hidden_act, said.texts("hidden_act", "activation_fn"), _act)
    if act is not None and act not in ACTIVATIONS:
        raise file.refuse(f"its activation {act!r} is none of {', '.join(sorted(ACTIVATIONS))}")
    stated_eps = said.settle("--layer-norm-eps", options.layer_norm_eps, said.numbers("layer_norm_eps"), float)
    if stated_eps is None and eps_in_use:
        others = " and ".join(f"{other:g}" for other in eps_in_use)
        what = f"an epsilon of {eps:g} in the LayerNorms ({others} is in use too)"
        assumed.append(Assumption("epsilon", what, ("--layer-norm-eps",)))
    pooler = f"{_POOLER}.weight" in file.shapes
    return (
        Sizes(
            vocab_size, width, depth, inner, positions, types, heads, act or "gelu",
            eps if stated_eps is None else stated_eps, pooler,
        ),
        assumed,
    )  # fmt: skip


def moves_of(file: FileTensors, naming: Naming, sizes: Sizes, types: int, prefix: str = "") -> Iterator[Move]:
    """The tensors of the encoder and its pooler.

    Args:
        file: the file.
        naming: of its tensors.
        sizes: of the encoder.
        types: the number of token types that are made if the file has none; they are zeros, which change nothing.
        prefix: of the names in the model, such as "bert.".
    """
    target = TRANSFORMERS
    for source, name in ((naming.words, target.words), (naming.positions, target.positions)):
        yield same(f"{source}.weight", f"{prefix}{name}.weight")
    type_name = f"{prefix}{target.types}.weight"
    yield same(f"{naming.types}.weight", type_name) if sizes.types else made(type_name, "zeros", (types, sizes.width))
    for kind in _KINDS:
        yield same(f"{naming.norm}.{kind}", f"{prefix}{target.norm}.{kind}")
    for block in range(sizes.depth):
        source, name = f"{naming.blocks}{block}", f"{prefix}{target.blocks}{block}"
        together = f"{source}.{_IN_PROJ}_weight" in file.shapes
        for kind in _KINDS:
            if together:
                yield split(f"{source}.{_IN_PROJ}_{kind}", *(f"{name}.{part}.{kind}" for part in _PARTS[:3]))
            for part in _PARTS[3 if together else 0 :]:
                yield same(f"{source}.{naming.parts[part]}.{kind}", f"{name}.{part}.{kind}")
    if sizes.pooler:
        yield from (same(f"{_POOLER}.{kind}", f"{prefix}{_POOLER}.{kind}") for kind in _KINDS)
    else:
        yield made(f"{prefix}{_POOLER}.weight", "identity", (sizes.width, sizes.width))
        yield made(f"{prefix}{_POOLER}.bias", "zeros", (sizes.width,))
    for name, value in (("position_ids", "arange"), ("token_type_ids", "counter")):
        if (source := f"embeddings.{name}") in file.shapes:
            yield _buffer(file, source, value)


def forward(
    tensors: Tensors, ids: Tensor, mask: Tensor, positions: Tensor, naming: Naming, sizes: Sizes
) -> dict[str, Tensor]:
    """The encoder and its pooler.

    Args:
        tensors: by canonical name.
        ids: of tokens [B, T].
        mask: [B, T], 0 at padding.
        positions: row of the table for each token, [B, T] or [1, T].
        naming: of the tensors.
        sizes: of the encoder.

    Returns:
        last_hidden_state [B, T, D], and pooler_output [B, D] if the file has a pooler.
    """
    x = tensors[f"{naming.words}.weight"][ids].float() + tensors[f"{naming.positions}.weight"][positions].float()
    if sizes.types:
        x = x + tensors[f"{naming.types}.weight"][0].float()
    x = layer_norm(tensors, naming.norm, x, sizes.eps)
    hidden = torch.zeros(mask.shape).masked_fill(mask == 0, float("-inf"))[:, None, None]
    activation = ACTIVATIONS[sizes.act]
    for number in range(sizes.depth):
        block = f"{naming.blocks}{number}"
        name = {part: f"{block}.{own}" for part, own in naming.parts.items()}
        y = attention(*_projected(tensors, block, name, x), sizes.heads, hidden)
        x = layer_norm(tensors, name[_PARTS[4]], x + linear(tensors, name[_PARTS[3]], y), sizes.eps)
        y = linear(tensors, name[_PARTS[6]], activation(linear(tensors, name[_PARTS[5]], x)))
        x = layer_norm(tensors, name[_PARTS[7]], x + y, sizes.eps)
    outputs = {"last_hidden_state": x}
    if sizes.pooler:
        outputs["pooler_output"] = torch.tanh(linear(tensors, _POOLER, x[:, 0]))
    return outputs


def stated(metadata: Mapping[str, object], *names: str) -> Iterator[tuple[Mapping[object, object], object]]:
    """What a file says under some names at any place beside its weights: the mapping that says it, and the value."""
    level: list[object] = [metadata]
    seen: set[int] = set()
    for _ in range(_DEEPEST):
        mappings = []
        for value in level:
            mapping = as_mapping(value)
            if mapping and id(value) not in seen and len(seen) < _MOST_MAPPINGS:
                seen.add(id(value))
                mappings.append(mapping)
        for mapping in mappings:
            yield from ((mapping, mapping[name]) for name in names if mapping.get(name) is not None)
        level = [value for mapping in mappings for value in mapping.values()]


class _Said:
    """What a file says about an encoder beside its weights: in mappings that give its width, or are fairseq's args."""

    def __init__(self, file: FileTensors, width: int):
        self._file, self._width = file, width

    def texts(self, *names: str) -> set[str]:
        """The texts under some names."""
        return {value for value in self._values(names) if isinstance(value, str)}

    def numbers(self, *names: str) -> set[float]:
        """The numbers under some names."""
        return {value for value in self._values(names) if isinstance(value, (int, float)) and value > 0}

    def settle(
        self, option: str, given: _Value | None, values: set[_Value], form: Callable[[_Value], _Value]
    ) -> _Value | None:
        """The value that a person gives, or that the file says if it says one alone.

        Raises:
            LayoutError: if they contradict each other.
        """
        told = {form(value) for value in values}
        if given is not None:
            if len(told) == 1 and form(given) not in told:
                raise self._file.refuse(f"{option} {given}: the file says {next(iter(told))}; leave {option} out")
            return form(given)
        return next(iter(told)) if len(told) == 1 else None

    def _values(self, names: tuple[str, ...]) -> Iterator[object]:
        for mapping, value in stated(self._file.metadata, *names):
            is_fairseq = any(str(key).startswith("encoder_") for key in mapping)
            width = mapping.get("hidden_size", mapping.get("encoder_embed_dim", self._width if is_fairseq else None))
            if width == self._width:
                yield value


def _heads(file: FileTensors, options: EncoderOptions, width: int, said: _Said) -> int | None:
    given = options.attention_heads
    if given is not None and len(given) != 1:
        raise file.refuse(f"--attention-heads {','.join(map(str, given))}: the network has one tower; give one number")
    numbers = said.numbers("num_attention_heads", "encoder_attention_heads")
    heads = said.settle("--attention-heads", given[0] if given else None, {int(number) for number in numbers}, int)
    if heads is not None and (heads < 1 or width % heads):
        whose = "--attention-heads" if given else "the file says attention heads"
        raise file.refuse(f"{whose} {heads}: the hidden size {width} is not a multiple")
    return heads


def _act(name: str) -> str:
    """The activation by transformers' name: fairseq has its own for the approximation by tanh."""
    return {"gelu_accurate": "gelu_new", "gelu_fast": "gelu_new"}.get(name, name)


def _buffer(file: FileTensors, name: str, value: str) -> Move:
    """A buffer of older releases, which must hold what the model assumes."""
    shape = file.shapes[name]
    expected = torch.arange(shape[-1]) if shape and value == "arange" else torch.zeros(shape)
    if not torch.equal(file.values[name].double(), expected.expand(shape).double()):
        rule = "0, 1, 2, ..." if value == "arange" else "zeros"
        raise file.refuse(f"{file.keys[name]!r} is not {rule}, which transformers' class assumes")
    return buffer(name, value, shape)


def _projected(tensors: Tensors, block: str, name: Mapping[str, str], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value."""
    if f"{block}.{_IN_PROJ}_weight" not in tensors:
        query, key, value = (linear(tensors, name[part], x) for part in _PARTS[:3])
        return query, key, value
    weight, bias = (tensors[f"{block}.{_IN_PROJ}_{kind}"].to(x.dtype) for kind in _KINDS)
    together = x @ weight.T + bias
    width = x.shape[-1]
    return together[..., :width], together[..., width : 2 * width], together[..., 2 * width :]
