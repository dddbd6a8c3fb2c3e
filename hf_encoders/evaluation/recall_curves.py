"""Recall@k for every k, and what guessing reaches."""

import itertools
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Indices
from .embedded_columns import EmbeddedColumns
from .retrieval import retrieval_ranks

_POINTS = 200  # of a curve of more candidates


@dataclass(frozen=True)
class RecallCurve:
    """The recall of one direction of a retrieval.

    Args:
        query: the modality of the queries.
        found: that of the candidates.
        ks: from 1 to the number of candidates.
        recall: for each k, the share of queries with a rank of at most k.
        chance: the same where the candidates are in a random order.
    """

    query: str
    found: str
    ks: list[int]
    recall: list[float]
    chance: list[float]


def recall_curves(embedded: EmbeddedColumns) -> list[RecallCurve]:
    """The curves of each two modalities, both ways; ranks and what belongs together are those of `retrieval`.

    Raises:
        ValueError: see `retrieval_ranks`.
    """
    curves = []
    for pair in itertools.combinations(embedded.embeds, 2):
        owners = embedded.owners[pair[0]], embedded.owners[pair[1]]
        captions = embedded.captions if pair[0] == "text" else None
        ranks = retrieval_ranks(
            embedded.embeds[pair[0]],
            embedded.embeds[pair[1]],
            first_ids=owners[0],
            second_ids=owners[1],
            captions=captions,
            names=pair,
        )
        partners = _partners(owners[0].tolist(), owners[1].tolist(), captions)
        for way, candidates in ((0, len(owners[1])), (1, len(owners[0]))):
            names = pair[way], pair[1 - way]
            curves.append(_curve(*names, ranks[way], partners[way], candidates))
    return curves


def chance_of_ranks(partners: Sequence[int], candidates: int) -> NDArray[np.float64]:
    """The recall@k of a random order, for k from 1 to the number of candidates.

    A query with p right ones among M candidates has a rank above k if the first k are all wrong: with a probability of
    (M - p)/M · (M - p - 1)/(M - 1) · ..., k factors.

    Args:
        partners: for each query, how many candidates are right.
        candidates: M.

    Returns:
        [M], the mean over the queries.
    """
    left = candidates - np.arange(candidates)
    chances = np.zeros(candidates)
    for count, queries in Counter(partners).items():
        chances += queries * (1 - np.cumprod(np.maximum(left - count, 0) / left))
    return chances / len(partners)


def _curve(query: str, found: str, ranks: Indices, partners: Sequence[int], candidates: int) -> RecallCurve:
    ks = np.unique(np.geomspace(1, candidates, _POINTS).round().astype(int)) if candidates > _POINTS else None
    places = np.arange(1, candidates + 1) if ks is None else ks
    recall = np.searchsorted(np.sort(ranks), places, side="right") / len(ranks)
    chance = chance_of_ranks(partners, candidates)[places - 1]
    return RecallCurve(query, found, places.tolist(), recall.tolist(), chance.tolist())


def _partners(
    first: Sequence[int], second: Sequence[int], captions: Sequence[str] | None
) -> tuple[list[int], list[int]]:
    """How many rows of the other side belong to each row, for both sides."""
    keys: Sequence[Hashable] = first if captions is None else captions
    owners_of: dict[Hashable, set[int]] = {}
    keys_of: dict[int, set[Hashable]] = {}
    for owner, key in zip(first, keys, strict=True):
        owners_of.setdefault(key, set()).add(owner)
        keys_of.setdefault(owner, set()).add(key)
    firsts, seconds = Counter(keys), Counter(second)
    return (
        [sum(seconds[owner] for owner in owners_of[key]) for key in keys],
        [sum(firsts[key] for key in keys_of[owner]) for owner in second],
    )
