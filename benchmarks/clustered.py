"""Random vectors in clusters, as embeddings of the same things are, and how much a search finds of them."""

import statistics
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
CLUSTERS = 1000


def clusters(count: int, queries: int, dimensions: int = 256) -> tuple[Array, Array]:
    """Vectors of length 1 about random centres, and others of the same clusters.

    Returns:
        [count, dimensions] and [queries, dimensions] float32.
    """
    random = np.random.default_rng(0)
    centres = random.standard_normal((CLUSTERS, dimensions), np.float32)
    members = centres[random.integers(CLUSTERS, size=count + queries)]
    vectors = members + random.standard_normal(members.shape, np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:count], vectors[count:]


def overlap(found: list[list[int]], exact: list[list[int]]) -> float:
    """The share of what exact search finds."""
    return statistics.mean(len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True))
