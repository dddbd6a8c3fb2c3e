"""The tower of texts: texts of like length share a batch, so that little padding is computed."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, cast

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling as Outputs
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils import logging

from .concurrency import ProcessLock
from .input_batches import Batch, Skipped, check_readable, prepared_batches
from .input_errors import InputError, InputTypeError, one_line
from .multimodal_towers import token_limit
from .text_reading import TextReading
from .tower import Pool, ProcessorSource, Tower, pooler_output

logger = logging.get_logger(__name__)

# Texts are sorted within windows of so many batches: enough to save padding, and memory stays flat.
BATCHES_PER_WINDOW = 64
_PROCESSED = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_EXAMPLE_LENGTH = 16

# The file of sentence-transformers that holds what goes before texts.
PROMPTS_FILE = "config_sentence_transformers.json"

# Tokenizers are not thread-safe: each keeps its truncation and padding, and several threads may share one.
TOKENIZING = ProcessLock()

_Tokens = dict[str, list[list[int]]]


@dataclass
class Truncation:
    """Counts the texts that were cut, and warns of them once.

    Args:
        count: how many were.
        first: the index of the first.
        limit: how many tokens of each are left.
        name: what a person knows the first by; by default its index.
    """

    count: int = 0
    first: int = 0
    limit: int = 0
    name: str | None = None

    def see(self, index: int, limit: int) -> None:
        """A text was cut.

        Args:
            index: of the text.
            limit: how many tokens of it are left.
        """
        self.first = min(self.first, index) if self.count else index
        self.count, self.limit = self.count + 1, limit

    def add(self, other: "Truncation", start: int = 0) -> None:
        """Count what another one counted among the texts that come next.

        Args:
            other: it counted from 0 on.
            start: the index of its first text here.
        """
        if other.count and not self.count:
            self.first, self.name = start + other.first, other.name
        self.count, self.limit = self.count + other.count, max(self.limit, other.limit)

    def warn(self, more: str = "") -> None:
        """Say how many texts were cut, and where, if any were.

        Args:
            more: what is to be said beside.
        """
        if self.count:
            first = f"text {self.first if self.name is None else self.name}"
            subject = f"{first} is" if self.count == 1 else f"{self.count} texts (the first is {first}) are"
            logger.warning("%s longer than %d tokens; what is beyond is left out%s", subject, self.limit, more)


class TextTower(Tower[PreTrainedTokenizerBase]):
    """Texts → embeddings, by a tokenizer.

    Args:
        network: the part of the model that reads tokens: its limit and its vocabulary count. The tokenizer's own
            `model_max_length` may be less than the limit.
        others: see `Tower`.
    """

    name = "text"
    input_names = ("input_ids", "attention_mask")
    # Stands before each raw text.
    prompt = ""
    # Counts the texts that are cut, for whoever warns of several calls at once; without it each call warns of its own.
    truncation: Truncation | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        call: Callable[..., Outputs],
        processors: ProcessorSource[PreTrainedTokenizerBase],
        dimensions: int,
        network: PreTrainedModel,
        *,
        pool: Pool = pooler_output,
        normalize: bool = False,
    ):
        super().__init__(model, call, processors, dimensions, pool=pool, normalize=normalize)
        self._network = network
        self.limit = token_limit(network)
        # Whether each text is padded to the limit and its padding is read, as by towers that were trained so: SigLIP's
        # feature of a text is that of the last position.
        self.reads_padding: bool = getattr(network.config, "reads_padding", False)
        # Whether each text is padded to the limit, and the mask tells it: for a feature of all positions.
        self.pads_to_limit: bool = getattr(network.config, "pads_to_limit", False)

    @property
    def function(self) -> tuple[object, ...]:
        """See `Tower`; the part that reads tokens counts too."""
        return *super().function, self._network

    @property
    def reading(self) -> TextReading:
        """How the network reads texts."""
        return TextReading(self.limit, self.reads_padding, self.pads_to_limit)

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        return cast(nn.Embedding, self._network.get_input_embeddings()).num_embeddings

    def with_prompt(self, prompt: str) -> Self:
        """This tower with something before each raw text, such as "query: "; others may use it as it is."""
        tower = copy.copy(self)
        tower.prompt = prompt
        return tower

    def counting(self, truncation: Truncation) -> Self:
        """This tower without warnings of texts that are cut: they are counted, and the caller warns."""
        tower = copy.copy(self)
        tower.truncation = truncation
        return tower

    def is_single(self, inputs: object) -> bool:
        """Tell one string from many."""
        return isinstance(inputs, (str, bytes)) or not hasattr(inputs, "__iter__") or getattr(inputs, "ndim", 1) == 0

    def processed(self, inputs: object) -> dict[str, Tensor] | None:
        """The tensors [N, L] of a tokenizer's output."""
        if not isinstance(inputs, Mapping):
            return None
        if "input_ids" not in inputs:
            raise ValueError(f"a mapping with {', '.join(map(str, inputs)) or 'nothing'}, expected input_ids")
        if self.prompt:
            raise ValueError(f"the prompt {self.prompt!r} goes before raw texts, and these were tokenized before")
        return {name: torch.as_tensor(inputs[name]) for name in _PROCESSED if name in inputs}

    def prepare(self, items: Sequence[object], first_index: int = 0) -> dict[str, Tensor]:
        """Strings → `input_ids` and what else the tokenizer gives [B, L]; strings are cut at the limit."""
        tokenizer = self._matching_tokenizer()
        texts = list(self._prompted(checked_texts(items, first_index, None)).values())
        with TOKENIZING:
            return self.reading.tensors(tokenizer, texts)

    def batches(self, inputs: object, size: int, skipped: Skipped | None = None) -> Iterator[Batch]:
        """Strings → batches of like length; after the last one, a warning counts those that were cut at the limit."""
        truncation = Truncation() if self.truncation is None else self.truncation
        window = partial(self._window, size=size, skipped=skipped, truncation=truncation)
        # One thread: one at a time may use the tokenizer.
        yield from prepared_batches(inputs, size * BATCHES_PER_WINDOW, self.is_single, window)
        if self.truncation is None:
            truncation.warn()

    def outputs(self, batch: Mapping[str, Tensor]) -> Outputs:
        """The outputs of the model for tokens [B, L].

        Raises:
            ValueError: if there are more tokens than the model takes.
        """
        self.check(batch)
        return self._call(**batch, return_dict=True)

    def check(self, batch: Mapping[str, Tensor]) -> None:
        """Raise ValueError if there are more tokens than the model takes."""
        length = batch["input_ids"].shape[-1]
        if self.limit is not None and length > self.limit:
            raise ValueError(
                f"{length} tokens, the model takes {self.limit}; tokenize with truncation=True, or pass strings"
            )

    def check_compiled(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See `Tower`; a program would read beside its tables in silence, and takes tokens and their mask alone."""
        self.check(batch)
        ids = batch["input_ids"]
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary:
            raise ValueError(f"tokens from {int(ids.min())} to {int(ids.max())}, the model has {self.vocabulary}")
        for name in batch.keys() - set(self.input_names):
            if name == "position_ids" or bool(batch[name].any()):
                raise ValueError(f"{name}: a compiled program takes {' and '.join(self.input_names)} alone; use torch")
        mask = batch.get("attention_mask")
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids) if mask is None else mask}

    def example(self) -> dict[str, Tensor]:
        """Two texts of ones, of the only length that there is where all are padded."""
        longest = self.longest or _EXAMPLE_LENGTH
        shape = 2, longest if self.pads_to_limit else min(_EXAMPLE_LENGTH, longest)
        # Tensors of their own: torch.export takes one tensor in two places for one input.
        return {name: torch.ones(shape, dtype=torch.long) for name in self.input_names}

    def _window(
        self, start: int, items: Sequence[object], *, size: int, skipped: Skipped | None, truncation: Truncation
    ) -> list[Batch]:
        """The batches of a window of texts; the longest come first, so that too little memory shows at once."""
        texts = self._prompted(checked_texts(items, start, skipped))
        if not texts:
            return []
        tokenizer, indices = self._matching_tokenizer(), list(texts)
        with TOKENIZING:
            tokens = self._tokenize(tokenizer, texts, truncation)
            by_length = sorted(range(len(indices)), key=lambda row: -len(tokens["input_ids"][row]))
            batches: list[Batch] = []
            for first in range(0, len(by_length), size):
                rows = by_length[first : first + size]
                batches.append(([indices[row] for row in rows], self._padded(tokenizer, tokens, rows)))
            return batches

    def _tokenize(
        self, tokenizer: PreTrainedTokenizerBase, texts: Mapping[int, str], truncation: Truncation
    ) -> _Tokens:
        """The tokens of each text, unpadded."""
        limit = self.reading.most_tokens(tokenizer)
        tokens = tokenizer(list(texts.values()), truncation=limit is not None, max_length=limit)
        if limit is not None:
            lengths = map(len, tokens["input_ids"])
            note_cut_texts(tokenizer, texts, tokens, list(lengths), limit, truncation)
        return dict(tokens)

    def _prompted(self, texts: dict[int, str]) -> dict[int, str]:
        return {index: self.prompt + text for index, text in texts.items()} if self.prompt else texts

    def _padded(self, tokenizer: PreTrainedTokenizerBase, tokens: _Tokens, rows: Sequence[int]) -> dict[str, Tensor]:
        part = {name: [values[row] for row in rows] for name, values in tokens.items()}
        reading = self.reading
        limit = reading.most_tokens(tokenizer) if reading.padding == "max_length" else None
        return reading.read(dict(tokenizer.pad(part, padding=reading.padding, max_length=limit, return_tensors="pt")))

    def _matching_tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer = self.processor
        if len(tokenizer) > self.vocabulary:
            raise ValueError(
                f"the tokenizer has {len(tokenizer)} tokens and the text tower {self.vocabulary}: it is another model's"
            )
        return tokenizer

    @property
    def longest(self) -> int | None:
        """The most tokens of a text, by the network or by the tokenizer; None if neither knows a limit."""
        if self.limit is not None:
            return self.limit
        try:
            return self.reading.most_tokens(self.processor)
        except (OSError, ValueError):  # it has none
            return None


def note_cut_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Mapping[int, str],
    tokens: Mapping[str, object],
    lengths: Sequence[int],
    limit: int,
    truncation: Truncation,
) -> None:
    """Note the texts that a tokenizer cut.

    Args:
        tokenizer: which cut them.
        texts: index → text.
        tokens: what it made of them.
        lengths: how many tokens of each are left.
        limit: the most tokens.
        truncation: where they are noted.
    """
    # A tokenizer in Rust keeps what it cut off.
    encodings = tokens.encodings if isinstance(tokens, BatchEncoding) else None
    for row, ((index, text), length) in enumerate(zip(texts.items(), lengths, strict=True)):
        if length < limit:
            continue
        # verbose=False: transformers has a warning of its own for this.
        cut = encodings[row].overflowing if encodings else len(tokenizer(text, verbose=False)["input_ids"]) > limit
        if cut:
            truncation.see(index, limit)


def checked_texts(items: Sequence[object], start: int, skipped: Skipped | None) -> dict[int, str]:
    """Index → text, of the items that are texts.

    Args:
        items: what should be texts.
        start: the index of the first.
        skipped: collects the others; without it they raise ValueError or TypeError.
    """
    texts: dict[int, str] = {}
    for index, text in enumerate(items, start=start):
        try:
            check_readable(text, index)
            if not isinstance(text, str):
                raise InputTypeError(
                    index=index, name=f"text {index}", reason=f"a {type(text).__name__}, expected a string"
                )
            if not _is_unicode(text):
                raise InputError(
                    index=index,
                    name=f"text {index}",
                    reason="holds lone surrogates, which no tokenizer reads",
                    hint="decode it anew",
                )
        except (ValueError, TypeError) as error:
            if skipped is None:
                raise
            skipped[index] = error
        else:
            texts[index] = text
    return texts


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unknown_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[str]:
    """The texts of which the tokenizer knows no token: they all embed alike, as its token for the unknown."""
    special = set(tokenizer.all_special_ids)
    with TOKENIZING:
        tokens: list[list[int]] = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    return [text for text, ids in zip(texts, tokens, strict=True) if special.issuperset(ids)]


def read_prompts(path: Path | None) -> dict[str, str]:
    """What goes before texts, by name ("query", "document").

    Args:
        path: a file of sentence-transformers; without one there are no prompts.

    Raises:
        InputError: if the file is damaged.
    """
    if path is None:
        return {}
    try:
        prompts = json.loads(path.read_text(encoding="utf-8")).get("prompts") or {}
        return {str(name): str(prompt or "") for name, prompt in prompts.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(path=path, reason=f"prompts cannot be read ({one_line(error)})") from error
