"""Texts on their way to embeddings: texts of like length share a batch, so that little padding is computed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor
from transformers.tokenization_utils_base import LARGE_INTEGER
from transformers.utils import logging

from .encoding import Encoding
from .encoding_batches import Batch, Skipped, check_readable, count, prepared_batches

logger = logging.get_logger(__name__)

# Texts are sorted within windows of so many batches: enough to save padding, and memory stays flat.
_WINDOW = 64


def raw_text_encoding(
    inputs: Any, tokenizer: Callable[[], Any], limit: int | None, embed: Callable[..., Tensor], dimensions: int
) -> Encoding:
    """Strings on their way to [N, D].

    Args:
        inputs: a string, a list or column of them, or any iterable.
        tokenizer: gives the tokenizer; asked when the first text is read.
        limit: the most tokens that the model takes, or None; the tokenizer's own `model_max_length` may be less.
        embed: tokens → [B, D].
        dimensions: D.
    """

    def batches(batch_size: int, skipped: Skipped | None) -> Iterator[Batch]:
        warned = False

        def prepare(start: int, window: Sequence[Any]) -> list[Batch]:
            nonlocal warned
            texts = _checked(window, start, skipped)
            indices = list(texts)
            most = _smaller(limit, tokenizer().model_max_length)
            tokens, truncated = _tokenize(tokenizer(), list(texts.values()), most, look_for_truncated=not warned)
            if truncated is not None:
                warned = True
                logger.warning(
                    "text %d (and perhaps others) is longer than %d tokens; what is beyond is left out",
                    *(indices[truncated], most),
                )
            # The longest first: what is too much for the memory shows at once.
            by_length = sorted(range(len(texts)), key=lambda row: -len(tokens["input_ids"][row]))
            parts = (by_length[first : first + batch_size] for first in range(0, len(by_length), batch_size))
            return [([indices[row] for row in rows], _padded(tokenizer(), tokens, rows)) for rows in parts]

        # One thread: the tokenizers of `tokenizers` bear no second.
        return prepared_batches(inputs, batch_size * _WINDOW, _is_single_text, prepare)

    return Encoding("text", batches, embed, dimensions, total=count(inputs, _is_single_text))


def _checked(window: Sequence[Any], start: int, skipped: Skipped | None) -> dict[int, str]:
    """Index → text, for what is a text."""
    texts: dict[int, str] = {}
    for index, text in enumerate(window, start=start):
        try:
            check_readable(text, index)
            if not isinstance(text, str):
                raise TypeError(f"text {index}: a {type(text).__name__}, expected a string")
            if not _is_unicode(text):
                raise ValueError(f"text {index}: holds lone surrogates, which no tokenizer reads; decode it anew")
        except (ValueError, TypeError) as error:
            if skipped is None:
                raise
            skipped[index] = error
        else:
            texts[index] = text
    return texts


def _smaller(limit: int | None, model_max_length: int) -> int | None:
    """The most tokens of a text; transformers writes 10^30 where a tokenizer knows no limit."""
    return limit if model_max_length > LARGE_INTEGER else min(limit or model_max_length, model_max_length)


def _tokenize(
    tokenizer: Any, texts: list[str], limit: int | None, look_for_truncated: bool
) -> tuple[dict[str, list[list[int]]], int | None]:
    """The tokens of each text, unpadded, and the first text that was cut, if one is looked for."""
    if not texts:
        return {}, None
    tokens = dict(tokenizer(texts, truncation=limit is not None, max_length=limit))
    if limit is None or not look_for_truncated:
        return tokens, None
    full = (row for row, ids in enumerate(tokens["input_ids"]) if len(ids) == limit)
    # verbose=False: transformers has a warning of its own for this.
    cut = (row for row in full if len(tokenizer(texts[row], verbose=False)["input_ids"]) > limit)
    return tokens, next(cut, None)


def _padded(tokenizer: Any, tokens: dict[str, list[list[int]]], rows: Sequence[int]) -> dict[str, Tensor]:
    part = {name: [values[row] for row in rows] for name, values in tokens.items()}
    return dict(tokenizer.pad(part, return_tensors="pt"))


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_single_text(inputs: Any) -> bool:
    return isinstance(inputs, (str, bytes)) or not hasattr(inputs, "__iter__") or getattr(inputs, "ndim", 1) == 0
