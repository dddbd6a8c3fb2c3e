"""A smaller text tower out of a larger one: some of its layers, and the tokens of some texts."""

import copy
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import BertTokenizer
from transformers.modeling_utils import PreTrainedModel
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

_SHORT = 2  # characters of the tokens that always stay
_CONTINUES = "##"  # begins the tokens of WordPiece that go on with a word


def with_layers(tower: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """A copy of a transformer with some of its layers, in their order.

    DistilBERT (https://arxiv.org/abs/1910.01108) was begun so, with every other layer of BERT.

    Args:
        tower: a text tower.
        layers: which, counted from 0.

    Raises:
        ValueError: if it has no such layers, or its layers are not found.
    """
    smaller = copy.deepcopy(tower)
    count = int(getattr(tower.config, "num_hidden_layers", 0))
    stacks = [
        (parent, name, part)
        for parent in smaller.modules()
        for name, part in parent.named_children()
        if isinstance(part, nn.ModuleList) and len(part) == count
    ]
    if len(stacks) != 1:
        raise ValueError(f"--text_layers: the layers of a {tower.config.model_type} are not found")
    if not layers or sorted(set(layers)) != list(layers) or layers[0] < 0 or layers[-1] >= count:
        listed = " ".join(map(str, layers))
        raise ValueError(f"--text_layers {listed}: give some of 0 to {count - 1}, in their order")
    parent, name, stack = stacks[0]
    setattr(parent, name, nn.ModuleList([stack[index] for index in layers]))
    smaller.config.num_hidden_layers = len(layers)
    return smaller


def with_tokens(
    tower: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A copy of a tower that embeds fewer tokens, and its tokenizer.

    The tokens of the texts stay, the special ones, and those of one or two of their characters, of which any other word
    is spelt. A text that is a token itself, such as "##ing", keeps that token. A text whose tokens all stay is embedded
    as before, to the bit.

    Args:
        tower: a text tower.
        tokenizer: its tokenizer, of the kind WordPiece, as BERT's is.
        texts: words and sentences.

    Raises:
        ValueError: for a tokenizer of another kind, whose tokens depend on each other.
    """
    if not isinstance(tokenizer, BertTokenizer):
        raise ValueError(
            f"--text_words: only the tokens of a BertTokenizer can be left out, and this is a"
            f" {type(tokenizer).__name__}"
        )
    vocabulary = tokenizer.get_vocab()
    kept = set(tokenizer.all_special_ids)
    texts = list(texts)
    characters = {character for text in texts for character in text.lower()}
    kept.update(
        number
        for token, number in vocabulary.items()
        if len(token.removeprefix(_CONTINUES)) <= _SHORT and characters.issuperset(token.removeprefix(_CONTINUES))
    )
    kept.update(vocabulary[text] for text in texts if text in vocabulary)
    if texts:
        kept.update(number for row in tokenizer(texts, padding=False, truncation=False)["input_ids"] for number in row)
    numbers = sorted(kept)
    words = {number: token for token, number in vocabulary.items()}
    settings: dict[str, Any] = {
        name: value
        for name, value in tokenizer.init_kwargs.items()
        if name in ("do_lower_case", "strip_accents", "tokenize_chinese_chars", "model_max_length")
    }
    settings |= {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    fewer = BertTokenizer(vocab={words[old]: new for new, old in enumerate(numbers)}, **settings)
    smaller = copy.deepcopy(tower)
    before = cast(nn.Embedding, smaller.get_input_embeddings())
    padding = before.padding_idx
    after = nn.Embedding(
        len(numbers), before.embedding_dim, padding_idx=None if padding is None else numbers.index(padding)
    )
    with torch.no_grad():
        after.weight.copy_(before.weight[torch.tensor(numbers)])
    smaller.set_input_embeddings(after)
    smaller.config.vocab_size = len(numbers)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if (old := getattr(smaller.config, name, None)) is not None:
            setattr(smaller.config, name, numbers.index(old) if old in kept else None)
    return smaller, fewer
