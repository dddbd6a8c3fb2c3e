"""Types of arrays, and embeddings as rows of length 1."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .models.encoding import Mask, Vectors
from .models.unit_rows import Numbers, as_vectors, unit_rows

# Positions or class numbers; `Vectors` are embeddings [N, D], a `Mask` tells which of N items count.
Indices: TypeAlias = NDArray[np.int64]
# An array of another or of no known type.
AnyArray: TypeAlias = NDArray[Any]

__all__ = ["AnyArray", "Indices", "Mask", "Numbers", "Vectors", "as_vectors", "unit_rows"]
