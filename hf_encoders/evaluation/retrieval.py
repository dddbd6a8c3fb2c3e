"""Retrieval between two sides, such as texts and images.

Similarity is the cosine. Memory is bounded by `chunk_size`: the full matrix of similarities is never held.

Ties count against the model: among equally similar items the correct one comes last. So a collapsed model, whose
embeddings are all equal, finds nothing.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..arrays import Indices, Numbers
from .checks import TIE, Items, check_dimensions, check_positive, listed, normalized_rows

RECALLS = (1, 5, 10)
MEDIAN_RANK = "median_rank"
# The ids of both sides.
_Ids: TypeAlias = tuple[list[Hashable], list[Hashable]]


@torch.no_grad()
def retrieval_metrics(
    first_embeds: Numbers,
    second_embeds: Numbers,
    *,
    first_ids: Items | None = None,
    second_ids: Items | None = None,
    captions: Sequence[str] | None = None,
    ks: Sequence[int] = RECALLS,
    names: tuple[str, str] = ("text", "image"),
    chunk_size: int = 2048,
) -> dict[str, float]:
    """Recall@k and median rank between two sides, both ways.

    A query's rank is 1 + the number of wrong items that are at least as similar as its best correct one; recall@k is
    the share of queries with a rank of at most k. Rows with equal ids belong together, so that an image may have many
    captions, and a text many images. With `captions`, equal captions are no false negatives: a text finds any image
    that has its caption, and an image any text that equals one of its own.

    Args:
        first_embeds: [N, D], such as texts.
        second_embeds: [M, D], such as images.
        first_ids: N integers or strings: the id of each row. Default: the row numbers.
        second_ids: M integers or strings. Default: the row numbers.
        captions: the texts of the first side, compared letter by letter.
        ks: each k of recall@k.
        names: the names of the sides in results and messages, such as ("depth", "image").
        chunk_size: how many rows of each side are compared at a time. It does not change the result.

    Returns:
        For names A and B: `A_to_B_recall@k` (from 0 to 1) for each k, `A_to_B_median_rank` (from 1), and the same for
        `B_to_A`.

    Raises:
        ValueError: if a side is empty or not finite, lengths or dimensions differ, or a row has no partner.
    """
    if not ks or min(ks) < 1:
        raise ValueError(f"ks must be at least 1, got {ks!r}")
    ranks = retrieval_ranks(
        first_embeds,
        second_embeds,
        first_ids=first_ids,
        second_ids=second_ids,
        captions=captions,
        names=names,
        chunk_size=chunk_size,
    )
    values = [value for rank in ranks for value in (*(float((rank <= k).mean()) for k in ks), float(np.median(rank)))]
    return dict(zip(metric_names(names, ks), values, strict=True))


@torch.no_grad()
def retrieval_ranks(
    first_embeds: Numbers,
    second_embeds: Numbers,
    *,
    first_ids: Items | None = None,
    second_ids: Items | None = None,
    captions: Sequence[str] | None = None,
    names: tuple[str, str] = ("text", "image"),
    chunk_size: int = 2048,
) -> tuple[Indices, Indices]:
    """The rank of each row's best partner on the other side, from 1; the arguments are those of `retrieval_metrics`.

    Returns:
        [N] ranks for the first side as queries, and [M] for the second.

    Raises:
        ValueError: see `retrieval_metrics`.
    """
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"names are two different names of the sides, got {names!r}")
    check_positive(chunk_size, "chunk_size")
    first = normalized_rows(first_embeds, names[0])
    second = normalized_rows(second_embeds, names[1]).to(first.device)
    check_dimensions(first, second, names)
    ids = _ids(first_ids, len(first), names[0]), _ids(second_ids, len(second), names[1])
    texts = None if captions is None else listed(captions, len(first), f"captions of {names[0]}")
    for index, text in enumerate(texts or ()):
        if not isinstance(text, str):
            raise ValueError(f"captions of {names[0]}: item {index} is {text!r}, expected a string")

    first_order, second_order, partners = _partners(ids, texts, names, first.device)
    ranks = _ranks(first[first_order], second[second_order], partners, chunk_size)
    return _in_place(ranks[0], first_order), _in_place(ranks[1], second_order)


def _in_place(ranks: Indices, order: Tensor) -> Indices:
    """The ranks in the order of the rows."""
    placed = np.empty_like(ranks)
    placed[order.cpu().numpy()] = ranks
    return placed


def metric_names(names: tuple[str, str] = ("text", "image"), ks: Sequence[int] = RECALLS) -> list[str]:
    """The names of what `retrieval_metrics` gives, in its order."""
    measures = [*(f"recall@{k}" for k in ks), MEDIAN_RANK]
    return [f"{'_to_'.join(direction)}_{measure}" for direction in (names, names[::-1]) for measure in measures]


def _ids(ids: Items | None, count: int, name: str) -> list[Hashable]:
    return list(range(count)) if ids is None else listed(ids, count, f"{name} ids")


@dataclass(frozen=True)
class _Partners:
    """Which rows of the first side belong to which of the second.

    Row i belongs to row j if the pair (groups[i], codes[j]) is among `pairs`.
    """

    groups: Tensor  # [N]: number of the id, or of the caption, of each first row
    codes: Tensor  # [M]: number of the id of each second row, ascending without gaps
    pairs: Tensor  # [P, 2]: (code, group), sorted; at most one per first row

    def blocks(self, chunk_size: int) -> Iterator[tuple[slice, slice, Tensor | None]]:
        """Yield rows, columns and mask of each block of the matrix; no mask where no row belongs to a column."""
        for top in range(0, len(self.groups), chunk_size):
            rows = slice(top, min(top + chunk_size, len(self.groups)))
            groups, row_groups = self.groups[rows].unique(return_inverse=True)
            for left in range(0, len(self.codes), chunk_size):
                columns = slice(left, min(left + chunk_size, len(self.codes)))
                codes = self.codes[columns]
                begin, end = torch.searchsorted(self.pairs[:, 0].contiguous(), torch.stack((codes[0], codes[-1] + 1)))
                pair_codes, pair_groups = self.pairs[begin:end].unbind(1)
                places = torch.searchsorted(groups, pair_groups.contiguous()).clamp(max=len(groups) - 1)
                in_block = groups[places] == pair_groups
                if not in_block.any():
                    yield rows, columns, None
                    continue
                # Groups and ids are fewer than rows and columns, so the mask is made of a table of these.
                table = torch.zeros(len(groups), int(codes[-1] - codes[0]) + 1, dtype=torch.bool, device=groups.device)
                table[places[in_block], pair_codes[in_block] - codes[0]] = True
                yield rows, columns, table[row_groups][:, codes - codes[0]]


def _partners(
    ids: _Ids, captions: list[Hashable] | None, names: tuple[str, str], device: torch.device
) -> tuple[Tensor, Tensor, _Partners]:
    """An order of each side in which partners lie close, and the partners in this order."""
    for side, other in ((0, 1), (1, 0)):
        known = set(ids[other])
        for index, row_id in enumerate(ids[side]):
            if row_id not in known:
                raise ValueError(f"{names[side]} {index} (id {row_id!r}) has no {names[other]} with its id")
    numbers = _numbers(ids[1])
    first_codes = torch.tensor([numbers[row_id] for row_id in ids[0]], device=device)
    second_codes = torch.tensor([numbers[row_id] for row_id in ids[1]], device=device)
    groups = first_codes
    if captions is not None:
        numbers = _numbers(captions)
        groups = torch.tensor([numbers[caption] for caption in captions], device=device)
    pairs = torch.stack((first_codes, groups), dim=1).unique(dim=0)
    first_order, second_order = first_codes.argsort(), second_codes.argsort()
    return first_order, second_order, _Partners(groups[first_order], second_codes[second_order], pairs)


def _numbers(items: Sequence[Hashable]) -> dict[Hashable, int]:
    return {item: number for number, item in enumerate(dict.fromkeys(items))}


def _ranks(first: Tensor, second: Tensor, partners: _Partners, chunk_size: int) -> tuple[Indices, Indices]:
    """The rank of the best partner of each row, for both sides."""
    best = first.new_full((len(first),), -torch.inf), first.new_full((len(second),), -torch.inf)
    for rows, columns, mask in partners.blocks(chunk_size):
        if mask is not None:
            similarities = (first[rows] @ second[columns].T).masked_fill_(~mask, -torch.inf)
            best[0][rows] = best[0][rows].maximum(similarities.amax(1))
            best[1][columns] = best[1][columns].maximum(similarities.amax(0))

    ranks = tuple(torch.ones(len(side), dtype=torch.long, device=first.device) for side in (first, second))
    for rows, columns, mask in partners.blocks(chunk_size):
        similarities = first[rows] @ second[columns].T
        if mask is not None:
            similarities.masked_fill_(mask, -torch.inf)
        # A sum in 32 bits takes a fifth of the time of one in 64, and is enough for a chunk.
        ranks[0][rows] += (similarities >= best[0][rows, None] - TIE).sum(1, dtype=torch.int32)
        ranks[1][columns] += (similarities >= best[1][columns] - TIE).sum(0, dtype=torch.int32)
    return ranks[0].cpu().numpy(), ranks[1].cpu().numpy()
