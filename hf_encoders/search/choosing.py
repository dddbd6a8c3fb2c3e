"""Which kind of vectors serves an index: arrays, or FAISS."""

from ..arrays import Vectors
from .array_vectors import ArrayVectors
from .faiss_vectors import FaissVectors, has_faiss
from .vectors import INDEX_TYPES, PRECISIONS, IndexType, Precision, SearchedVectors

# Exact search of this many rows of 256 numbers takes 1 GB, and about 0.1 s per query. Larger indexes use HNSW.
EXACT_ROWS = 1_000_000


def searchable(
    embeddings: Vectors,
    index_type: IndexType | None = None,
    precision: Precision = "float32",
    rescore_multiplier: int = 4,
    *,
    in_place: bool = False,
) -> SearchedVectors:
    """Vectors of any precision, searched exactly or not.

    Exact search in float32 uses no FAISS, whose own is slower and would copy the rows. In fewer bits it does, where
    FAISS is installed.

    Args:
        embeddings: [N, D] float32 rows of length 1.
        index_type: "exact", "hnsw" or "ivf". None is "exact"; but "hnsw" for more than `EXACT_ROWS` rows in float32, if
            FAISS is installed.
        precision: "float32", "float16", "int8" or "binary".
        rescore_multiplier: see `FaissVectors`.
        in_place: leave the rows where they lie, such as in a mapped file, as far as the other options allow.

    Raises:
        ValueError: for options that do not exist or fit.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, got {precision!r}")
    if index_type is not None and index_type not in INDEX_TYPES:
        raise ValueError(f"index_type is one of {', '.join(INDEX_TYPES)} or None, got {index_type!r}")
    if rescore_multiplier < 1:
        raise ValueError(f"rescore_multiplier must be at least 1, got {rescore_multiplier}")
    if index_type is None:
        is_large = precision == "float32" and len(embeddings) > EXACT_ROWS
        index_type = "hnsw" if is_large and has_faiss() else "exact"
    if index_type == "exact" and (precision == "float32" or not has_faiss()):
        return ArrayVectors(embeddings, precision, in_place=in_place and precision in ("float32", "binary"))
    return FaissVectors(embeddings, index_type, precision, rescore_multiplier, in_place=in_place)
