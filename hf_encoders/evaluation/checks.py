"""Checks of embeddings and labels that the metrics share."""

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import AnyArray, Numbers

# Similarities closer than this are equal: cosines of float32 unit vectors are exact to about 1e-7, and the shape of the
# product alone changes them by as much.
TIE = 1e-6

# One id, label or caption per row.
Items: TypeAlias = Sequence[Hashable] | AnyArray | Tensor


def normalized_rows(embeds: Numbers, name: str) -> Tensor:
    """[N, D] embeddings as float32 rows of length 1; a row of zeros stays as it is.

    Raises:
        ValueError: if they have another shape, no rows, or values that are not finite.
    """
    return nn.functional.normalize(finite_rows(embeds, name), dim=-1)


def finite_rows(embeds: Numbers, name: str) -> Tensor:
    """[N, D] embeddings as a float32 tensor, checked like `normalized_rows`."""
    rows = torch.as_tensor(embeds).detach().float()
    if rows.ndim != 2:
        raise ValueError(f"{name}: embeddings of shape {list(rows.shape)}, expected [N, D]")
    if not rows.numel():
        raise ValueError(f"{name}: no embeddings (shape {list(rows.shape)})")
    finite = rows.isfinite().all(dim=1)
    if not finite.all():
        raise ValueError(f"{name}: row {int(finite.int().argmin())} has NaN or infinite values")
    return rows


def listed(items: Items, count: int, name: str) -> list[Hashable]:
    """One item per row, as a list of Python values.

    Raises:
        ValueError: if there are more or fewer than `count`.
    """
    values = items.tolist() if isinstance(items, (np.ndarray, Tensor)) else list(items)
    values = [value.item() if isinstance(value, (np.generic, Tensor)) else value for value in values]
    if len(values) != count:
        raise ValueError(f"{name}: {len(values)} for {count} embeddings, expected one each")
    return values


def check_dimensions(first: Tensor, second: Tensor, names: Sequence[str]) -> None:
    """Refuse embeddings of two spaces."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{names[0]} has embeddings of {first.shape[1]} dimensions, {names[1]} of {second.shape[1]}")


def check_positive(value: int, name: str) -> None:
    """Refuse a count below 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
