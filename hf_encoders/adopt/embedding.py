"""The expression by which an output becomes an embedding, such as `output[0].mean(1)`: checked, then evaluated."""

import ast
from collections.abc import Iterator

from .errors import AdoptError

OUTPUT = "output"
_CONSTANTS = (int, float, str, bool, type(None))


def check_expression(text: str, option: str = "--embedding") -> ast.expr:
    """Parse an expression over `output`.

    It may take items, slices and attributes, and call methods with plain arguments. It names nothing but `output`, and
    no attribute that begins with an underscore.

    Args:
        text: the expression.
        option: what gave it, for errors.

    Raises:
        AdoptError: for anything else.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise AdoptError(name=f"{option} {text}", reason=f"a syntax error ({error.msg})") from None
    for node in ast.walk(tree):
        if why := _refused(node):
            hint = "it takes items, attributes and methods of `output`, such as output[0].mean(1)"
            raise AdoptError(name=f"{option} {text}", reason=f"{why} is not allowed", hint=hint)
    if not any(isinstance(node, ast.Name) for node in ast.walk(tree)):
        raise AdoptError(name=f"{option} {text}", reason="does not name `output`, which the network returns")
    return tree


def beginnings(text: str) -> list[str]:
    """The expressions that an expression begins with, from `output` to the whole of it.

    `output[0].mean(1)` begins with `output`, `output[0]` and `output[0].mean(1)`: the first of them that is a tensor is
    the state that the embedding is made of.
    """
    return [ast.unparse(node) for node in reversed([*_inner(check_expression(text))])]


def _inner(node: ast.expr) -> Iterator[ast.expr]:
    is_method = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    yield node
    if is_method:
        yield from _inner(node.func.value)  # type: ignore[attr-defined]  # an Attribute, as was seen
    elif isinstance(node, (ast.Attribute, ast.Subscript)):
        yield from _inner(node.value)


def _refused(node: ast.AST) -> str:
    """What is not allowed about a part of an expression; empty if nothing is."""
    match node:
        case ast.Name(id=name):
            return "" if name == OUTPUT else f"the name {name}"
        case ast.Attribute(attr=name):
            return f"the attribute {name}" if name.startswith("_") else ""
        case ast.Call(func=ast.Attribute()):
            return ""
        case ast.Call():
            return "a call of what is no method"
        case ast.Constant(value=value):
            return "" if isinstance(value, _CONSTANTS) or value is ... else f"the value {value!r}"
        case ast.UnaryOp(op=ast.USub()) | ast.Subscript() | ast.Slice() | ast.Tuple() | ast.List() | ast.keyword():
            return ""
        case ast.expr_context() | ast.unaryop():
            return ""
        case _:
            return f"a {type(node).__name__}"
