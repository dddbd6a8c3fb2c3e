"""Embeddings of whole data sets: a column beside the rows, or a folder of shards.

Names are imported when they are first asked for (PEP 562): `python -m hf_encoders.embed --help` need not wait for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arrow import ArrowEmbedder
    from .column import with_embeddings

__all__ = ["ArrowEmbedder", "with_embeddings"]

_MODULES = {"ArrowEmbedder": "arrow", "with_embeddings": "column"}


def __getattr__(name: str) -> object:
    """Import a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value
