"""The network that is an attribute of a class, such as `Lit.encoder`: its own class and arguments, read in the source.

The class around it need not be importable: a LightningModule is followed without Lightning.
"""

import ast
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..errors import AdoptError
from .source_tree import Source, SourceTree, class_of
from .target import Target

_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.truediv,
}


@dataclass(frozen=True)
class Part:
    """The class of a network, and its arguments as they are known.

    Args:
        source: the file that defines the class.
        name: of the class.
        arguments: by name.
    """

    source: Source
    name: str
    arguments: dict[str, object]


def part_of(tree: SourceTree, target: Target, arguments: Mapping[str, object]) -> Part:
    """Follow the attributes of a target.

    Args:
        tree: the project.
        target: what a person names.
        arguments: of the class that the target names; or of the network itself, if these are none of that class.

    Raises:
        AdoptError: if an attribute is not made by a class of the project, or from what nothing tells.
    """
    part = Part(tree.main, target.name, dict(arguments))
    for attribute in target.attributes:
        part = _attribute(tree, part, attribute)
    class_of(part.source, part.name)
    return part


def class_at(tree: SourceTree, target: Target) -> tuple[Source, str]:
    """The class of a target's last attribute, and its file; nothing of its arguments is asked.

    Raises:
        AdoptError: if an attribute is not made by a class of the project.
    """
    source, name = tree.main, target.name
    for attribute in target.attributes:
        _, (source, name), _ = _made(tree, source, name, attribute)
    class_of(source, name)
    return source, name


def parameters(source: Source, name: str) -> list[str] | None:
    """The names of a constructor's parameters, without `self`; None if the class has none of its own."""
    made = _constructor(class_of(source, name))
    if made is None:
        return None
    return [argument.arg for argument in [*made.args.posonlyargs, *made.args.args, *made.args.kwonlyargs]][1:]


def _made(
    tree: SourceTree, source: Source, name: str, attribute: str
) -> tuple[ast.FunctionDef, tuple[Source, str], ast.Call]:
    """The constructor of a class, the class that makes an attribute in it, and the call."""
    constructor = _constructor(class_of(source, name))
    call = _assigned(constructor, attribute) if constructor else None
    where = f"{source.path}:{call.lineno if call else class_of(source, name).lineno}"
    if constructor is None or call is None:
        raise AdoptError(
            path=where,
            reason=f"the constructor of {name} assigns nothing to self.{attribute}",
            hint=f"name the class of {attribute} itself, as FILE.py:Class",
        )
    maker = ast.unparse(call.func) if isinstance(call, ast.Call) else ast.unparse(call)
    found = _class_named(tree, source, maker)
    if not isinstance(call, ast.Call) or found is None:
        hint = f"name the class of {attribute} itself, as FILE.py:Class"
        raise AdoptError(path=where, reason=f"{attribute} is made by {maker}, no class of this project", hint=hint)
    return constructor, found, call


def _attribute(tree: SourceTree, part: Part, attribute: str) -> Part:
    made, (source, its_name), call = _made(tree, part.source, part.name, attribute)
    own = parameters(source, its_name) or []
    outer = parameters(part.source, part.name) or []
    if not set(part.arguments) <= set(outer) and set(part.arguments) <= set(own):
        return Part(source, its_name, part.arguments)
    try:
        values = _Values(_defaults(made) | part.arguments, part.source)
        arguments = dict(zip(own, map(values.of, call.args), strict=False))
        for keyword in call.keywords:
            value = values.of(keyword.value)
            arguments |= {keyword.arg: value} if keyword.arg else _mapping(value)
    except AdoptError:
        if part.arguments and set(part.arguments) <= set(own):
            return Part(source, its_name, part.arguments)
        raise
    return Part(source, its_name, arguments)


def _mapping(value: object) -> dict[str, object]:
    return {str(key): each for key, each in value.items()} if isinstance(value, Mapping) else {}


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)


def _assigned(constructor: ast.FunctionDef, attribute: str) -> ast.expr | None:
    """What a constructor assigns to an attribute; the last assignment counts."""
    found: ast.expr | None = None
    for node in ast.walk(constructor):
        for target, value in _assignments(node):
            if isinstance(target, ast.Attribute) and ast.unparse(target) == f"self.{attribute}":
                found = value
    return found


def _assignments(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """The targets of an assignment with their values: `a, b = f(), g()` are two."""
    if isinstance(node, ast.AnnAssign) and node.value is not None:
        yield node.target, node.value
    if not isinstance(node, ast.Assign):
        return
    for target in node.targets:
        value = node.value
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
            yield from zip(target.elts, value.elts, strict=True)
        else:
            yield target, value


def _class_named(tree: SourceTree, source: Source, name: str) -> tuple[Source, str] | None:
    """The class of the project that a name in a file means."""
    first, _, rest = name.partition(".")
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return source, name
        if isinstance(node, ast.ImportFrom):
            module = tree.imported(source, node)
            for alias in node.names:
                if (alias.asname or alias.name) != first:
                    continue
                if rest and (inner := tree.find(f"{module}.{alias.name}")):
                    return _class_named(tree, inner, rest)
                if not rest and (local := tree.find(module)):
                    return _class_named(tree, local, alias.name)
        if isinstance(node, ast.Import):
            for alias in node.names:
                spelled = alias.asname or alias.name
                if name.startswith(f"{spelled}.") and (local := tree.find(alias.name)):
                    return _class_named(tree, local, name.removeprefix(f"{spelled}."))
    return None


def _defaults(constructor: ast.FunctionDef) -> dict[str, object]:
    """The defaults of a constructor that are plain values."""
    named = [*constructor.args.posonlyargs, *constructor.args.args]
    pairs = [*zip(reversed(named), reversed(constructor.args.defaults), strict=False)]
    pairs += [(one, value) for one, value in zip(constructor.args.kwonlyargs, constructor.args.kw_defaults, strict=True)
              if value is not None]  # fmt: skip
    found: dict[str, object] = {}
    for argument, value in pairs:
        try:
            found[argument.arg] = ast.literal_eval(value)
        except ValueError:
            continue
    return found


class _Values:
    """The values of expressions over a constructor's arguments; nothing is run."""

    def __init__(self, arguments: Mapping[str, object], source: Source):
        self._arguments, self._source = arguments, source

    def of(self, node: ast.expr) -> object:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name(id=name) if name in self._arguments:
                return self._arguments[name]
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return [self.of(item) for item in items]
            case ast.Attribute(value=inner, attr=name):
                return self._item(node, inner, name)
            case ast.Subscript(value=inner, slice=ast.Constant(value=name)):
                return self._item(node, inner, name)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                value = self.of(inner)
                if isinstance(value, (int, float)):
                    return -value
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                one, two = self.of(left), self.of(right)
                if isinstance(one, (int, float)) and isinstance(two, (int, float)):
                    return _OPERATORS[type(op)](one, two)
        raise self._unknown(node)

    def _item(self, node: ast.expr, inner: ast.expr, name: object) -> object:
        """An item of what is known; hyper-parameters of Lightning are the arguments themselves."""
        is_all = ast.unparse(inner) in ("self.hparams", "hparams") and "hparams" not in self._arguments
        value = self._arguments if is_all else self.of(inner)
        if isinstance(value, Mapping) and name in value:
            return value[name]
        if isinstance(value, list) and isinstance(name, int) and -len(value) <= name < len(value):
            return value[name]
        raise self._unknown(node)

    def _unknown(self, node: ast.expr) -> AdoptError:
        return AdoptError(
            path=f"{self._source.path}:{node.lineno}",
            reason=f"nothing tells the argument {ast.unparse(node)!r}",
            hint="give it in --kwargs, or --kwargs-from the checkpoint",
        )
