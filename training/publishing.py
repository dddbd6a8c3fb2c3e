"""The result of a run: a repo, in the folder where its checkpoints and logs lie."""

import shlex
import shutil
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from transformers import PreTrainedModel

_CONFIG = "config.json"
LOGS = "logs"
_NOT_PUSHED = ["checkpoints/*", f"{LOGS}/*", ".*"]
_ADVICE = {
    401: "log in with 'hf auth login', or set HF_TOKEN",
    403: "use a token that may write there, or another name",
}


def publish(model: PreTrainedModel, output_dir: Path) -> None:
    """Save a model and its processor so that no half repo is ever seen.

    What is there is no repo while its configuration is missing, and that is moved first and last.
    """
    partial = output_dir / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial)
    (output_dir / _CONFIG).unlink(missing_ok=True)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == _CONFIG):
        path.replace(output_dir / path.name)
    partial.rmdir()


def reserve(repo_id: str) -> None:
    """Make the repo that a run will be pushed to, so that hours are not spent on one that cannot be.

    Raises:
        ValueError: if the Hub refuses or cannot be reached.
    """
    try:
        HfApi().create_repo(repo_id, exist_ok=True)
    except Exception as error:  # the Hub, the network, the token, the name
        raise ValueError(f"{repo_id}: cannot be pushed to ({_reason(error)}); nothing was trained") from error


def push(output_dir: Path, repo_id: str) -> str:
    """Upload the repo of a run in one commit, without its checkpoints and logs.

    Returns:
        The address of the commit.

    Raises:
        ValueError: if the Hub refuses or cannot be reached. The folder is as before, and a second push sends only what
            did not arrive.
    """
    api = HfApi()
    try:
        name = api.create_repo(repo_id, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=name, folder_path=output_dir, ignore_patterns=_NOT_PUSHED))
    except Exception as error:  # the Hub, the network, the token, the name
        again = ["hf", "upload", repo_id, str(output_dir), "."]
        for pattern in _NOT_PUSHED:
            again += ["--exclude", pattern]
        raise ValueError(
            f"{repo_id}: not pushed ({_reason(error)}); the model is in {output_dir}, push it with: {shlex.join(again)}"
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, and what to do about it if that is known."""
    reason = str(error) or type(error).__name__
    if isinstance(error, HfHubHTTPError):
        advice = _ADVICE.get(error.response.status_code)
        reason = "; ".join(part for part in (error.server_message or reason, advice) if part)
    return " ".join(reason.split())
