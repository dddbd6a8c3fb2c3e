"""Which statements of a file its wanted names need. What trains, logs and plots stays behind, with what it imports."""

import ast
from collections.abc import Collection, Iterator

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)


def needed_statements(
    tree: ast.Module, wanted: Collection[str] | None, projects: Collection[str] = (), is_package: bool = False
) -> list[ast.stmt]:
    """The statements at the top of a file that some of its names need, in their order.

    A statement is needed if it binds a needed name. One that changes something needed is kept too: a call, an
    assignment to an item or an attribute, or a definition that the project's own decorator registers. An import from
    the project that nothing reads is there for what it does, and is kept. Code that looks names up by their text, as
    `globals()[name]` and `eval(name)` do, needs what its file defines, as far as that imports nothing else.

    Args:
        tree: the file.
        wanted: names that the file binds; None for all of it. What type checkers alone read, and what runs as a script,
            is never needed.
        projects: names that the file imports from the project.
        is_package: whether the file is a package's own, which imports names to pass them on.
    """
    statements = [node for node in tree.body if not _is_for_others(node)]
    if wanted is None:
        return statements
    kept: set[int] = set()
    names = set(wanted)
    defined = {name for node in statements if not isinstance(node, _IMPORTS) for name in bound(node)}
    imported = {name for node in statements if isinstance(node, _IMPORTS) for name in bound(node)}
    own = defined | set(projects)
    unread = set() if is_package else set(projects) - names_read(statements)
    grows, looks_up = True, False
    while grows:
        grows = False
        for number, node in enumerate(statements):
            is_needed = (names | unread) & bound(node) or _changes(node, names, own) or _is_future(node)
            may_be_looked_up = looks_up and isinstance(node, _DEFINITIONS) and used(node) & imported <= names
            if number in kept or not (is_needed or may_be_looked_up):
                continue
            kept.add(number)
            names |= used(node)
            looks_up = looks_up or _looks_names_up(node)
            grows = True
    kept |= {0} if ast.get_docstring(tree) is not None and statements else set()
    return [statements[number] for number in sorted(kept)]


def names_read(statements: Collection[ast.stmt]) -> set[str]:
    """The names that statements read."""
    return {name for node in statements for name in used(node)}


def bound(node: ast.stmt) -> set[str]:
    """The names that a statement binds at the top of its file."""
    found: set[str] = set()
    for part in _of_module(node):
        if isinstance(part, _DEFINITIONS):
            found.add(part.name)
        elif isinstance(part, _IMPORTS):
            found |= {bound_by(part, alias) for alias in part.names}
        elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            found.add(part.id)
        elif isinstance(part, ast.ExceptHandler) and part.name:
            found.add(part.name)
    return found


def bound_by(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    """The name that one entry of an import binds; "*" for all names."""
    if alias.asname:
        return alias.asname
    return alias.name.split(".")[0] if isinstance(node, ast.Import) else alias.name


def used(node: ast.AST) -> set[str]:
    """The names that a node reads, in functions too."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load)}


def _of_module(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and what it consists of, without the insides of functions and classes."""
    yield node
    if not isinstance(node, (*_DEFINITIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        for child in ast.iter_child_nodes(node):
            yield from _of_module(child)


def _changes(node: ast.stmt, names: Collection[str], own: Collection[str]) -> bool:
    """Whether a statement that binds nothing needed changes something needed of the file.

    It may also give a function or class of the file to a library that is needed, such as `nn.Module.count = count`.
    """
    needed = set(names) & set(own)
    if isinstance(node, _DEFINITIONS):
        return any(used(decorator) & set(own) for decorator in node.decorator_list)
    if isinstance(node, _IMPORTS):
        return any(alias.name == "*" for alias in node.names)
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return False
    is_plain = isinstance(node, (ast.Assign, ast.AnnAssign)) and not any(
        isinstance(part, (ast.Subscript, ast.Attribute)) and isinstance(part.ctx, ast.Store) for part in ast.walk(node)
    )
    if not is_plain and isinstance(node, ast.Assign) and used(node.value) & set(own):
        return any(used(target) & set(names) for target in node.targets)
    return not is_plain and bool(used(node) & needed)


def _looks_names_up(node: ast.AST) -> bool:
    """Whether code reads names of its file by their text."""
    texts = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    of_itself = any(
        isinstance(part, ast.Subscript) and "sys.modules" in ast.unparse(part.value) and "__name__" in ast.unparse(part)
        for part in ast.walk(node)
    )
    return bool(texts & {"globals", "eval", "exec"}) or of_itself


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def _is_for_others(node: ast.stmt) -> bool:
    """Whether a statement is for type checkers alone, or for a run of the file as a script."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    names = used(node.test) | {part.attr for part in ast.walk(node.test) if isinstance(part, ast.Attribute)}
    return bool(names & {"TYPE_CHECKING", "__name__"}) and not any(isinstance(p, ast.Not) for p in ast.walk(node.test))
