"""What lies in a repo of ours beside the model and its processor."""

from pathlib import Path
from typing import Any

from .model_card import write_card
from .remote_code import write_remote_code
from .sentence_transformers import write_sentence_transformers_files


def complete_repo(repo: Path, *, remote_code: bool, **card: Any) -> None:
    """Write what transformers does not: sentence-transformers' files, the code for others, and the card.

    Args:
        repo: folder of a model that this package saved.
        remote_code: whether to write the model's code, for those without this package.
        card: see `write_card`.

    Raises:
        ValueError: for no repo of this project, or what `write_card` refuses.
    """
    write_sentence_transformers_files(repo)
    if remote_code:
        write_remote_code(repo)
    write_card(repo, **card)
