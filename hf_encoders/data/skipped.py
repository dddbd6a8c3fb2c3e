"""Inputs that `on_error="skip"` left out, and why each one: the mask of `encode` tells only which."""

from collections.abc import Callable, Iterable
from typing import TypedDict

from ..models.input_errors import InputError, one_line, printable

Encoding = Callable[..., object]


class SkippedInput(TypedDict):
    """An input that was left out: its position among all, what a person knows it by, and what is wrong with it."""

    index: int
    name: str
    reason: str


def skipped_inputs(
    encode: Encoding, positions: Iterable[int], item_at: Callable[[int], object], name_of: Callable[[int], str]
) -> list[SkippedInput]:
    """Say why inputs were left out, by a second attempt at each one.

    Args:
        encode: the method that left them out, with its options, but for `on_error`.
        positions: theirs.
        item_at: position → a collection with that input alone, as `encode` takes it.
        name_of: position → its file, or what else a person knows it by.
    """
    return [
        {"index": index, "name": printable(name_of(index)), "reason": why(encode, item_at(index), name_of(index))}
        for index in positions
    ]


def why(encode: Encoding, item: object, name: str = "") -> str:
    """Why an input cannot be embedded, on one line.

    Args:
        encode: the method that refuses it.
        item: a collection with that input alone.
        name: of the input, which the reason does not repeat.
    """
    try:
        encode(item, on_error="raise", show_progress_bar=False)
    except (ValueError, TypeError) as error:
        return reason_of(error).removeprefix(f"{printable(name)}: ")
    return "cannot be read"  # at the second attempt it could


def reason_of(error: Exception) -> str:
    """An error about an input on one line, without its position, which means nothing beside its name."""
    return error.without_position() if isinstance(error, InputError) else one_line(error)
