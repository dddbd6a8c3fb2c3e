"""Pushes a model as a whole repo of ours: weights, processor, card and code, in one commit.

Models call this for `push_to_hub` and `save_pretrained(..., push_to_hub=True)`; see `models.saved_processor`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from huggingface_hub import CommitInfo, HfApi
from transformers.utils.hub import create_and_tag_model_card

from .complete import complete_repo
from .model_card import CARD_NAME
from .push import commit


def push_saved(
    save: Callable[[], object],
    folder: Path,
    repo_id: str,
    *,
    tags: Sequence[str] = (),
    private: bool | None = None,
    token: str | bool | None = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Make a repo on the Hub, save a model into a folder, and push the folder.

    Args:
        save: writes the model into the folder; called once the Hub has taken the name.
        folder: where the model is saved.
        repo_id: such as "org/name".
        tags: added to those of the card.
        private: whether a new repo is private; by default what the organisation prefers.
        token: by default that of `hf auth login`.
        commit_message: the title of the commit.
        commit_description: the text of the commit.
        revision: the branch, which is made if it does not exist; the default branch if not given.
        create_pr: open a pull request instead of a commit.

    Raises:
        HfHubHTTPError: if the Hub refuses.
    """
    name = str(HfApi(token=token).create_repo(repo_id, private=private, exist_ok=True).repo_id)
    card = create_and_tag_model_card(
        name, list(tags) or None, token=cast("str | None", token)
    )  # as `token: bool` is for HfApi
    save()
    card.save(folder / CARD_NAME)
    complete_repo(folder, remote_code=True, name=name)
    return commit(
        folder,
        name,
        revision=revision,
        create_pr=create_pr,
        message=commit_message,
        description=commit_description,
        token=token,
    )
