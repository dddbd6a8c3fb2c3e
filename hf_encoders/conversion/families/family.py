"""What a family of encoders is to the converter: how its files are named, and what becomes of their tensors.

A family's file (`resnet.py`, `vit.py`, ...) makes a `Plan` from the names and shapes of a file's tensors. It imports
neither transformers nor this package's models: transformers' classes are named, and looked up when they are built.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...checkpoints.errors import LayoutError
from ...checkpoints.finding.networks import FamilyNames
from ...checkpoints.finding.weights import LazyTensors
from ...hub.reports import Json
from ..assumptions import Assumption
from .moves import Move

Shape = tuple[int, ...]
Tensors = Mapping[str, Tensor]
# The file's tensors by canonical name, and the inputs of the model → outputs under the names that transformers uses.
Reference = Callable[[Tensors, Tensors], dict[str, Tensor]]


@dataclass(frozen=True)
class EncoderOptions:
    """What a person says about an encoder, because no tensor tells it. None: not said.

    Args:
        hidden_act: the activation, by transformers' name, such as "gelu" or "quick_gelu".
        layer_norm_eps: the epsilon of all LayerNorms (of the BatchNorms of a ResNet there is one in use, 1e-5).
        attention_heads: of each tower; one number, or two for text and image.
        stride_in: the convolution of a bottleneck that has the stride: "1x1" (v1) or "3x3" (v1.5).
        without_head: leave a classifier out.
        layout: the name of the family, of files that may be of several.
    """

    hidden_act: str | None = None
    layer_norm_eps: float | None = None
    attention_heads: tuple[int, ...] | None = None
    stride_in: str | None = None
    without_head: bool = False
    layout: str | None = None

    def as_report(self) -> dict[str, Json]:
        """What was said, as JSON, for `from_report`."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value not in (None, False)}

    @classmethod
    def from_report(cls, options: Mapping[str, Json]) -> "EncoderOptions":
        """What was said when a repo was converted; unknown names are of a newer release and left out."""
        known: dict[str, Any] = {
            field.name: tuple(value) if isinstance(value := options[field.name], list) else value
            for field in dataclasses.fields(cls)
            if field.name in options
        }
        return cls(**known)


@dataclass(frozen=True)
class FileTensors:
    """The tensors of a network in a file, as a family sees them.

    Args:
        path: the file, for errors.
        shapes: canonical name → shape.
        keys: canonical name → key in the file, for errors.
        values: canonical name → tensor, read when it is asked for.
        metadata: what the file says beside its weights; plain values and stubs of any class.
        place: the dotted path to the network in the file, such as "state_dict.module.encoder_q".
        classes: the classes that the file names, such as "clip.model.QuickGELU"; none was imported.
        beside: keys of the file's tensors that are no part of the network, such as a segmentation head's.
    """

    path: str | os.PathLike[str]
    shapes: Mapping[str, Shape]
    keys: Mapping[str, str]
    values: LazyTensors
    metadata: Mapping[str, object] = field(default_factory=dict)
    place: str = "."
    classes: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()

    def shape(self, name: str, dimensions: int) -> Shape:
        """The shape of a tensor that must be there, with so many dimensions and no empty one.

        Raises:
            LayoutError: if it is missing, or has others.
        """
        if name not in self.shapes:
            raise LayoutError(f"{self.path}: lacks {name!r}")
        shape = self.shapes[name]
        if len(shape) != dimensions or 0 in shape:
            raise LayoutError(
                f"{self.path}: {self.keys[name]!r} has shape {list(shape)}, expected {dimensions} dimensions"
            )
        return shape

    def refuse(self, reason: str) -> LayoutError:
        """The error of a file that is refused for a reason, which says what to do where something can be done."""
        return LayoutError(f"{self.path}: {reason}")


@dataclass(frozen=True)
class Images:
    """How a family's images are prepared, unless the file or a person says otherwise.

    Args:
        mean: of the channels, after division by 255.
        std: of the channels.
        size: the side of the square that the network takes; None if its tensors do not tell.
        likely_size: what is assumed if neither the tensors nor the file nor a person tell.
        misfit: side of an image → why the model computes something else for it than the network did; empty if not.
        crop: the part of the resized image's shorter side that is kept, as timm's `crop_pct`.
        resample: "bicubic" or "bilinear".
        channels: of the network's input. Other numbers than three have no processor unless a person gives the mean.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None = None
    crop: float = 0.875
    resample: str = "bicubic"
    channels: int = 3
    likely_size: int = 224
    misfit: Callable[[int], str] = lambda side: ""


@dataclass(frozen=True)
class Texts:
    """What a text tower takes.

    Args:
        vocab_size: the number of tokens that it embeds.
        max_length: the number of tokens of the longest text, special tokens included.
        tokenizer: transformers' tokenizer class for a vocabulary alone, such as "BertTokenizer".
        pooling: how sentence-transformers makes one vector: "cls" or "mean"; None if nothing in the file tells.
    """

    vocab_size: int
    max_length: int
    tokenizer: str
    pooling: str | None = None


@dataclass(frozen=True)
class Plan:
    """What becomes of the tensors of a file.

    Args:
        architecture: the class of transformers that the repo is written as, such as "ViTForImageClassification".
        settings: the arguments of its configuration.
        moves: the tensors of the model, and where they come from.
        reference: an independent forward over the file's own names, in float32.
        inputs: the verification's inputs by the names of transformers; see `inputs.py`.
        dropped: canonical names of tensors that the model does not hold, such as a projection head's.
        assumed: what nothing in the file tells.
        untrained: the parts of the model that the file does not hold, such as "pooler".
        notes: what a person should know, one line each.
        images: what an image tower takes; None without one.
        texts: what a text tower takes; None without one.
    """

    architecture: str
    settings: Mapping[str, object]
    moves: Sequence[Move]
    reference: Reference
    inputs: Tensors
    dropped: Sequence[str] = ()
    assumed: Sequence[Assumption] = ()
    untrained: Sequence[str] = ()
    notes: Sequence[str] = ()
    images: Images | None = None
    texts: Texts | None = None


@dataclass(frozen=True)
class Family:
    """A family of encoders.

    Args:
        name: in the output and for `--layout`, such as "vit".
        names: how its files name their tensors, one entry for each way; all have the family's name.
        plan: file and options → plan. It raises LayoutError for what transformers' class cannot hold, by its name.
        canonical: name below the network's prefix → the name that the plan knows it by.
        label: of the file's network in words, such as "ViT".
        options: the fields of `EncoderOptions` that mean something for it.
        kin: the name of the family that a file is of, where several have the same names; None for this one. It raises
            LayoutError where nothing tells.
        head: what its files call a classifier.
    """

    name: str
    names: tuple[FamilyNames, ...]
    plan: Callable[[FileTensors, EncoderOptions], Plan]
    canonical: Callable[[str], str] = str
    label: str = ""
    options: tuple[str, ...] = ("hidden_act", "layer_norm_eps", "attention_heads", "without_head")
    kin: Callable[[FileTensors, EncoderOptions], str | None] = lambda file, options: None
    head: str = "head"


def block_count(names: Mapping[str, object], prefix: str) -> int:
    """The number of blocks `prefix + "0."`, `prefix + "1."`, ...: one more than the highest number that occurs.

    A block that is missing in between is noticed when its tensors are asked for.
    """
    numbers = [
        int(first)
        for name in names
        if name.startswith(prefix) and (first := name[len(prefix) :].partition(".")[0]).isdecimal() and len(first) < 5
    ]
    return max(numbers, default=-1) + 1
