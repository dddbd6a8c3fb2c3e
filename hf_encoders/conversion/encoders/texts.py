"""Tokenizers of converted encoders."""

from transformers import PreTrainedTokenizerBase

from ..families.family import Texts


def read_texts(option: str, source: str, texts: Texts | None) -> PreTrainedTokenizerBase:
    """Read a tokenizer."""
    raise NotImplementedError
