"""How tensors of a file become tensors of a model, and back: each way is exact in both directions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Move:
    """One step from the file to the model.

    Args:
        sources: canonical names in the file.
        targets: names in the model, as its `state_dict()` has them.
        by: the name of the step, a key of `STEPS`.
        shape: of the source, for steps that need it to go back; of the target, for those that make one.
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    by: str = "same"
    shape: Shape = ()


@dataclass(frozen=True)
class Step:
    """A way from sources to targets and back.

    Args:
        forward: sources and the move → targets.
        back: targets and the move → sources.
    """

    forward: Callable[[Sequence[Tensor], Move], Sequence[Tensor]]
    back: Callable[[Sequence[Tensor], Move], Sequence[Tensor]]


def same(source: str, target: str) -> Move:
    """The tensor as it is."""
    return Move((source,), (target,))


def split(source: str, *targets: str) -> Move:
    """Equal parts along the first dimension, such as query, key and value."""
    return Move((source,), targets, "split")


def transposed(source: str, target: str) -> Move:
    """A matrix with rows and columns exchanged."""
    return Move((source,), (target,), "transposed")


def reshaped(source: str, target: str, source_shape: Shape, target_shape: Shape) -> Move:
    """The same numbers in another shape; both have the same number of values."""
    return Move((source,), (target,), "reshaped", (*source_shape, -1, *target_shape))


def zero_row_first(source: str, target: str) -> Move:
    """Positions [1, N, D] of patches alone → [1, 1 + N, D], zeros for the class token."""
    return Move((source,), (target,), "zero_row_first")


def zeros_after(source: str, target: str) -> Move:
    """A matrix [n, D] → [n, 2D], whose further columns are zeros: it reads the first half of its input."""
    return Move((source,), (target,), "zeros_after")


def made(target: str, value: str, shape: Shape) -> Move:
    """A tensor that the file does not hold: "zeros", "ones", "identity" (a square matrix) or "counter"."""
    return Move((), (target,), value, shape)


def buffer(source: str, value: str, shape: Shape) -> Move:
    """A tensor of the file that follows from its shape, and which the model makes by itself.

    It is "arange" (0, 1, 2...), "counter" (zeros), "causal_mask" (minus infinity above the diagonal), or one of Swin's
    windows: "window_index" and "window_mask".
    """
    return Move((source,), (), value, shape)


def _reshape(tensors: Sequence[Tensor], move: Move) -> Sequence[Tensor]:
    return [tensors[0].reshape(move.shape[move.shape.index(-1) + 1 :])]


def _reshape_back(tensors: Sequence[Tensor], move: Move) -> Sequence[Tensor]:
    return [tensors[0].reshape(move.shape[: move.shape.index(-1)])]


def _zero_row_first(tensors: Sequence[Tensor], move: Move) -> Sequence[Tensor]:
    patches = tensors[0]
    return [torch.cat([torch.zeros_like(patches[:, :1]), patches], dim=1)]


def _zeros_after(tensors: Sequence[Tensor], move: Move) -> Sequence[Tensor]:
    return [torch.cat([tensors[0], torch.zeros_like(tensors[0])], dim=1)]


def _make(values: Callable[[Move], Tensor]) -> Step:
    """Of a constant; as a buffer of the file it comes back the same."""

    def forward(tensors: Sequence[Tensor], move: Move) -> Sequence[Tensor]:
        return [values(move)] if move.targets else []

    def back(tensors: Sequence[Tensor], move: Move) -> Sequence[Tensor]:
        return [values(move)] if move.sources else []

    return Step(forward, back)


def _arange(move: Move) -> Tensor:
    """0, 1, 2... along the last dimension."""
    return torch.arange(move.shape[-1]).expand(move.shape).clone()


def causal_mask(length: int) -> Tensor:
    """What is added to the scores of attention, so that no token sees a later one: [L, L]."""
    return torch.full((length, length), float("-inf")).triu(1)


def window_index(side: int) -> Tensor:
    """For two pixels of a square window of Swin, the row of their offset in its table of relative positions.

    Returns:
        [side * side, side * side], of rows of a table [(2 * side - 1)^2, heads].
    """
    rows, columns = torch.arange(side * side) // side, torch.arange(side * side) % side
    of_rows = rows[:, None] - rows + side - 1
    return of_rows * (2 * side - 1) + columns[:, None] - columns + side - 1


def window_mask(across: int, side: int) -> Tensor:
    """What hides pixels from each other that only a cyclic shift by half a window of Swin brings together.

    Args:
        across: windows of the grid, in each direction.
        side: of a window, in pixels.

    Returns:
        [across * across, side * side, side * side]: -100, or 0 for pixels that see each other.
    """
    # What the shift moves to the other end lies in the second half of the last window.
    place = torch.arange(across * side)
    part = (place >= (across - 1) * side).long() + (place >= across * side - side // 2).long()
    parts = part[:, None] * 3 + part
    of_windows = parts.reshape(across, side, across, side).transpose(1, 2).reshape(across**2, side**2)
    return torch.where(of_windows[:, :, None] == of_windows[:, None], 0.0, -100.0)


def _window_index(move: Move) -> Tensor:
    return window_index(round(math.prod(move.shape) ** 0.25)).reshape(move.shape)


def _window_mask(move: Move) -> Tensor:
    return window_mask(math.isqrt(move.shape[0]), math.isqrt(move.shape[1]))


STEPS: Mapping[str, Step] = {
    "same": Step(lambda tensors, move: tensors, lambda tensors, move: tensors),
    "split": Step(
        lambda tensors, move: tensors[0].chunk(len(move.targets)),
        lambda tensors, move: [torch.cat(list(tensors))],
    ),
    "transposed": Step(lambda tensors, move: [tensors[0].T], lambda tensors, move: [tensors[0].T.contiguous()]),
    "reshaped": Step(_reshape, _reshape_back),
    "zero_row_first": Step(_zero_row_first, lambda tensors, move: [tensors[0][:, 1:].contiguous()]),
    "zeros_after": Step(_zeros_after, lambda tensors, move: [tensors[0].chunk(2, dim=1)[0].contiguous()]),
    "zeros": _make(lambda move: torch.zeros(move.shape)),
    "ones": _make(lambda move: torch.ones(move.shape)),
    "identity": _make(lambda move: torch.eye(move.shape[0])),
    "counter": _make(lambda move: torch.zeros(move.shape, dtype=torch.int64)),
    "arange": _make(_arange),
    "causal_mask": _make(lambda move: causal_mask(move.shape[-1])),
    "window_index": _make(_window_index),
    "window_mask": _make(_window_mask),
}


def apply(moves: Sequence[Move], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors, from the file's by canonical name; buffers of the file are not looked at."""
    result: dict[str, Tensor] = {}
    for move in moves:
        if not move.targets:
            continue
        given = [tensors[name] for name in move.sources]
        result |= zip(move.targets, STEPS[move.by].forward(given, move), strict=True)
    return result


def undo(moves: Sequence[Move], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The file's tensors by canonical name, from the model's; what the file did not hold is not looked at."""
    result: dict[str, Tensor] = {}
    for move in moves:
        if not move.sources:
            continue
        given = [tensors[name] for name in move.targets]
        result |= zip(move.sources, STEPS[move.by].back(given, move), strict=True)
    return result
