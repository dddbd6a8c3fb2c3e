"""Gathers the rows of all ranks, so that a loss and its gradients equal those of one process with all rows.

Without an initialised `torch.distributed`, there is one rank, and nothing is communicated.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from ..modalities import MODALITIES


@dataclass(frozen=True)
class GatheredBatch:
    """N rows of all ranks, in the order of the ranks; the rows of this rank are `start` to `stop`.

    Args:
        embeds: modality → [N, D], at least float32, with gradients to the ranks that they are from.
        ids: modality → [N] integers.
        negatives: modality → [K, D] candidates that belong to no row; K may differ between modalities.
        negative_ids: modality → [K] integers.
        start: this rank's first row.
        stop: the row after its last one.
    """

    embeds: dict[str, Tensor]
    ids: dict[str, Tensor]
    negatives: dict[str, Tensor]
    negative_ids: dict[str, Tensor]
    start: int
    stop: int

    @property
    def count(self) -> int:
        """N."""
        return len(next(iter(self.embeds.values())))

    def own(self, modality: str) -> Tensor:
        """This rank's rows: [B, D]."""
        return self.embeds[modality][self.start : self.stop]

    def candidates(self, modality: str) -> Tensor:
        """All rows, and after them the negatives: [N + K, D]."""
        rows, negatives = self.embeds[modality], self.negatives.get(modality)
        return rows if negatives is None else torch.cat((rows, negatives))

    def false_negatives(self, first: str, second: str) -> Tensor:
        """Which candidates of `second` are not negatives of this rank's rows of `first`: [B, N + K] booleans.

        These have the id of the row in either modality. The row's own counterpart, its positive, is not one of them.
        """
        own = slice(self.start, self.stop)
        equal = torch.zeros(len(self.own(first)), self.count, dtype=torch.bool, device=self.embeds[first].device)
        for modality in (first, second):
            if modality in self.ids:
                equal |= self.ids[modality][own, None] == self.ids[modality]
        equal.diagonal(self.start).fill_(False)
        if second not in self.negatives:
            return equal
        extra = equal.new_zeros(len(equal), len(self.negatives[second]))
        if second in self.negative_ids:
            extra |= self.ids[second][own, None] == self.negative_ids[second]
        return torch.cat((equal, extra), 1)


def gather_batch(
    embeds: Mapping[str, Tensor],
    ids: Mapping[str, Tensor] | None = None,
    negatives: Mapping[str, Tensor] | None = None,
    negative_ids: Mapping[str, Tensor] | None = None,
) -> GatheredBatch:
    """Gather a batch whose size may differ from rank to rank and may be 0. Every rank must call this, and backward.

    Args:
        embeds: modality ("text", "image", "depth") → [B, D]; row i of one belongs to row i of the others.
        ids: modality → [B] integers. Rows with equal ids are the same text, image or depth map.
        negatives: modality → [K, D] further candidates. K may differ from rank to rank.
        negative_ids: modality → [K] integers, to compare with `ids`.

    Raises:
        ValueError, TypeError: if names or shapes do not fit together, on this rank or between ranks; if all are empty.
    """
    ids, negatives, negative_ids = dict(ids or {}), dict(negatives or {}), dict(negative_ids or {})
    _check(embeds, ids, negatives, negative_ids)
    names = [name for name in MODALITIES if name in embeds]
    rows = _wide(torch.stack([embeds[name] for name in names], 1))
    extra = {name: _wide(negatives[name]) for name in names if name in negatives}
    signature = f"{names} {rows.shape[2]} {rows.dtype} {sorted(ids)} {sorted(extra)} {sorted(negative_ids)}"
    counts, gradients = _all_counts(signature, [rows, *extra.values()])
    if not sum(counts[0]):
        raise ValueError("the batch has no row on any rank")

    gathered = _gather(rows, counts[0], gradients[0])
    rank = dist.get_rank() if _distributed() else 0
    start = sum(counts[0][:rank])
    all_negatives: dict[str, Tensor] = {}
    all_negative_ids: dict[str, Tensor] = {}
    for (name, tensor), rank_counts, gradient in zip(extra.items(), counts[1:], gradients[1:], strict=True):
        all_negatives[name] = _gather(tensor, rank_counts, gradient)
        if name in negative_ids:
            all_negative_ids[name] = _gather(negative_ids[name].to(rows.device, torch.int64), rank_counts, False)
    return GatheredBatch(
        embeds=dict(zip(names, gathered.unbind(1), strict=True)),
        ids={name: _gather(ids[name].to(rows.device, torch.int64), counts[0], False) for name in names if name in ids},
        negatives=all_negatives,
        negative_ids=all_negative_ids,
        start=start,
        stop=start + len(rows),
    )


def global_mean(sums: Tensor, count: int) -> Tensor:
    """Sums over this rank's rows → means over the `count` rows of all ranks, equal on every rank.

    The gradient is that of this rank's own part, times the number of ranks. Distributed training averages the gradients
    of parameters over ranks, and so makes it the gradient of the mean.
    """
    return _GlobalMean.apply(sums, count)


def with_shared_gradient(scalar: Tensor) -> Tensor:
    """Return the same value, whose gradient becomes the mean of the ranks' gradients.

    A temperature or a bias that no wrapper averages then gets the same gradient on every rank. Averaging it again
    changes nothing.
    """
    return _SharedGradient.apply(scalar) if _distributed() and scalar.requires_grad else scalar


class _RowsContext(FunctionCtx):
    own: slice


class _MeanContext(FunctionCtx):
    factor: float


class _GatherRows(torch.autograd.Function):
    """[B, ...] of each rank → [N, ...]; a row's gradient is the sum of its gradients on all ranks."""

    @staticmethod
    def forward(ctx: _RowsContext, tensor: Tensor, counts: list[int]) -> Tensor:
        start = sum(counts[: dist.get_rank()])
        ctx.own = slice(start, start + len(tensor))
        # Not every backend gathers tensors of different sizes.
        padded = tensor.new_zeros(max(counts), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: _RowsContext, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[ctx.own], None


class _GlobalMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: _MeanContext, sums: Tensor, count: int) -> Tensor:
        ctx.factor = (dist.get_world_size() if _distributed() else 1) / count
        total = sums.clone()
        if _distributed():
            dist.all_reduce(total)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: _MeanContext, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class _SharedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, scalar: Tensor) -> Tensor:
        return scalar.view_as(scalar)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient / dist.get_world_size()


def _distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _gather(tensor: Tensor, counts: list[int], gradient: bool) -> Tensor:
    if not _distributed() or not sum(counts):
        return tensor
    if gradient and not tensor.requires_grad and torch.is_grad_enabled():
        # Backward communicates: a rank that has nothing to train here must take part.
        tensor = tensor.detach().requires_grad_()
    return _GatherRows.apply(tensor, counts)


def _all_counts(signature: str, tensors: list[Tensor]) -> tuple[list[list[int]], list[bool]]:
    """For each tensor, its number of rows on each rank, and whether it needs a gradient on any rank."""
    if not _distributed():
        return [[len(tensor)] for tensor in tensors], [tensor.requires_grad for tensor in tensors]
    # The header has a fixed length, so that a mismatch between ranks raises an error instead of a deadlock.
    header = torch.zeros(1 + 2 * (1 + len(MODALITIES)), dtype=torch.int64, device=tensors[0].device)
    header[0] = int.from_bytes(hashlib.blake2b(signature.encode(), digest_size=7).digest(), "big")
    for place, tensor in enumerate(tensors):
        header[1 + 2 * place], header[2 + 2 * place] = len(tensor), tensor.requires_grad
    headers = [torch.empty_like(header) for _ in range(dist.get_world_size())]
    dist.all_gather(headers, header)
    table = torch.stack(headers).tolist()
    for rank, row in enumerate(table):
        if row[0] != table[0][0]:
            raise ValueError(
                f"rank {rank} gives other modalities, dimensions, types, ids or negatives than rank 0; give empty"
                " tensors where there are no rows"
            )
    counts = [[row[1 + 2 * place] for row in table] for place in range(len(tensors))]
    return counts, [any(row[2 + 2 * place] for row in table) for place in range(len(tensors))]


def _wide(tensor: Tensor) -> Tensor:
    """At least float32: similarities of half precision are too coarse for a loss."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _check(
    embeds: Mapping[str, Tensor],
    ids: Mapping[str, Tensor],
    negatives: Mapping[str, Tensor],
    negative_ids: Mapping[str, Tensor],
) -> None:
    """Refuse names, types and shapes that do not fit together."""
    if not embeds:
        raise ValueError(f"no embeddings: give those of {', '.join(MODALITIES)}")
    for kind, given in (("embeds", embeds), ("ids", ids), ("negatives", negatives), ("negative_ids", negative_ids)):
        known = MODALITIES if kind == "embeds" else tuple(negatives if kind == "negative_ids" else embeds)
        for name, tensor in given.items():
            if name not in known:
                raise ValueError(f"{kind} of {name!r}: expected {' or '.join(map(repr, known)) or 'none'}")
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{kind} of {name!r} must be a tensor, got {type(tensor).__name__}")
    first = next(iter(embeds.values()))
    for kind, given, rows in (("embeds", embeds, len(first)), ("negatives", negatives, None)):
        for name, tensor in given.items():
            if first.ndim != 2 or tensor.ndim != 2 or tensor.shape[1] != first.shape[1]:
                expected = f"[{'K' if rows is None else 'B'}, D] with the D of all"
                raise ValueError(f"{kind} of {name!r} are {list(tensor.shape)}, expected {expected}")
            if rows is not None and len(tensor) != rows:
                raise ValueError(f"embeds of {name!r} have {len(tensor)} rows, the others {rows}")
    for kind, given, rows_by_name in (("ids", ids, embeds), ("negative_ids", negative_ids, negatives)):
        for name, tensor in given.items():
            if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
                raise TypeError(f"{kind} of {name!r} must be integers, got {tensor.dtype}")
            if tensor.shape != rows_by_name[name].shape[:1]:
                raise ValueError(f"{kind} of {name!r} are {list(tensor.shape)}, expected [{len(rows_by_name[name])}]")
    for name in negative_ids:
        if name not in ids:
            raise ValueError(f"negative_ids of {name!r} have no ids of {name!r} to be compared with")
