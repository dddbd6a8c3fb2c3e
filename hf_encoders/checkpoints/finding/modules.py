"""What lies inside a value of a file: entries of dictionaries, items of lists, and the parts of pickled objects.

A pickled module of PyTorch is plain data: dictionaries of parameters, buffers and modules. An object of any other class
has attributes, and may be a dictionary or a list at the same time.
"""

from collections.abc import Iterable, Mapping

from ..checkpoint import Stub
from .weights import as_weight

_MODULE_PARTS = ("_parameters", "_buffers", "_modules")


def attributes(stub: Stub) -> Mapping[object, object]:
    """An object's attributes: those of its `__dict__` and of its slots."""
    if isinstance(stub.state, dict):
        return stub.state
    if isinstance(stub.state, tuple):  # (__dict__ or None, slots)
        return {key: value for part in stub.state if isinstance(part, dict) for key, value in part.items()}
    return {}


def is_module(value: object) -> bool:
    """Whether a value is a pickled `torch.nn.Module`, of whatever class."""
    return isinstance(value, Stub) and all(isinstance(attributes(value).get(part), dict) for part in _MODULE_PARTS)


def children(value: object) -> Iterable[tuple[object, object]]:
    """The name and value of each part of a value, in its order; none for a plain value.

    Of a module these are what its `state_dict()` holds: parameters, buffers that are saved, modules.
    """
    if isinstance(value, dict):
        return value.items()
    if isinstance(value, (list, tuple)):
        return value if _is_pairs(value) else enumerate(value)
    if not isinstance(value, Stub):
        return ()
    if is_module(value):
        return _module_parts(attributes(value))
    found: dict[object, object] = dict(enumerate((*value.arguments, *value.items)))
    return (found | value.keywords | dict(attributes(value)) | value.entries).items()


def _is_pairs(value: list[object] | tuple[object, ...]) -> bool:
    """Whether a list is what the `items()` of a state dict give: pairs of a name and a tensor."""
    return bool(value) and all(
        isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str) and as_weight(pair[1]) is not None
        for pair in value
    )


def _module_parts(state: Mapping[object, object]) -> list[tuple[object, object]]:
    unsaved = state.get("_non_persistent_buffers_set")
    unsaved = unsaved if isinstance(unsaved, (set, frozenset)) else set()
    parts: list[tuple[object, object]] = []
    for part in _MODULE_PARTS:
        entries = state[part]
        assert isinstance(entries, dict)
        parts += [
            (name, value)
            for name, value in entries.items()
            if value is not None and not (part == "_buffers" and name in unsaved)
        ]
    return parts


def as_mapping(value: object) -> Mapping[object, object]:
    """A configuration as a dictionary: of a Namespace, an EasyDict, an OmegaConf tree too. Empty for other values."""
    value = without_nodes(value)
    if isinstance(value, dict):
        return value
    return dict(children(value)) if isinstance(value, Stub) else {}


def without_nodes(value: object) -> object:
    """What OmegaConf's nodes stand for; everything else as it is."""
    for _ in range(4):  # a union node holds another one
        if not isinstance(value, Stub) or not value.name.startswith("omegaconf."):
            break
        state = attributes(value)
        if "_content" not in state and "_val" not in state:
            break
        value = state.get("_content", state.get("_val"))
    return value
