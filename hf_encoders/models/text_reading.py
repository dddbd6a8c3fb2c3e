"""How a network reads texts: how many tokens, and whether their padding counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers.tokenization_utils_base import LARGE_INTEGER, PreTrainedTokenizerBase


@dataclass(frozen=True)
class TextReading:
    """What a tokenizer needs to know of a network; without weights, so that worker processes get none.

    Args:
        limit: the most tokens that the network takes, or None.
        reads_padding: each text is padded to the limit, and its padding is read.
        pads_to_limit: each text is padded to the limit, and the mask tells it.
    """

    limit: int | None
    reads_padding: bool = False
    pads_to_limit: bool = False

    @property
    def padding(self) -> bool | str:
        """What a tokenizer calls it: True pads to the longest text of a batch."""
        return "max_length" if self.reads_padding or self.pads_to_limit else True

    def most_tokens(self, tokenizer: PreTrainedTokenizerBase) -> int | None:
        """The most tokens of a text; transformers writes 10^30 where a tokenizer knows no limit."""
        own = tokenizer.model_max_length
        return self.limit if own > LARGE_INTEGER else min(self.limit or own, own)

    def tensors(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts, cut at the limit → `input_ids` and what else the network reads [B, L]."""
        limit = self.most_tokens(tokenizer)
        cut = {"truncation": limit is not None, "max_length": limit}
        return self.read(dict(tokenizer(list(texts), padding=self.padding, return_tensors="pt", **cut)))

    def read(self, tokens: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network reads of padded tokens: without a mask, it reads the padding too."""
        return {"input_ids": tokens["input_ids"]} if self.reads_padding else tokens
