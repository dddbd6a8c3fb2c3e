"""Search among embeddings: exact or approximate, in full or lesser precision."""

from .index import EmbeddingIndex, SearchResult
from .lance_index import LanceIndex

__all__ = ["EmbeddingIndex", "LanceIndex", "SearchResult"]
