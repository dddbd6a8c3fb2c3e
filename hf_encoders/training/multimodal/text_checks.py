"""What is checked of a tokenizer and of captions before the first step."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from datasets import IterableDataset
from torch import nn
from transformers import PreTrainedTokenizerBase

from ...models.modeling_multimodal_encoder import MultimodalEncoderModel
from ...models.text_tower import unknown_texts
from ..depth_units import LOOKED_AT, spread
from .arguments import DataArguments
from .captions import ClassNames, Template, columns_of_templates
from .rows import load_rows

_LONGEST = 200  # characters of a row in a message
_FEW = 0.1  # more captions than this share without a token are warned about


def check_tokenizer(model: MultimodalEncoderModel, source: str) -> None:
    """Refuse a tokenizer whose tokens the text tower cannot embed, or that cannot fill up batches.

    Args:
        model: with its processor.
        source: what the message calls the tokenizer.

    Raises:
        ValueError: if it does not fit.
    """
    tokenizer = model.processor.tokenizer
    if tokenizer is None:  # making samples says so
        return
    largest = max(tokenizer.get_vocab().values(), default=-1) + 1
    embedded = cast(nn.Embedding, model.text_encoder.get_input_embeddings()).num_embeddings
    if largest > embedded:
        raise ValueError(
            f"{source}: has {largest} tokens, and the text tower embeds {embedded}; give the tokenizer that the tower"
            " was trained with, or for a new tower set vocab_size in its text_config"
        )
    if tokenizer.pad_token is None:
        raise ValueError(f"{source}: has no padding token, which batches of texts need")
    reading = model.tower("text").reading
    if reading.padding == "max_length" and reading.most_tokens(tokenizer) is None:
        raise ValueError(f"{source}: tells no model_max_length, to which the text network pads each text")


def warn_of_other_tokens(given: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase | None, source: str) -> None:
    """Warn of a tokenizer that gives the numbers of the model's tokens to other tokens: its weights know the old ones.

    Args:
        given: the tokenizer that is asked for.
        own: the model's own, if it has one.
        source: what the warning calls the one that is asked for.
    """
    if own is None:
        return
    before = {number: token for token, number in own.get_vocab().items()}
    vocabulary = given.get_vocab()
    other = [(number, token) for token, number in vocabulary.items() if before.get(number, token) != token]
    if other:
        number, token = min(other)
        warnings.warn(
            f"{source}: {len(other)} of {len(vocabulary)} tokens are not those of the model's own tokenizer (number"
            f" {number} is {token!r}, and {before[number]!r} there), so the model reads other words than it learned:"
            " leave --tokenizer out, unless the text tower is to learn anew",
            stacklevel=2,
        )


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> str:
    """A digest of the tokens and their numbers."""
    content = json.dumps(sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def check_captions(options: DataArguments, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse captions of which nothing can be learned; some rows are looked at, of a stream the first.

    Raises:
        ValueError: if none of them has a word, all are the same, or the tokenizer knows none of them; or if a template
            makes no caption of any of the rows.
    """
    column = options.text_column
    rows = load_rows(options, options.train_split)
    features = rows.features
    rows = rows.select_columns(list(dict.fromkeys([column, *columns_of_templates(options.text_templates)])))
    is_stream = isinstance(rows, IterableDataset)
    some = list(rows.take(LOOKED_AT) if is_stream else (rows[index] for index in spread(len(rows))))
    _check_templates(options.text_templates, [ClassNames(features).named(row) for row in some])
    captions = [text for row in some for text in _texts(row, column)]
    where = f"column {column!r}: the captions of all {len(some)} rows that were looked at"
    words = [text for text in captions if text.strip()]
    if some and not words:
        raise ValueError(f"{where} are empty; give the right --text_column")
    # A stream may be sorted, and begin with many rows of one kind.
    if len(some) > 1 and len(set(words)) == 1 and len(words) >= len(some):
        if not is_stream:
            raise ValueError(f"{where} are {words[0][:80]!r}, so none can be told from another; give another column")
        warnings.warn(f"{where} are {words[0][:80]!r}: is the stream sorted?", stacklevel=2)
    if unknown := unknown_texts(tokenizer, words):
        if len(unknown) == len(words):
            raise ValueError(
                f"{where} have no token that the tokenizer knows, such as {unknown[0][:80]!r}; give another --tokenizer"
            )
        if len(unknown) > _FEW * len(words):
            warnings.warn(
                f"column {column!r}: {len(unknown)} of {len(words)} captions have no token that the tokenizer knows,"
                f" such as {unknown[0][:80]!r}",
                stacklevel=2,
            )


def all_captions(options: DataArguments) -> Iterator[str]:
    """Every caption of the training rows, those of templates too; none of a stream, which is read once."""
    if options.streaming:
        return
    rows = load_rows(options, options.train_split)
    columns = [options.text_column, *columns_of_templates(options.text_templates)]
    names, templates = ClassNames(rows.features), [Template(text) for text in options.text_templates]
    for row in rows.select_columns(list(dict.fromkeys(columns))):
        yield from _texts(row, options.text_column)
        named = names.named(row)
        yield from filter(None, (template.fill(named) for template in templates))


def _check_templates(templates: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    for text in templates:
        if rows and all(Template(text).fill(row) is None for row in rows):
            shown = str({column: rows[0][column] for column in Template(text).columns})[:_LONGEST]
            raise ValueError(
                f"--text_templates {text!r}: none of the {len(rows)} rows that were looked at has its values; the first"
                f" has {shown}"
            )


def _texts(row: Mapping[str, object], column: str) -> Iterator[str]:
    """The captions of a row; what is no text is a row that cannot be read, which training counts."""
    value = row[column]
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str):
            yield text
