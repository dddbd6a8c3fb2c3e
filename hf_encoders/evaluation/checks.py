"""Checks of embeddings and labels that the metrics share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Cosines of float32 unit vectors are exact to some 1e-7, and differ by as much between shapes of the same product.
TIE = 1e-6


def unit_rows(embeds: Any, name: str) -> Tensor:
    """[N, D] embeddings as float32 rows of length 1.

    Raises:
        ValueError: if they have another shape, no rows, or values that are not finite.
    """
    return nn.functional.normalize(finite_rows(embeds, name), dim=-1)


def finite_rows(embeds: Any, name: str) -> Tensor:
    """[N, D] embeddings as a float32 tensor, checked like `unit_rows`."""
    rows = torch.as_tensor(embeds).detach().float()
    if rows.ndim != 2:
        raise ValueError(f"{name}: embeddings of shape {list(rows.shape)}, expected [N, D]")
    if not rows.numel():
        raise ValueError(f"{name}: no embeddings (shape {list(rows.shape)})")
    finite = rows.isfinite().all(dim=1)
    if not finite.all():
        raise ValueError(f"{name}: row {int(finite.int().argmin())} has NaN or infinite values")
    return rows


def listed(items: Any, count: int, name: str) -> list[Any]:
    """One item a row, as a list of Python values.

    Raises:
        ValueError: if there are more or fewer than `count`.
    """
    items = items.tolist() if isinstance(items, (np.ndarray, Tensor)) else list(items)
    items = [item.item() if isinstance(item, (np.generic, Tensor)) else item for item in items]
    if len(items) != count:
        raise ValueError(f"{name}: {len(items)} for {count} embeddings, expected one each")
    return items


def check_dimensions(first: Tensor, second: Tensor, names: Sequence[str]) -> None:
    """Refuse embeddings of two spaces."""
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"{names[0]} has embeddings of {first.shape[1]} dimensions, {names[1]} of {second.shape[1]}")


def check_positive(value: int, name: str) -> None:
    """Refuse a count below 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
