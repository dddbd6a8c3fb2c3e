"""What `hf-encoders search` looks through: data that it embeds, or embeddings that were written before."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from datasets import Dataset

from ..data.cells import as_picture
from ..data.columns import is_picture, number_type
from ..data.source import Source
from ..embed.folder import ID, Plan, read_manifest
from ..embed.lance_table import read_table
from ..embed.pictures import EmbeddedPictures
from ..modalities import default_modality
from ..models.depth_units import DepthEncodeOptions, DepthUnits
from ..models.tower import Encoder
from ..outputs import INDEX_MANIFEST, check_folder
from ..search.index import EmbeddingIndex, SearchResult
from ..search.lance_index import LanceIndex
from ..search.opening import holds_embeddings, open_embeddings
from .results import STDOUT, encoding_options
from .skipping import on_error


@dataclass(frozen=True)
class Searched:
    """A collection that is searched.

    Args:
        index: its embeddings.
        source: its rows, which know their labels and captions; without rows it has none.
        pictures: the pictures of hits; None where there are none.
        no_pictures: why there are none.
    """

    index: EmbeddingIndex | LanceIndex
    source: Source
    pictures: Callable[[Sequence[SearchResult]], Sequence[object]] | None
    no_pictures: str = ""


def check_searched(args: argparse.Namespace) -> bool:
    """Tell embeddings that were written before from data, and refuse the options that do not fit.

    Returns:
        Whether they are embeddings.

    Raises:
        ValueError: for embeddings that are not finished or damaged, or options that ask for embedding them.
        FileExistsError: if `--save-index` names a folder that is not to be replaced.
    """
    if not holds_embeddings(args.source):
        if args.save_index is not None:
            check_folder(args.save_index, args.overwrite, INDEX_MANIFEST, option="--save-index")
        return False
    for option in ("column", "split", "save_index"):
        if getattr(args, option) is not None:
            name = option.replace("_", "-")
            raise ValueError(f"{args.source}: embeddings already, so --{name} has no effect; leave it out")
    return True


def open_searched(args: argparse.Namespace, model: Encoder) -> Searched:
    """Open embeddings that were written before.

    Raises:
        ValueError: if another model made them, or another modality is asked for.
    """
    index = open_embeddings(args.source, model)
    modality = index.modality or args.modality or default_modality(model)
    if args.modality not in (None, modality):
        raise ValueError(f"{args.source}: embeddings of {modality}, not of {args.modality}; leave --modality out")
    if isinstance(index, LanceIndex):
        rows = Dataset.from_dict({name: [] for name in index.features}, features=index.features)
        return _embedded(args, index, Source(args.source, rows, index.column, modality), read_table(args.source)[1])
    rows = Dataset.from_dict({}) if index.rows is None else index.rows
    source = Source(args.source, rows, index.column or "", modality)
    if (Path(args.source) / INDEX_MANIFEST).is_file():
        return _saved_index(index, source)
    return _embedded(args, index, source, read_manifest(Path(args.source)))


def _saved_index(index: EmbeddingIndex, source: Source) -> Searched:
    """A saved index has the rows themselves, where it was made from any."""
    feature = source.dataset.features.get(source.column)
    names_files = getattr(feature, "dtype", None) in ("string", "large_string")
    if feature is None or not (is_picture(feature) or names_files or type(feature).__name__.startswith("Array")):
        return Searched(index, source, None, f"{source.name}: an index without pictures")
    return Searched(index, source, _pictures_of_rows(source))


def _pictures_of_rows(source: Source) -> Callable[[Sequence[SearchResult]], Sequence[object]]:
    """The pictures of hits that have their rows, whatever the column holds."""
    kind = number_type(source.dataset.features[source.column])
    return lambda hits: [as_picture(hit.row[source.column], kind) for hit in hits]


def _embedded(args: argparse.Namespace, index: EmbeddingIndex | LanceIndex, source: Source, manifest: Plan) -> Searched:
    """A folder or table of embeddings has the names of its pictures."""
    # It keeps the texts that were embedded, and no pictures or paths: their rows are known by their ids.
    source = source if source.column in source.dataset.column_names else replace(source, column=ID)
    if args.output == STDOUT or args.output.suffix != ".png" or source.modality == "text":
        return Searched(index, source, None)
    try:
        pictures = EmbeddedPictures(args.source, manifest)
    except ValueError as error:
        return Searched(index, source, None, str(error))
    return Searched(index, source, lambda hits: pictures.find([hit.row[ID] for hit in hits]))


def embed_source(args: argparse.Namespace, model: Encoder, source: Source, units: DepthUnits) -> Searched:
    """Embed data, and save the index where that is asked for.

    Raises:
        ValueError: for a row that cannot be embedded.
        OSError: if the index cannot be written.
    """
    options = cast(
        DepthEncodeOptions,
        {**encoding_options(args), "on_error": on_error(args), **(units if source.modality == "depth" else {})},
    )
    with source.named():
        index = EmbeddingIndex.from_dataset(model, source.dataset, source.column, source.modality, **options)
    if args.save_index is not None:
        # What is there was looked at: an empty folder, or an index that may be replaced.
        index.save(args.save_index, overwrite=args.overwrite or args.save_index.exists())
    return Searched(index, source, _pictures_of_rows(source))
