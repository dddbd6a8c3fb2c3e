"""What `push_to_hub` of a model uploads: a whole repo of ours, in place of the weights that were there."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huggingface_hub import CommitInfo


def upload_whole_repo(
    self: Any,
    working_dir: str,
    repo_id: str,
    files_timestamps: Any = None,
    commit_message: str | None = None,
    token: str | bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    commit_description: str | None = None,
) -> "CommitInfo":
    """Stands in for transformers' `_upload_modified_files`, whose arguments these are."""
    from .complete import complete_repo
    from .push import commit  # here: importing the package does not import templates

    folder = Path(working_dir)
    complete_repo(folder, remote_code=True, name=repo_id)
    return commit(
        folder,
        repo_id,
        revision=revision,
        create_pr=create_pr,
        message=commit_message,
        description=commit_description,
        token=token,
    )
