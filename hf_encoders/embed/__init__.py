"""Embeddings of whole data sets: a column beside the rows, or a folder of shards."""

from .arrow import ArrowEmbedder
from .column import with_embeddings

__all__ = ["ArrowEmbedder", "with_embeddings"]
