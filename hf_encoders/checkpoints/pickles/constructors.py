"""The classes and functions that a pickle may call by name: ours, looked up in tables and never imported.

Plain containers of Python are here; those of PyTorch and NumPy are in `tensors` and `numpy_values`.
"""

from ..checkpoint import Stub
from .machine import Arguments, Build, Constructor, Keywords, PickleMachine
from .numpy_values import find_numpy
from .tensors import find_torch


def find(module: str, name: str) -> Stub | str | None:
    """The constructor or constant that a module's name stands for.

    Args:
        module: as the pickle has it.
        name: in the module, with dots between classes.

    Returns:
        A constructor, the name of a dtype, or None for what stays a stub.
    """
    build = _BUILDS.get(f"{module}.{name}".removeprefix("_"))  # `_codecs` has what `codecs` has
    return Constructor(f"{module}.{name}", build) if build else find_torch(module, name) or find_numpy(module, name)


def _dict(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """A dictionary, of another one or of pairs."""
    pairs = arguments[0] if arguments else []
    if len(arguments) > 1 or not isinstance(pairs, (dict, list, tuple)):
        return NotImplemented
    items = list(pairs.items() if isinstance(pairs, dict) else pairs)
    machine.charge(100 * (len(items) + len(keywords)))
    if not all(isinstance(item, (list, tuple)) and len(item) == 2 for item in items):
        return NotImplemented
    return {machine.key(key): value for key, value in items} | keywords


def _default_dict(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`defaultdict(factory, pairs)`, whose factory is left out."""
    return _dict(machine, arguments[1:], keywords)


def _list(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """A list, or what serves as one: `deque(items, length)`."""
    values = arguments[0] if arguments else []
    if not isinstance(values, (list, tuple, set, frozenset)):
        return NotImplemented
    machine.charge(8 * len(values))
    return list(values)


def _tuple(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    values = _list(machine, arguments, keywords)
    return tuple(values) if isinstance(values, list) else NotImplemented


def _set(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    values = _list(machine, arguments, keywords)
    if not isinstance(values, list):
        return NotImplemented
    machine.charge(64 * len(values))
    return set(map(machine.key, values))


def _frozenset(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    values = _set(machine, arguments, keywords)
    return frozenset(values) if isinstance(values, set) else NotImplemented


def _encode(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_codecs.encode(text, "latin1")`: bytes, as pickles of protocol 2 have them."""
    match arguments:
        case (str() as text, str() as encoding) if encoding in ("latin1", "latin-1"):
            machine.charge(len(text))
            try:
                return text.encode("latin-1")
            except UnicodeEncodeError:
                return NotImplemented
    return NotImplemented


def _bytes(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`bytes()`, which protocol 2 calls for none, and `bytes(text, "latin-1")`. A size is no argument here."""
    if arguments and isinstance(arguments[0], (bytes, bytearray)) and len(arguments) == 1:
        machine.charge(len(arguments[0]))
        return bytes(arguments[0])
    return _encode(machine, arguments, keywords) if arguments else b""


def _byte_array(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    data = _bytes(machine, arguments, keywords)
    if not isinstance(data, bytes):
        return NotImplemented
    machine.charge(len(data))
    return bytearray(data)


def _complex(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    match arguments:
        case (float() as real, float() as imaginary):
            return complex(real, imaginary)
    return NotImplemented


def _number(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`int(1)` or `float(1.0)`: what stands for a number already."""
    return arguments[0] if len(arguments) == 1 and type(arguments[0]) in (int, float, bool) else NotImplemented


def _base(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`object` or `str`, which pickles name as the base of a class. They are not called."""
    return NotImplemented


def _attribute(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`getattr(class, name)`: the name of something in a class, as of a member of an enum. Nothing is looked up."""
    match arguments:
        case (Stub(is_instance=False) as owner, str() as name) if name.isidentifier() and len(owner.name) < 1000:
            machine.charge(len(owner.name) + len(name))
            machine.classes.add(owner.name)
            return Stub(f"{owner.name}.{name}", is_instance=False)
    return NotImplemented


def _new_object(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`copyreg.__newobj__(class, ...)`: what protocol 2 has an operation for."""
    match arguments:
        case (Stub() as kind, *inner) if not _is_indirect(kind):
            return machine.call(kind, tuple(inner))
    return NotImplemented


def _new_object_ex(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`copyreg.__newobj_ex__(class, arguments, keywords)`."""
    match arguments:
        case (Stub() as kind, inner, keys) if not _is_indirect(kind):
            return machine.call(kind, inner, keys)
    return NotImplemented


def _reconstructor(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`copyreg._reconstructor(class, base, state)`: an object of protocols 0 and 1, `base` says what the state is."""
    match arguments:
        case (Stub() as kind, base, state) if not _is_indirect(kind):
            return _reconstructed(machine, kind, base, state)
    return NotImplemented


def _reconstructed(machine: PickleMachine, kind: Stub, base: object, state: object) -> object:
    if isinstance(kind, Constructor):
        return machine.call(kind, () if state is None else (state,))
    made = Stub(kind.name)
    if isinstance(state, dict) and isinstance(base, Stub) and base.name.endswith("ict"):
        machine.charge(100 * len(state))
        made.entries.update(state)
    elif isinstance(state, (list, set, frozenset)):
        machine.charge(8 * len(state))
        made.items.extend(state)
    elif state is not None:
        made.arguments = (state,)
    machine.classes.add(kind.name)
    return made


def _is_indirect(kind: Stub) -> bool:
    """Whether it is one of the functions here that call another one, which no class is."""
    return isinstance(kind, Constructor) and kind.build in (_new_object, _new_object_ex, _reconstructor)


_BUILDS: dict[str, Build] = {
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "collections.defaultdict": _default_dict,
    "collections.deque": _list,
    "builtins.dict": _dict,
    "builtins.list": _list,
    "builtins.tuple": _tuple,
    "builtins.set": _set,
    "builtins.frozenset": _frozenset,
    "builtins.bytes": _bytes,
    "builtins.bytearray": _byte_array,
    "builtins.complex": _complex,
    "builtins.int": _number,
    "builtins.float": _number,
    "builtins.bool": _number,
    "builtins.object": _base,
    "builtins.str": _base,
    "builtins.getattr": _attribute,
    "codecs.encode": _encode,
    "copyreg.__newobj__": _new_object,
    "copyreg.__newobj_ex__": _new_object_ex,
    "copyreg._reconstructor": _reconstructor,
}
