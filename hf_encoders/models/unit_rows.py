"""Embeddings, in whichever form people hold them, as rows of length 1."""

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from .encoding import Vectors

# Numbers as people hold them: arrays, tensors and nested sequences.
Numbers: TypeAlias = ArrayLike | Tensor


def as_vectors(embeddings: Numbers) -> Vectors:
    """Numbers as a float32 array, copied only if they are something else."""
    if isinstance(embeddings, Tensor):
        embeddings = embeddings.detach().cpu().float().numpy()
    return np.asarray(embeddings, np.float32)


def unit_rows(embeddings: Numbers, truncate_dim: int | None = None, *, first_row: int = 0) -> Vectors:
    """Scale embeddings to length 1.

    Args:
        embeddings: [N, D] numbers.
        truncate_dim: keep only the first dimensions, this many, before scaling.
        first_row: number of the first embedding, from which an error counts.

    Returns:
        [N, D] or [N, truncate_dim] float32.

    Raises:
        ValueError: for another shape, more dimensions than there are, or an embedding without a direction (zeros, NaN).
    """
    array = as_vectors(embeddings)
    if array.ndim != 2:
        raise ValueError(f"embeddings of shape {list(array.shape)}, expected [N, D]")
    if truncate_dim is not None and not 1 <= truncate_dim <= array.shape[1]:
        raise ValueError(f"truncate_dim must be from 1 to {array.shape[1]}, got {truncate_dim}")
    array = array[:, :truncate_dim]
    lengths = np.linalg.norm(array, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(bad):
        row = first_row + bad[0]
        where = f" in its first {truncate_dim} dimensions" if truncate_dim else ""
        raise ValueError(f"embedding {row} has no direction{where}: it is all zeros, or holds NaN or infinity")
    return np.ascontiguousarray(array / lengths)
