"""Search among embeddings: exact or approximate, in full or lesser precision."""

from .index import EmbeddingIndex, SearchResult

__all__ = ["EmbeddingIndex", "SearchResult"]
