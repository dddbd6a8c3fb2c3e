"""Random vectors of length 1, and how much of what exact search finds another finds."""

import numpy as np


def unit_rows(count, dimensions=64, seed=0):
    rows = np.random.RandomState(seed).randn(count, dimensions).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def overlap(found, exact):
    """The share of the exact numbers [Q, k] that are found."""
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)])
