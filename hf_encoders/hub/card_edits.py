"""Finds what people wrote into a card, and which of two versions of a card holds all of it."""

from huggingface_hub import ModelCard

from .card_merging import split
from .card_widget import is_generated

# Part of the placeholder card that transformers pushes; nobody wrote it.
EMPTY_CARD = "This model card has been automatically generated."
_GENERATED_KEYS = {"library_name", "pipeline_tag", "tags", "datasets", "base_model", "model-index"}


def complete_version(here: str, there: str) -> str:
    """Return the version of a card that holds everything that people wrote into either.

    Args:
        here: the card in a folder; may be empty.
        there: the card on the Hub.

    Raises:
        ValueError: if each holds something that the other lacks; the message names it.
    """
    lacking_here = by_hand(there) - by_hand(here)
    if not lacking_here:
        return here
    if not by_hand(here) - by_hand(there):
        return there
    example = min(lacking_here).split("\n")[0]
    raise ValueError(f"the card there and the one here were both edited; {example!r} is only there: put it in here too")


def by_hand(content: str) -> set[str]:
    """The paragraphs outside of generated sections, and the keys of the header that this package does not write."""
    card = ModelCard(content, ignore_metadata_errors=True)
    if not content or EMPTY_CARD in card.text:
        return set()
    own = "\n\n".join(piece.text for piece in split(card.text) if not piece.name)
    paragraphs = {paragraph.strip() for paragraph in own.split("\n\n")} - {""}
    entries = card.data.to_dict().items()
    return paragraphs | {f"{key}:" for key, value in entries if not _is_generated(key, value)}


def _is_generated(key: str, value: object) -> bool:
    return key in _GENERATED_KEYS or is_generated(key, value)
