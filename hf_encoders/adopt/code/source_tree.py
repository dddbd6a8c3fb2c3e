"""The Python files of a project, found as Python's import would find them, and parsed. Nothing is imported."""

import ast
import tokenize
from dataclasses import dataclass
from pathlib import Path

from ..errors import AdoptError

_INIT = "__init__.py"


@dataclass(frozen=True, eq=False)
class Source:
    """A file of the project.

    Args:
        path: where it is.
        module: its dotted name, as the project's own imports say it.
        text: its content.
        tree: the content, parsed.
    """

    path: Path
    module: str
    text: str
    tree: ast.Module

    @property
    def package(self) -> tuple[str, ...]:
        """The package that its relative imports start from."""
        parts = tuple(self.module.split("."))
        return parts if self.path.name == _INIT else parts[:-1]


class SourceTree:
    """The project around a file.

    Modules are looked for where Python finds them for somebody who works on the project: beside the file's top-level
    package, beside the file, and in the current folder if the file lies below it.

    Args:
        file: of the network.

    Raises:
        AdoptError: if the file cannot be read or parsed.
    """

    def __init__(self, file: Path):
        file = file.resolve()
        root = file.parent
        while (root / _INIT).is_file():
            root = root.parent
        while len(file.parent.relative_to(root).parts) < _levels(file) and root != root.parent:
            root = root.parent  # folders without __init__.py are packages too
        here = Path.cwd().resolve()
        roots = [root, file.parent, *([here] if here in file.parents else [])]
        self.roots = tuple(dict.fromkeys(roots))
        self._sources: dict[Path, Source] = {}
        self.main = self.read(file, ".".join(file.relative_to(root).with_suffix("").parts))

    def find(self, module: str) -> Source | None:
        """The file of an absolute dotted name; None if the project has none."""
        parts = module.split(".")
        for root in self.roots:
            path = root.joinpath(*parts)
            for file in (path / _INIT, path.with_name(f"{path.name}.py")):
                if file.is_file():
                    return self.read(file, module)
        return None

    def is_folder(self, module: str) -> bool:
        """Whether a dotted name is a folder of the project that holds Python files, with or without `__init__.py`."""
        return any(
            folder.is_dir() and any(folder.glob("*.py"))
            for folder in (root.joinpath(*module.split(".")) for root in self.roots)
        )

    def imported(self, source: Source, node: ast.ImportFrom) -> str:
        """The absolute dotted name of the module that `from ... import` names; it may be none of the project's.

        Raises:
            AdoptError: if a relative import leaves the project.
        """
        if not node.level:
            return node.module or ""
        package = source.package
        if node.level - 1 >= len(package) and node.level > 1:
            raise AdoptError(path=f"{source.path}:{node.lineno}", reason="a relative import that leaves its package")
        base = package[: len(package) - node.level + 1]
        return ".".join([*base, *([node.module] if node.module else [])])

    def read(self, file: Path, module: str) -> Source:
        """Read and parse a file; each is read once.

        Raises:
            AdoptError: if it cannot be read or parsed.
        """
        file = file.resolve()
        if file not in self._sources:
            try:
                with tokenize.open(file) as opened:  # as Python reads it: a mark of its bytes is no text
                    text, encoding = opened.read(), opened.encoding
                if encoding not in ("utf-8", "utf-8-sig"):
                    raise AdoptError(path=file, reason=f"is written in {encoding}", hint="save it as UTF-8")
                tree = ast.parse(text)
            except SyntaxError as error:
                raise AdoptError(path=f"{file}:{error.lineno}", reason=f"a syntax error ({error.msg})") from None
            except AdoptError:
                raise
            except (OSError, ValueError) as error:
                raise AdoptError(path=file, reason=f"cannot be read as Python ({error})") from None
            self._sources[file] = Source(file, module, text, tree)
        return self._sources[file]


def _levels(file: Path) -> int:
    """How many packages the relative imports of a file go up, with its own; 0 if it has none."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return 0
    return max((node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)), default=0)


def class_of(source: Source, name: str) -> ast.ClassDef:
    """The class of a name in a file.

    Raises:
        AdoptError: if there is none; a function and an import of that name are said.
    """
    classes: list[str] = []
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef):
            if node.name == name:
                return node
            classes.append(node.name)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            raise AdoptError(
                path=f"{source.path}:{node.lineno}", reason=f"{name} is a function, expected a class of nn.Module"
            )
    for node in source.tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    raise AdoptError(
                        path=f"{source.path}:{node.lineno}",
                        reason=f"{name} is imported from elsewhere",
                        hint="name the file that defines it",
                    )
    listed = f"there are {', '.join(classes)}" if classes else "it has no classes"
    raise AdoptError(path=source.path, reason=f"has no class {name}; {listed}")
