"""The arguments that `encode...` does not take, and which one of ours is meant: those of other libraries, and slips."""

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

_FIRST = "inputs come first, and need no name"
_OF_THE_TOKENIZER = (
    "texts are padded by batches and cut at the model's limit; encode_text also takes a tokenizer's output"
)
_OF_DEPTH = "for depth maps alone: call encode_depth"
# Argument → what to do instead.
_MEANT: Mapping[str, str] = {
    # of sentence-transformers
    "sentences": _FIRST,
    "normalize_embeddings": "say normalize=",
    "convert_to_numpy": 'say convert_to="numpy"',
    "convert_to_tensor": 'convert_to="tensor" is the default',
    "output_value": "each input has one embedding; forward(...).last_hidden_state has those of tokens",
    "prompt_name": "encode_query and encode_document put the model's prompts before texts",
    "prompt": "put it before each text, or into model.prompts for encode_query and encode_document",
    "precision": "dtype= is what computes, and embeddings are float32; EmbeddingIndex(precision=) stores fewer bits",
    "task": "call encode_query or encode_document",
    "pool": "hf-encoders embed works on many processes",
    "chunk_size": "say batch_size=",
    # of transformers' processors, pipelines and CLIP
    "text": _FIRST,
    "texts": _FIRST,
    "images": _FIRST,
    "image": _FIRST,
    "depth": _FIRST,
    "return_tensors": 'say convert_to="tensor" (the default) or "numpy"',
    "return_dict": "encode gives embeddings; forward gives all outputs",
    "padding": _OF_THE_TOKENIZER,
    "truncation": _OF_THE_TOKENIZER,
    "max_length": _OF_THE_TOKENIZER,
    "torch_dtype": "say dtype=",
    "num_workers": "threads read and prepare inputs by themselves",
    "input_ids": "give them as one mapping: encode_text(tokens)",
    "attention_mask": "give it with input_ids as one mapping: encode_text(tokens)",
    "pixel_values": _FIRST,
    "depth_values": _FIRST,
    # of ours, elsewhere
    "preset": _OF_DEPTH,
    "unit_scale": _OF_DEPTH,
    "value_range": _OF_DEPTH,
    "invalid_values": _OF_DEPTH,
}


def check_arguments(method: str, given: Iterable[str], known: Collection[str]) -> None:
    """Refuse arguments that a method does not take.

    Args:
        method: its name, for the message.
        given: the names of the arguments of a call.
        known: those that it takes.

    Raises:
        TypeError: for the first one, with the argument that is meant.
    """
    for name in given:
        if name in known:
            continue
        near = get_close_matches(name, known, n=1)
        advice = _MEANT.get(name) or (f"did you mean {near[0]}=?" if near else f"it takes {', '.join(sorted(known))}")
        raise TypeError(f"{method} has no argument {name!r}: {advice}")
