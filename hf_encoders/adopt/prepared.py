"""A class of somebody's own with its arguments: read in its source, ready to be made in a process of its own."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from .arguments import arguments_in
from .code.attributes import Part, class_at, part_of
from .code.flattening import FlatCode, flatten
from .code.source_tree import SourceTree, class_of
from .code.target import Target
from .generation import SETTINGS, taken_modules

_COPY = "adopted_copy"


@dataclass(frozen=True)
class Arguments:
    """What a person says of a constructor's arguments.

    Args:
        given: by name.
        path: a dotted path into the checkpoint, to what it says of them.
        are_final: whether they are those of the network itself, also where the target is an attribute.
    """

    given: Mapping[str, object] = field(default_factory=dict)
    path: str | None = None
    are_final: bool = False


@dataclass(frozen=True)
class Prepared:
    """A class that can be made.

    Args:
        tree: its project.
        part: the class and its arguments.
        code: its files, side by side.
        loose: arguments that the class need not take: a checkpoint says them of its training too.
        notes: what a person should know.
        taken: modules that the copies of the code must not be.
    """

    tree: SourceTree
    part: Part
    code: FlatCode
    loose: Sequence[str]
    notes: Sequence[str]
    taken: tuple[str, ...]

    def code_with(self, names: set[str]) -> FlatCode:
        """The files with more names beside the class than it needs by itself."""
        return flatten(self.tree, self.part.name, self.part.source, self.taken, names)

    def write_request(self, work: Path) -> None:
        """Write what `OriginalProcess` reads into a folder: the request, and the copies of the code."""
        copies = work / "copies" / _COPY
        copies.mkdir(parents=True)
        (copies / "__init__.py").touch()
        for module, text in self.code.files.items():
            (copies / f"{module}.py").write_text(text, encoding="utf-8")
        request: dict[str, object] = {
            "roots": [str(root) for root in self.tree.roots],
            "file": str(self.part.source.path),
            "module": self.part.source.module,
            "class": self.part.name,
            "copies": str(copies.parent),
            "copy": f"{_COPY}.{self.code.main}",
            "libraries": self.code.libraries,
            "settings": str(Path(__file__).parent / f"{SETTINGS}.py"),
            "arguments": self.part.arguments,
            "loose": list(self.loose),
        }
        (work / "request.json").write_text(json.dumps(request), encoding="utf-8")


def prepare(target: Target, file: Checkpoint, arguments: Arguments, taken: tuple[str, ...] = ()) -> Prepared:
    """Find a class, what it needs, and its arguments. Nothing is imported.

    Args:
        target: the class.
        file: its weights, which may say the arguments.
        arguments: what a person says of them.
        taken: modules that the repo has for other things.

    Raises:
        AdoptError: if the code cannot be followed, or an argument is not told.
    """
    tree = SourceTree(target.file)
    class_of(tree.main, target.name)
    given, loose, notes = _arguments(file, arguments)
    if arguments.are_final:
        source, name = class_at(tree, target)
        part = Part(source, name, given)
    else:
        part = part_of(tree, target, given)
    taken = (*taken_modules(part.name), *taken)
    return Prepared(tree, part, flatten(tree, part.name, part.source, taken), loose, notes, taken)


def _arguments(file: Checkpoint, arguments: Arguments) -> tuple[dict[str, object], list[str], list[str]]:
    """The arguments, those of them that the class need not take, and what a person should know of them."""
    given = dict(arguments.given)
    if arguments.path is None:
        return given, [], []
    stated, others = arguments_in(file, arguments.path)
    loose = [name for name in stated if name not in given]
    left_out = f"{arguments.path}: {', '.join(others)} left out: JSON does not hold them"
    return stated | given, loose, [left_out] if others else []


def argument_notes(prepared: Prepared, path: str | None, taken: Mapping[str, object]) -> list[str]:
    """What a checkpoint says and the class does not take, and what the class has by default: the same by another name?

    Args:
        prepared: the class.
        path: where the checkpoint says its arguments; None where a person gave all.
        taken: what it is called with.
    """
    given = prepared.part.arguments
    if path is None or not given.keys() & taken.keys():  # one object holds all of them
        return []
    left_out = [name for name in prepared.loose if name in given and name not in taken]
    defaults = [f"{name}={value!r}" for name, value in taken.items() if name not in given]
    notes = [f"{path}: {', '.join(left_out)} left out: {prepared.part.name} does not take them"] if left_out else []
    return [*notes, f"by default: {', '.join(defaults)}, which {path} does not tell"] if defaults else notes
