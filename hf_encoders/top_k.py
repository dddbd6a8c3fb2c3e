"""The most similar of many items, whose similarities come in chunks: `top_k`."""

from collections.abc import Iterable

import torch
from torch import Tensor


def top_k(chunks: Iterable[Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Find the k highest similarities of each query. Memory is that of one chunk and of k results.

    Args:
        chunks: similarities [Q, M] of all queries to the next M items; one chunk at least.
        k: how many to find. All are found where there are fewer items.

    Returns:
        Similarities and numbers of the items, each [Q, min(k, N)], the highest first.
    """
    start = 0
    found: tuple[Tensor, Tensor] | None = None
    for similarities in chunks:
        values, items = similarities.topk(min(k, similarities.shape[1]))
        items += start
        start += similarities.shape[1]
        if found is not None:
            values, items = torch.cat((found[0], values), 1), torch.cat((found[1], items), 1)
            values, order = values.topk(min(k, values.shape[1]))
            items = items.gather(1, order)
        found = values, items
    assert found is not None
    return found
