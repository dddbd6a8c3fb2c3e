"""Embeddings of whole data sets: a column beside the rows, or a folder of shards."""

from .column import with_embeddings

__all__ = ["with_embeddings"]
