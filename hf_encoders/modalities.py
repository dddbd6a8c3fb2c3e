"""The modalities that a model embeds, and how to tell which one a column of a data set holds."""

import os
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

from .models.depth_units import DepthUnits
from .models.encoding import Encode
from .models.input_modality import PIL_MODALITIES, is_file, picture_modality, pictures_modality
from .models.model_modalities import BOTH_EXAMPLES, PICTURES, default_modality, modalities, pictures_or_default
from .models.text_tower import TextTower
from .models.tower import MODALITIES, Encoder, Modality, Tower

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

# What a text is for: it is searched for, or it is found. Models that were trained so have a prompt for each.
TextTask = Literal["query", "document"]
# As many items tell the modality of a column.
_LOOKED_AT = 64
# What a person says where files do not tell.
_SAY = "--modality"


def encoder_of(model: object) -> Encoder:
    """The model, if it embeds.

    Raises:
        ValueError: if it has no towers.
    """
    if not isinstance(model, Encoder):
        raise ValueError(f"a {type(model).__name__}, expected an encoder, such as load_encoder gives")
    return model


def files_modality(model: object, files: Iterable[str | os.PathLike[str]], option: str = _SAY) -> Modality:
    """The modality of files that are embedded, for whoever did not say it.

    Args:
        model: what it does not embed is not asked for.
        files: images or depth maps.
        option: how a person would say it.

    Raises:
        ValueError: if some are images and some depth maps.
    """
    if not {"image", "depth"} <= set(modalities(model)):
        return default_modality(model)
    kinds = ((os.fspath(file), picture_modality(file)) for file in files)
    return pictures_modality(kinds, f"say {option} image or {option} depth")


def check_queries(model: object, queries: Sequence[object]) -> None:
    """Refuse words as queries of a model of images alone, and files as those of a model of texts alone.

    Raises:
        ValueError: with the query, and what to do.
    """
    known = modalities(model)
    if len(known) != 1:
        return
    for query in queries:
        if known == ("text",) and is_file(query):
            raise ValueError(f"{query} is a file, and the model embeds texts alone: give words, or {BOTH_EXAMPLES}")
        if known != ("text",) and isinstance(query, str) and not os.path.exists(query):
            raise ValueError(
                f"{query!r} is no file, and the model embeds no texts, {known[0]} alone: search by files, or take"
                f" {BOTH_EXAMPLES}"
            )


def column_modality(model: object, dataset: "Dataset | IterableDataset", column: str) -> Modality:
    """The modality of a data set's column: by its type where that tells, else by items from all over it.

    Args:
        model: one that embeds depth alone is not asked.
        dataset: of which the first items are looked at where it is streamed.
        column: pictures, or paths of them.

    Raises:
        ValueError: if some are images and some depth maps.
    """
    if "image" not in modalities(model):
        return default_modality(model)
    feature = (dataset.features or {}).get(column)
    if type(feature).__name__.startswith("Array"):  # Array2D, Array3D: numbers
        return "depth"
    if mode := getattr(feature, "mode", None):
        return PIL_MODALITIES.get(mode, default_modality(model))
    return items_modality(model, _some_cells(dataset, column), f"column {column!r}")


def items_modality(model: object, items: Sequence[object], title: str) -> Modality:
    """The modality of pictures, by those of them that tell; the model's default where none does.

    Args:
        model: embeds images and depth maps.
        items: pictures, paths, or cells of a data set.
        title: where they are from, for the message.

    Raises:
        ValueError: if some are images and some depth maps.
    """
    first: dict[Modality, int] = {}
    for index, item in enumerate(items):
        if kind := picture_modality(item):
            first.setdefault(kind, index)
    if len(first) > 1:
        rows = " and ".join(f"an {kind}" if kind == "image" else "a depth map" for kind in sorted(first, key=first.get))  # type: ignore[arg-type]
        raise ValueError(f"{title} holds {rows} among its first rows: say {_SAY} image or {_SAY} depth")
    return next(iter(first), default_modality(model))


def _some_cells(dataset: "Dataset | IterableDataset", column: str) -> list[object]:
    """Undecoded cells of a column, from its beginning to its end; of a stream, the first ones."""
    from datasets import Dataset, Image

    cells = dataset.select_columns([column]).with_format(None)
    if isinstance((dataset.features or {}).get(column), Image):
        cells = cells.cast_column(column, Image(decode=False))
    if isinstance(cells, Dataset):
        step = max(1, len(cells) // _LOOKED_AT)
        return [cells[index][column] for index in range(0, len(cells), step)]
    return [row[column] for row in cells.take(_LOOKED_AT)]


@runtime_checkable
class _Prompting(Protocol):
    """A model that may have prompts for texts."""

    def prompted_tower(self, name: str) -> TextTower:
        """See `EncodeMethods`."""


def tower_of(model: object, modality: str, task: TextTask | None = None) -> Tower[Any]:
    """The tower of a model that embeds a modality.

    Args:
        model: it has towers.
        modality: "text", "image" or "depth".
        task: what texts are for: they get the model's prompt for that, as in `encode_query` and `encode_document`.
            Without it they get the model's default prompt, if it has one.

    Raises:
        ValueError: if the modality is unknown, or the model does not embed it: the message lists what it embeds.
    """
    if modality not in MODALITIES:
        raise ValueError(f"modality is one of {', '.join(MODALITIES)}, got {modality!r}")
    tower = encoder_of(model).tower(modality)
    if task is not None and modality == "text" and isinstance(model, _Prompting):
        return model.prompted_tower(task)
    return tower


def encoder(
    model: object, modality: str, units: DepthUnits | None = None, task: TextTask | None = None
) -> Encode[object]:
    """The method of a model that embeds a modality.

    Args:
        model: it has towers.
        modality: "text", "image" or "depth".
        units: what the raw values of depth maps mean; for other modalities it is left out.
        task: see `tower_of`.

    Raises:
        ValueError: see `tower_of`.
    """
    encode = tower_of(model, modality, task).encode
    return cast(Encode[object], partial(encode, **units)) if units and modality == "depth" else encode


__all__ = [
    "BOTH_EXAMPLES",
    "MODALITIES",
    "PICTURES",
    "Encoder",
    "Modality",
    "TextTask",
    "check_queries",
    "column_modality",
    "default_modality",
    "encoder",
    "encoder_of",
    "files_modality",
    "items_modality",
    "modalities",
    "pictures_or_default",
    "tower_of",
]
