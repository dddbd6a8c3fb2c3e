"""A repo in a folder → a repo on the Hub: in one commit or not at all, and errors say what to do."""

import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from .card_edits import complete_version
from .complete import complete_repo
from .errors import LOG_IN
from .model_card import CARD_NAME

Result = TypeVar("Result")

# What a training run leaves beside its model, which belongs into no repo.
BESIDE_THE_MODEL = ("checkpoints", "logs", ".*")
# What belongs to the weights that it was pushed with: a push of other weights takes away what it does not replace.
_OF_THE_WEIGHTS = (
    "model*.safetensors", "model*.safetensors.index.json", "training_state.*", "conversion_report.json",
    "metrics*.json", "training_recipe.yaml", "training_curves.png",
)  # fmt: skip
_ADVICE = {
    401: LOG_IN,
    403: "use a token that may write there, or another name",
}


class PushError(ValueError):
    """The Hub refused a push, or could not be reached. Nothing is seen there that was not there before."""


@dataclass(frozen=True)
class Destination:
    """Where to push.

    Args:
        repo_id: such as "org/name".
        private: make the repo private when it is made; one that is public already is refused.
        revision: branch, made if there is none; the default branch if not given.
        create_pr: open a pull request in the place of a commit.
    """

    repo_id: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False


def reserve(destination: Destination) -> None:
    """Make the repo, so that hours are not spent on something that cannot be pushed.

    Raises:
        PushError: if the Hub refuses or cannot be reached.
    """
    try:
        _make_repo(destination)
    except Exception as error:  # the Hub, the network, the token, the name
        raise PushError(f"{destination.repo_id}: cannot be pushed to ({_reason(error)}); nothing was done") from error


def fetch_card(folder: Path, destination: Destination) -> None:
    """Get the card that is on the Hub into a folder, where people wrote more into it than into that in the folder.

    Raises:
        PushError: if the Hub cannot be reached, or both were edited.
    """
    _or_push_error(folder, destination, lambda: _fetch_card(folder, destination))


def push_model(folder: Path, destination: Destination, *, remote_code: bool = True) -> str:
    """Push a model's folder with all that a repo of ours has; the folder itself stays as it is.

    See `complete_repo`, `fetch_card` and `push`.

    Raises:
        PushError: if the Hub refuses or cannot be reached.
        ValueError: if the folder holds no model of ours, or its card cannot be written.
    """
    with TemporaryDirectory() as temporary:
        repo = Path(temporary) / "repo"
        shutil.copytree(folder, repo, copy_function=_copy_or_link, ignore=shutil.ignore_patterns(*BESIDE_THE_MODEL))
        _or_push_error(folder, destination, lambda: _fetch_card(repo, destination))
        try:
            complete_repo(repo, name=destination.repo_id, remote_code=remote_code)
        except ValueError as error:
            raise ValueError(str(error).replace(str(repo), str(folder))) from error
        return _or_push_error(folder, destination, lambda: _push(repo, destination))


def push(folder: Path, destination: Destination) -> str:
    """Upload a model's folder as it is, in one commit.

    Files that are on the Hub already are not sent again, and nothing is committed if all are. Weights that are there
    and not in the folder, and what states something of them, are deleted: transformers would load them.

    Returns:
        The address of the commit or of the pull request.

    Raises:
        PushError: if the Hub refuses or cannot be reached. The folder is as before, and a second push sends only what
            did not arrive.
    """
    return _or_push_error(folder, destination, lambda: _push(folder, destination))


def commit(
    folder: Path,
    name: str,
    *,
    revision: str | None = None,
    create_pr: bool = False,
    message: str | None = None,
    description: str | None = None,
    token: str | bool | None = None,
) -> CommitInfo:
    """Upload a model's folder in one commit to a repo that is there; the rest is as `push` says.

    Raises:
        HfHubHTTPError: if the Hub refuses.
    """
    api = HfApi(token=token)
    if revision and not create_pr and not revision.startswith("refs/"):
        api.create_branch(name, branch=revision, exist_ok=True)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    files = [file for file in files if not _matches(file.split("/")[0], BESIDE_THE_MODEL)]
    there = api.list_repo_files(name, revision=revision)
    stale = [file for file in there if file not in files and _matches(file, _OF_THE_WEIGHTS)]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(file) for file in stale]
    operations += [CommitOperationAdd(file, str(folder / file)) for file in files]
    # create_commit, not upload_folder: that one may spread a large folder over several commits.
    return api.create_commit(
        name,
        operations,
        commit_message=message or "Upload model",
        commit_description=description,
        revision=revision,
        create_pr=create_pr,
    )


def _fetch_card(folder: Path, destination: Destination) -> None:
    try:
        # By way of the cache: a download into the folder would leave its own files there.
        there = Path(hf_hub_download(destination.repo_id, CARD_NAME, revision=destination.revision))
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return
    card = folder / CARD_NAME
    here = card.read_text(encoding="utf-8") if card.is_file() else ""
    card.write_text(complete_version(here, there.read_text(encoding="utf-8")), encoding="utf-8")


def _copy_or_link(source: str, target: str) -> None:
    """Weights are large, and nothing is written into them."""
    if source.endswith(".safetensors"):
        os.symlink(os.path.abspath(source), target)
    else:
        shutil.copyfile(source, target)


def _push(folder: Path, destination: Destination) -> str:
    name = _make_repo(destination)
    done = commit(folder, name, revision=destination.revision, create_pr=destination.create_pr)
    return str(done.pr_url or done.commit_url)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _make_repo(destination: Destination) -> str:
    """Its full name."""
    api = HfApi()
    name = str(api.create_repo(destination.repo_id, private=destination.private or None, exist_ok=True).repo_id)
    if destination.private and not api.model_info(name).private:
        raise ValueError("it is there already and public; choose another name, or make it private on the Hub")
    return name


def _or_push_error(folder: Path, destination: Destination, call: Callable[[], Result]) -> Result:
    try:
        return call()
    except Exception as error:  # the Hub, the network, the token, the name
        raise PushError(
            f"{destination.repo_id}: not pushed ({_reason(error)}); the model is in {folder}, push it with:"
            f" {_command(folder, destination)}"
        ) from error


def _command(folder: Path, destination: Destination) -> str:
    words = ["hf-encoders", "push", str(folder), destination.repo_id]
    if destination.revision:
        words += ["--revision", destination.revision]
    words += ["--private"] * destination.private + ["--create-pr"] * destination.create_pr
    return shlex.join(words)


def _reason(error: Exception) -> str:
    """What went wrong, and what to do about it if that is known."""
    reason = str(error) or type(error).__name__
    if isinstance(error, HfHubHTTPError):
        advice = _ADVICE.get(error.response.status_code)
        reason = "; ".join(part for part in (error.server_message or reason, advice) if part)
    return " ".join(reason.split())
