"""Completes a repo of ours with the files beside the model and its processor."""

from pathlib import Path
from typing import Unpack

from .endpoint_handler import write_handler
from .kind import is_joined
from .model_card import CardOptions, write_card
from .remote_code import write_remote_code
from .requirements import REQUIREMENTS_NAME, is_of_joined, write_requirements
from .sentence_transformers import write_sentence_transformers_files


def complete_repo(repo: Path, *, remote_code: bool, handler: bool = False, **card: Unpack[CardOptions]) -> None:
    """Write the files that transformers does not write: sentence-transformers' files, the model's code, and the card.

    Args:
        repo: folder of a model that this package saved.
        remote_code: whether to write the model's code, for those without this package.
        handler: whether to write what Inference Endpoints look for, which needs that code.
        card: see `write_card`.

    Raises:
        InputError: if it is not a repo of this project, or for the reasons of `write_handler` and `write_card`.
        ValueError: if a handler is to do without the model's code.
    """
    if handler and not remote_code:
        raise ValueError("a handler runs the model's code, and remote_code leaves it out")
    write_sentence_transformers_files(repo)
    if remote_code:
        write_remote_code(repo)
    if handler:
        write_handler(repo)
    elif remote_code and is_joined(repo) and (is_of_joined(listed := repo / REQUIREMENTS_NAME) or not listed.exists()):
        write_requirements(repo)
    write_card(repo, **card)
