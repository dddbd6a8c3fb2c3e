"""A class and what it needs of its project, as files side by side: the form in which the Hub takes code."""

import ast
import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from ..errors import AdoptError
from .edits import Edit, edited
from .needed import bound, bound_by, names_read, needed_statements
from .source_tree import Source, SourceTree

# What transformers takes for an import of a sibling, in the text of a file.
_SIBLING = re.compile(r"^\s*from\s+\.(\S+)\s+import|^\s*import\s+\.(\S+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class FlatCode:
    """Files side by side.

    Args:
        files: name of a module → its text.
        main: the module that holds the class.
        libraries: the top-level modules of other projects that the files import; not those that a `try` guards.
    """

    files: dict[str, str]
    main: str
    libraries: list[str]


def flatten(
    tree: SourceTree,
    name: str,
    source: Source | None = None,
    taken: tuple[str, ...] = (),
    also: Collection[str] = (),
) -> FlatCode:
    """Copy a class and what it needs, in the form of siblings.

    Args:
        tree: the project.
        name: the class.
        source: the file of the class; the tree's main file by default.
        taken: names of modules that the copies must not have.
        also: other names of the class's file to keep.

    Raises:
        AdoptError: if an import cannot be followed, or a copy would be read otherwise than it is meant.
    """
    main = source or tree.main
    names = _Names(set(taken))
    names.of(main)  # first: it keeps its name
    wanted: dict[Source, set[str] | None] = {main: {name, *also}}
    copies: dict[Source, _Copy] = {}
    waiting = [main]
    while waiting:
        each = waiting.pop()
        copies[each] = copy = _copy(tree, each, wanted[each], names)
        for other, its_names in copy.wants:
            before = wanted.get(other, set())
            both = None if before is None or its_names is None else before | its_names
            if other not in wanted or both != before:
                wanted[other] = both
                waiting.append(other)
    files = {names.of(each): copies[each].text for each in wanted}
    for module, text in files.items():
        _check_imports(module, text, files)
    libraries = {library for each in wanted for library in copies[each].libraries}
    return FlatCode(dict(sorted(files.items())), names.of(main), sorted(libraries))


class _Names:
    """The names of the copies: that of the file, with its folders before it where another one has it."""

    def __init__(self, taken: set[str]):
        self._taken, self._names = taken, dict[Source, str]()

    def of(self, source: Source) -> str:
        if source not in self._names:
            parts = [re.sub(r"\W|^(?=\d)", "_", part) for part in source.module.split(".")]
            options = ["_".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
            numbered = (f"{options[-1]}_{number}" for number in range(2, len(self._taken) + 3))
            name = next(option for option in (*options, *numbered) if option not in self._taken)
            self._taken.add(name)
            self._names[source] = name
        return self._names[source]


@dataclass
class _Copy:
    """The copy of a file: its text, the modules that it wants with the names in them, and the libraries."""

    text: str = ""
    wants: list[tuple[Source, set[str] | None]] = field(default_factory=list)
    libraries: set[str] = field(default_factory=set)


def _copy(tree: SourceTree, source: Source, wanted: set[str] | None, names: _Names) -> _Copy:
    kept = needed_statements(
        source.tree, wanted, _imported_from_project(tree, source), source.path.name == "__init__.py"
    )
    read = names_read(kept) | (wanted or set())
    copy, edits, renamed = _Copy(), list[Edit](), dict[str, str]()
    top = {id(node) for node in kept}
    guarded = {id(part) for node in kept for inner in ast.walk(node) if isinstance(inner, ast.Try)
               for part in ast.walk(inner)}  # fmt: skip
    for statement in kept:
        for node in ast.walk(statement):
            if not isinstance(node, (ast.Import, ast.ImportFrom)):
                continue
            is_whole = wanted is None or id(node) not in top
            aliases = [one for one in node.names if is_whole or bound_by(node, one) in read or one.name == "*"]
            aliases = aliases or node.names  # kept for what it does
            lines = [*_rewritten(tree, source, node, aliases, names, copy, renamed, kept, id(node) in guarded)]
            text = "\n".join(lines)
            if text != ast.unparse(node):
                edits.append(Edit(node, text))
    if renamed:
        edits += _edited_uses(kept, renamed)
    copy.text = edited(source.text, edits, kept, source.tree.body)
    return copy


def _rewritten(
    tree: SourceTree,
    source: Source,
    node: ast.Import | ast.ImportFrom,
    aliases: list[ast.alias],
    names: _Names,
    copy: _Copy,
    renamed: dict[str, str],
    kept: list[ast.stmt],
    is_guarded: bool,
) -> Iterator[str]:
    """The lines that take the place of an import."""
    if isinstance(node, ast.Import):
        for alias in aliases:
            local = tree.find(alias.name)
            if local is None:
                _add_library(copy, alias.name, is_guarded)
                yield ast.unparse(ast.Import([alias]))
                continue
            name = alias.asname or alias.name.replace(".", "_")
            if name != (alias.asname or alias.name):
                renamed[alias.name] = name
            copy.wants.append((local, _attributes(kept, alias.asname or alias.name)))
            yield from _module_lines(names.of(local), name)
        return
    module = tree.imported(source, node)
    local = tree.find(module) if module else None
    is_folder = not module or tree.is_folder(module)
    if local is None and not (is_folder and (node.level or tree.find(f"{module}.{aliases[0].name}"))):
        if node.level and is_guarded:  # the `try` says what to do without it; transformers would look for the file
            yield f"raise ModuleNotFoundError({f'there is no {module}'!r})"
            return
        if node.level:
            raise AdoptError(
                path=f"{source.path}:{node.lineno}", reason=f"imports {'.' * node.level}{node.module or ''}, not found"
            )
        _add_library(copy, module, is_guarded)
        yield ast.unparse(ast.ImportFrom(node.module, aliases, 0))
        return
    plain: list[ast.alias] = []
    for alias in aliases:
        inner = tree.find(f"{module}.{alias.name}" if module else alias.name) if alias.name != "*" else None
        is_module = inner is not None and inner is not local and not (local and _binds(tree, local, alias.name, inner))
        if inner is not None and is_module:
            copy.wants.append((inner, _attributes(kept, alias.asname or alias.name)))
            yield from _module_lines(names.of(inner), alias.asname or alias.name)
        elif local is not None:
            plain.append(alias)
        else:
            raise AdoptError(
                path=f"{source.path}:{node.lineno}", reason=f"imports {alias.name} from {module or '.'}, not found"
            )
    if plain and local is not None:
        is_star = any(alias.name == "*" for alias in plain)
        copy.wants.append((local, None if is_star else {alias.name for alias in plain}))
        yield ast.unparse(ast.ImportFrom(names.of(local), plain, 1))


def _module_lines(flat: str, name: str) -> Iterator[str]:
    """Lines that bind a sibling itself. transformers copies what the first line names; it does not see the second."""
    yield f"from .{flat} import __name__ as _{flat}"
    yield f"from . import {flat}" if name == flat else f"from . import {flat} as {name}"


def _attributes(kept: list[ast.stmt], module: str) -> set[str] | None:
    """The names in a module that statements read as `module.name`; None if they use the module otherwise."""
    parts = [part for statement in kept for part in ast.walk(statement)]
    first = module.split(".")[0]
    read = [part for part in parts if isinstance(part, ast.Attribute) and ast.unparse(part.value) == module]
    whole = [part for part in parts if isinstance(part, ast.Name) and part.id == first]
    return {part.attr for part in read} if read and len(read) == len(whole) else None


def _edited_uses(kept: list[ast.stmt], renamed: dict[str, str]) -> Iterator[Edit]:
    """Edits of `folder.module` where it is used, after `import folder.module`."""
    for statement in kept:
        for node in ast.walk(statement):
            if isinstance(node, ast.Attribute) and (name := renamed.get(ast.unparse(node))):
                yield Edit(node, name)


def _imported_from_project(tree: SourceTree, source: Source) -> set[str]:
    found: set[str] = set()
    for node in source.tree.body:
        if isinstance(node, ast.Import):
            found |= {bound_by(node, alias) for alias in node.names if tree.find(alias.name)}
        elif isinstance(node, ast.ImportFrom):
            module = tree.imported(source, node)
            is_local = bool(node.level) or tree.find(module) is not None or tree.is_folder(module)
            found |= {bound_by(node, alias) for alias in node.names if is_local and alias.name != "*"}
    return found


def _binds(tree: SourceTree, package: Source, name: str, module: Source) -> bool:
    """Whether a package's own file binds a name, which comes before its module of that name, to something else."""
    for part in package.tree.body:
        if isinstance(part, (ast.Import, ast.ImportFrom)):
            for alias in part.names:
                of = f"{tree.imported(package, part)}." if isinstance(part, ast.ImportFrom) else ""
                if bound_by(part, alias) == name and tree.find(f"{of}{alias.name}") is not module:
                    return True
        elif name in bound(part):
            return True
    return False


def _add_library(copy: _Copy, module: str, is_guarded: bool) -> None:
    top = module.split(".")[0]
    if top and top not in sys.stdlib_module_names and not is_guarded:
        copy.libraries.add(top)


def _check_imports(module: str, text: str, files: dict[str, str]) -> None:
    """Refuse a text in which transformers would see an import that is none, such as one in a docstring."""
    for match in _SIBLING.finditer(text):
        if (match[1] or match[2]) not in files:
            line = text.count("\n", 0, match.end()) + 1
            raise AdoptError(
                path=f"{module}.py:{line}",
                reason=f"transformers takes {match[0].strip()!r} in a text for an import",
                hint="write it otherwise",
            )
