"""Embeddings that were written before, by whoever: a saved index, or what `hf-encoders embed` wrote."""

import os
from pathlib import Path

from ..data.names import is_lance
from ..embed.folder import check_is_here, is_embedded, read_manifest
from ..embed.lance_table import read_table
from ..modalities import Encoder
from ..outputs import INDEX_MANIFEST
from .index import EmbeddingIndex
from .lance_index import LanceIndex
from .saved_index import read_index_manifest


def holds_embeddings(name: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a folder or Lance table of embeddings, and not of data to be embedded.

    Raises:
        ValueError: for one that is not finished, or damaged.
    """
    if is_lance(name):
        read_table(name)
        return True
    if "://" in os.fspath(name):
        if not os.fspath(name).startswith("http") and is_embedded(name):
            check_is_here(name)
        return False
    folder = Path(name)
    if (folder / INDEX_MANIFEST).is_file():
        read_index_manifest(folder)
        return True
    if is_embedded(folder):
        read_manifest(folder)
        return True
    return False


def open_embeddings(name: str | os.PathLike[str], model: Encoder | None = None) -> EmbeddingIndex | LanceIndex:
    """Open a saved index, or what `hf-encoders embed` wrote; see `EmbeddingIndex.load`, `from_folder` and `from_lance`.

    Args:
        name: the folder or Lance table.
        model: the model that made it. Without it, queries are embeddings.

    Raises:
        ValueError: if another model made it, or it is damaged or not finished.
        OSError: if the vectors of a folder cannot be written beside them.
    """
    if is_lance(name):
        return EmbeddingIndex.from_lance(name, model)
    folder = Path(name)
    if (folder / INDEX_MANIFEST).is_file():
        return EmbeddingIndex.load(folder, model)
    return EmbeddingIndex.from_folder(folder, model)
