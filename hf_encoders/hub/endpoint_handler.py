"""Writes what Inference Endpoints look for in a repo: handler.py, and the packages to install."""

import shutil
from pathlib import Path

from ..models.input_errors import InputError
from ..models.zero_shot_classifier import ZeroShotClassifier
from .kind import ENCODER, repo_kind
from .remote_code import copy_code
from .requirements import REQUIREMENTS_NAME, handler_requirements, is_of_joined, write_requirements

HANDLER_NAME = "handler.py"
HANDLER_FILES = (HANDLER_NAME, REQUIREMENTS_NAME)
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
        if (repo / name).exists() and not is_of_joined(repo / name):
            raise InputError(path=repo / name, reason="there is one already", hint="leave out --with-handler")
    shutil.copyfile(_TEMPLATE, repo / HANDLER_NAME)
    copy_code(repo, [ZeroShotClassifier])
    write_requirements(repo, handler_requirements())


def has_handler(repo: Path) -> bool:
    """Whether a repo has the handler that `write_handler` writes, not somebody else's."""
    path = repo / HANDLER_NAME
    return path.is_file() and path.read_bytes() == _TEMPLATE.read_bytes()
