"""Well-known networks of no family here, by names that only they have: an error says what a file holds instead."""

import re
from collections.abc import Iterable

_STRANGERS = (
    (r"transformer\.layer\.\d+\.attention\.q_lin\.", "a DistilBERT"),
    (r"albert_layer_groups\.", "an ALBERT"),
    (r"attention\.attn\.q\.", "an MPNet"),
    (r"rel_embeddings\.|attention\.self\.(?:query_proj|in_proj)\.", "a DeBERTa"),
    (r"post_attention\.conv1d\.", "a SqueezeBERT"),
    (r"layers?\.\d+\.attn\.Wqkv\.", "a BERT with rotary positions, such as ModernBERT or Nomic's"),
    (r"layer\.\d+\.rel_attn\.", "an XLNet"),
    (r"(?:h|layers)\.\d+\.attn\.c_attn\.", "a GPT-2"),
    (r"block\.\d+\.layer\.\d+\.(?:SelfAttention|EncDecAttention)\.", "a T5"),
    (r"layers\.\d+\.mlp\.gate_proj\.", "a network with gated layers (gate_proj), such as Llama"),
    (r"crossattention\.", "a network with cross-attention, such as a Q-Former"),
    (r"features\.denseblock\d\.", "a DenseNet"),
    (r"Mixed_\d\w\.", "an Inception"),
)


def stranger(names: Iterable[str]) -> str:
    """What network some names are of, in words; empty if nothing tells."""
    every = list(names)
    return next((what for pattern, what in _STRANGERS if any(_has(pattern, name) for name in every)), "")


def _has(pattern: str, name: str) -> bool:
    return bool(re.search(rf"(?:^|\.)(?:{pattern})", name))
