"""Pushes a folder with a repo to the Hub: in one commit or not at all, and errors say what to do."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from safetensors import SafetensorError, safe_open

from ..models.input_errors import InputError, one_line
from ..models.tower import is_finite
from .card_edits import complete_version
from .card_figures import FIGURE_KINDS, FIGURES_FOLDER
from .complete import complete_repo
from .contents import copy_contents, repo_contents
from .endpoint_handler import HANDLER_FILES
from .errors import LOG_IN
from .model_card import CARD_NAME

Result = TypeVar("Result")

# Files that describe the weights they were pushed with: a push of other weights deletes those it does not replace.
_OF_THE_WEIGHTS = (
    "model*.safetensors", "model*.safetensors.index.json", "training_state.*", "conversion_report.json",
    "metrics*.json", "training_recipe.yaml", "training_curves.png", ".eval_results/metrics_*.yaml",
    *(f"{FIGURES_FOLDER}/{kind}-*" for kind in FIGURE_KINDS),
)  # fmt: skip
_ADVICE = {
    401: LOG_IN,
    403: "use a token that may write there, or another name",
}


class PushError(OSError):
    """The Hub refused a push, or could not be reached. The Hub shows what it showed before."""


@dataclass(frozen=True)
class Destination:
    """The repo to push to, and how.

    Args:
        repo_id: such as "org/name".
        private: make the repo private when it is made; one that is public already is refused.
        revision: the branch, which is made if it does not exist; the default branch if not given.
        create_pr: open a pull request instead of a commit.
        handler: bring what Inference Endpoints look for; see `write_handler`.
        trust_remote_code: run the folder's own code where its card has metrics; see `write_card`.
    """

    repo_id: str
    private: bool = False
    revision: str | None = None
    create_pr: bool = False
    handler: bool = False
    trust_remote_code: bool = False


def reserve(destination: Destination) -> None:
    """Make the repo before hours are spent on a model that could not be pushed.

    Raises:
        PushError: if the Hub refuses or cannot be reached.
    """
    try:
        _make_repo(destination)
    except Exception as error:  # the Hub, the network, the token, the name
        raise PushError(f"{destination.repo_id}: cannot be pushed to ({_reason(error)}); nothing was done") from error


def fetch_card(folder: Path, destination: Destination) -> None:
    """Get the card from the Hub into a folder, if people wrote more into it than into the folder's own.

    Raises:
        PushError: if the Hub cannot be reached, or both were edited.
    """
    _or_push_error(folder, destination, lambda: _fetch_card(folder, destination))


def push_model(folder: Path, destination: Destination, *, remote_code: bool = True, include: Sequence[str] = ()) -> str:
    """Push a model's folder with all parts of a repo of ours; the folder itself stays as it is.

    See `repo_contents`, `complete_repo`, `fetch_card` and `push`.

    Args:
        folder: of a model that was converted, trained or saved here.
        destination: the repo.
        remote_code: whether to write the model's code into it, for those without this package.
        include: patterns of more files to push.

    Raises:
        PushError: if the Hub refuses or cannot be reached.
        InputError: if the folder holds no model of ours, its weights are NaN, or its card or handler cannot be written.
        ValueError: if a handler is to do without the model's code.
    """
    _check_weights(folder)
    with TemporaryDirectory() as temporary:
        repo = Path(temporary) / "repo"
        repo.mkdir()
        copy_contents(folder, repo, include, link_weights=True)
        _or_push_error(folder, destination, lambda: _fetch_card(repo, destination))
        _complete(folder, repo, destination, remote_code)
        return _or_push_error(folder, destination, lambda: _push(repo, destination, _pushed(destination, include)))


def list_push(
    folder: Path, destination: Destination, *, remote_code: bool = True, include: Sequence[str] = ()
) -> dict[str, int]:
    """What `push_model` would push, without a word to the Hub: path → bytes.

    Raises:
        InputError: if the folder holds no model of ours, or its card or handler cannot be written.
        ValueError: if a handler is to do without the model's code.
    """
    with TemporaryDirectory() as temporary:
        repo = Path(temporary) / "repo"
        repo.mkdir()
        copy_contents(folder, repo, include, link_weights=True)
        _complete(folder, repo, destination, remote_code)
        files = repo_contents(repo, _pushed(destination, include)).files
        return {name: (repo / name).stat().st_size for name in files}


def push(folder: Path, destination: Destination) -> str:
    """Upload a model's folder as it is, in one commit: the files of `repo_contents`, and nothing else that lies there.

    Files that the Hub has already are not sent again, and nothing is committed if it has all of them. Weights on the
    Hub that the folder lacks are deleted, because transformers would load them. Files that describe them are too.

    Returns:
        The address of the commit or of the pull request.

    Raises:
        PushError: if the Hub refuses or cannot be reached. The folder stays as it was. A second push sends only
            the files that did not arrive.
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
    include: Sequence[str] = (),
) -> CommitInfo:
    """Upload a model's folder in one commit to a repo that exists; see `push` and `repo_contents`.

    Raises:
        HfHubHTTPError: if the Hub refuses.
    """
    api = HfApi(token=token)
    if revision and not create_pr and not revision.startswith("refs/"):
        api.create_branch(name, branch=revision, exist_ok=True)
    files = repo_contents(folder, include).files
    there = api.list_repo_files(name, revision=revision)
    stale = [file for file in there if file not in files and _matches(file, _OF_THE_WEIGHTS)]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [CommitOperationDelete(file) for file in stale]
    operations += [CommitOperationAdd(file, str(folder / file)) for file in files]
    # upload_folder may spread a large folder over several commits.
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
        # Into the cache: a download into the folder would leave other files there too.
        there = Path(hf_hub_download(destination.repo_id, CARD_NAME, revision=destination.revision))
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
        return
    card = folder / CARD_NAME
    here = card.read_text(encoding="utf-8") if card.is_file() else ""
    card.write_text(complete_version(here, there.read_text(encoding="utf-8")), encoding="utf-8")


def _check_weights(folder: Path) -> None:
    """Refuse weights that are NaN or infinite, which nobody could use, and files that are none."""
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, "pt") as tensors:
                names: list[str] = tensors.keys()
                wrong = next((name for name in names if not is_finite(tensors.get_tensor(name))), None)
        except SafetensorError as error:
            raise InputError(
                path=file, reason=f"no safetensors file ({one_line(error)})", hint="save it again"
            ) from error
        if wrong is not None:
            raise InputError(path=file, reason=f"{wrong} holds NaN or infinity", hint="push another checkpoint")


def _complete(folder: Path, repo: Path, destination: Destination, remote_code: bool) -> None:
    """Complete a copy of the folder; errors name the folder."""
    try:
        complete_repo(
            repo,
            name=destination.repo_id,
            remote_code=remote_code,
            handler=destination.handler,
            trust_remote_code=destination.trust_remote_code,
        )
    except InputError as error:
        if error.path is None:
            raise
        path = folder / Path(error.path).relative_to(repo)  # the caller knows nothing of the copy
        raise InputError(path=path, reason=error.reason, hint=error.hint) from error


def _pushed(destination: Destination, include: Sequence[str]) -> Sequence[str]:
    """Patterns of the files that are pushed beside those of every repo."""
    return [*include, *HANDLER_FILES] if destination.handler else include


def _push(folder: Path, destination: Destination, include: Sequence[str] = ()) -> str:
    name = _make_repo(destination)
    done = commit(folder, name, revision=destination.revision, create_pr=destination.create_pr, include=include)
    return str(done.pr_url or done.commit_url)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _make_repo(destination: Destination) -> str:
    """Make the repo if there is none; returns its full name."""
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
    if destination.private:
        words.append("--private")
    if destination.create_pr:
        words.append("--create-pr")
    if destination.handler:
        words.append("--with-handler")
    return shlex.join(words)


def _reason(error: Exception) -> str:
    """The error on one line, with advice where there is some."""
    reason = one_line(error)
    if isinstance(error, HfHubHTTPError):
        reason = " ".join((error.server_message or reason).split())
        if advice := _ADVICE.get(error.response.status_code):
            reason = f"{reason}; {advice}"
    return reason
