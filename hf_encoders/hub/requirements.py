"""The packages that a repo's model needs, with the versions that this package is tested with."""

import ast
import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

from .kind import is_joined

# As pyproject.toml states them; of this package, the oldest release that loads what this one writes.
_VERSIONS = {
    "hf-encoders": ">=0.1.0",
    "torch": ">=2.7",
    "transformers": ">=5.18,<6",
    "huggingface_hub": ">=1.31,<3",
    "numpy": ">=2.0",
    "pillow": ">=10.3",
    "sentence-transformers": ">=6.0",
    "xxhash": ">=3.4.1",
}
REQUIREMENTS_NAME = "requirements.txt"
# The first line of the requirements of joined towers.
_JOINED = "# What the code in this repo imports."
_OF_MODELS = ("transformers", "torch")
_OF_CODE = ("torch", "transformers", "huggingface_hub", "numpy", "pillow", "xxhash")


def model_requirements(*, has_package: bool) -> list[str]:
    """What those who load a model install, such as "transformers>=5.18,<6".

    Args:
        has_package: whether the model's classes are those of this package.
    """
    return _stated(["hf-encoders", *_OF_MODELS] if has_package else _OF_MODELS)


def sentence_transformers_requirement() -> str:
    """What loads a repo by `SentenceTransformer`."""
    return "".join(_stated(["sentence-transformers"]))


def handler_requirements() -> list[str]:
    """What handler.py and the code of a repo need where this package is not installed."""
    return _stated(_OF_CODE)


def code_requirements(libraries: Iterable[str]) -> list[str]:
    """What pip calls the libraries that code imports: with the versions that this package knows, any of the others."""
    known = packages_distributions()
    names = {known[library][0] if known.get(library) else library for library in libraries}
    return [name + _VERSIONS.get(name, "") for name in sorted(names)]


def imported_libraries(files: Iterable[Path]) -> set[str]:
    """The libraries that files of Python import when they are imported themselves, but for Python's own."""
    libraries: set[str] = set()
    for file in files:
        for node in ast.parse(file.read_bytes()).body:
            if isinstance(node, ast.Import):
                libraries |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                libraries.add(str(node.module).partition(".")[0])
    return libraries - sys.stdlib_module_names


def write_requirements(repo: Path, lines: Iterable[str] = ()) -> None:
    """Write requirements.txt of a repo: some lines, and what the code of joined towers imports."""
    code = sorted(repo.glob("*.py")) if is_joined(repo) else []
    own = [_JOINED, *code_requirements(imported_libraries(code))] if code else []
    (repo / REQUIREMENTS_NAME).write_text("\n".join(dict.fromkeys([*own, *lines])) + "\n", encoding="utf-8")


def is_of_joined(path: Path) -> bool:
    """Whether a file is the requirements.txt that was written for joined towers: it may be written anew."""
    return path.name == REQUIREMENTS_NAME and path.is_file() and path.read_text("utf-8").startswith(_JOINED)


def _stated(names: Iterable[str]) -> list[str]:
    return [f"{name}{_VERSIONS[name]}" for name in names]
