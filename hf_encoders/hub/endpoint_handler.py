"""Writes what Inference Endpoints look for in a repo: handler.py, and the packages to install."""

import shutil
from pathlib import Path

from ..models.input_errors import InputError
from ..models.zero_shot_classifier import ZeroShotClassifier
from .kind import ENCODER, is_joined, repo_kind
from .remote_code import copy_code
from .requirements import code_requirements, handler_requirements, imported_libraries

HANDLER_NAME, REQUIREMENTS_NAME = "handler.py", "requirements.txt"
HANDLER_FILES = (HANDLER_NAME, REQUIREMENTS_NAME)
# The first line of the requirements of joined towers: a file with it may be written anew.
_JOINED = "# What the code in this repo imports."
_TEMPLATE = Path(__file__).parent / "templates" / HANDLER_NAME


def write_handler(repo: Path) -> None:
    """Write handler.py, which serves the repo's model by the code beside it, and requirements.txt.

    Inference Endpoints install the packages, import `EndpointHandler` and call it with the folder of the repo.

    Args:
        repo: folder of a model that this package saved, with its code; see `write_remote_code`.

    Raises:
        InputError: if it is not a repo of this project, needs no handler, or has one of its own.
    """
    if repo_kind(repo) == ENCODER:
        reason = "a class of transformers, which Inference Endpoints serve without a handler"
        raise InputError(path=repo / HANDLER_NAME, reason=reason, hint="leave out --with-handler")
    for name in HANDLER_FILES:
        if (repo / name).exists() and not _is_of_joined(repo / name):
            raise InputError(path=repo / name, reason="there is one already", hint="leave out --with-handler")
    shutil.copyfile(_TEMPLATE, repo / HANDLER_NAME)
    copy_code(repo, [ZeroShotClassifier])
    _write_requirements(repo, handler_requirements())


def write_requirements(repo: Path) -> None:
    """Write requirements.txt of a repo with towers of somebody's own code; one of somebody else stays."""
    path = repo / REQUIREMENTS_NAME
    if not path.exists() or _is_of_joined(path):
        _write_requirements(repo, [])


def _write_requirements(repo: Path, lines: list[str]) -> None:
    own = [_JOINED, *code_requirements(imported_libraries(sorted(repo.glob("*.py"))))] if is_joined(repo) else []
    (repo / REQUIREMENTS_NAME).write_text("\n".join(dict.fromkeys([*own, *lines])) + "\n", encoding="utf-8")


def _is_of_joined(path: Path) -> bool:
    return path.name == REQUIREMENTS_NAME and path.read_text(encoding="utf-8").startswith(_JOINED)


def has_handler(repo: Path) -> bool:
    """Whether a repo has the handler that `write_handler` writes, not somebody else's."""
    path = repo / HANDLER_NAME
    return path.is_file() and path.read_bytes() == _TEMPLATE.read_bytes()
