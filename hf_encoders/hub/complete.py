"""Completes a repo of ours with the files beside the model and its processor."""

from pathlib import Path
from typing import Unpack

from .model_card import CardOptions, write_card
from .remote_code import write_remote_code
from .sentence_transformers import write_sentence_transformers_files


def complete_repo(repo: Path, *, remote_code: bool, **card: Unpack[CardOptions]) -> None:
    """Write the files that transformers does not write: sentence-transformers' files, the model's code, and the card.

    Args:
        repo: folder of a model that this package saved.
        remote_code: whether to write the model's code, for those without this package.
        card: see `write_card`.

    Raises:
        InputError: if it is not a repo of this project, or for the reasons of `write_card`.
    """
    write_sentence_transformers_files(repo)
    if remote_code:
        write_remote_code(repo)
    write_card(repo, **card)
