"""What lies in a repo of ours beside the model and its processor."""

from pathlib import Path
from typing import Any

from .model_card import write_card
from .remote_code import write_remote_code


def complete_repo(repo: Path, *, remote_code: bool, **card: Any) -> None:
    """Write what transformers itself does not: the code for those without this package, and the card.

    Args:
        repo: folder of a model that this package saved.
        remote_code: whether to write the code.
        card: see `write_card`.

    Raises:
        ValueError: for no repo of this project, or what `write_card` refuses.
    """
    if remote_code:
        write_remote_code(repo)
    write_card(repo, **card)
