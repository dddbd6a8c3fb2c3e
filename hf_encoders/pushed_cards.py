"""What `push_to_hub` of a model uploads has its card."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any


def with_card(upload: Callable[..., Any]) -> Callable[..., Any]:
    """Make transformers' `_upload_modified_files` write the card of what `push_to_hub` is about to upload."""

    @wraps(upload)
    def upload_with_card(self: Any, working_dir: str, repo_id: str, *args: Any, **kwargs: Any) -> Any:
        from .model_card import write_card  # here: importing the package does not import templates

        write_card(Path(working_dir), name=repo_id)
        return upload(self, working_dir, repo_id, *args, **kwargs)

    return upload_with_card
