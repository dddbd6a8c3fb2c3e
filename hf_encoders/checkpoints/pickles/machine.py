"""Runs a pickle as what it is, a program for a stack machine, with data alone: it imports nothing and calls nothing.

Classes and functions that the pickle names are `Stub`s, whose calls and states are kept as data. A few of them are
`Constructor`s of ours, which make tensors' handles, arrays and plain containers. Source: `pickletools`.
"""

import sys
from collections.abc import Callable
from typing import ClassVar

from ...models.input_errors import printable
from ..checkpoint import Stub, TensorHandle
from .limits import STUB, Limits
from .pickle_bytes import PickleBytes

Arguments = tuple[object, ...]
Keywords = dict[str, object]
# What makes a value out of arguments. It returns NotImplemented for arguments that are not those of its function.
Build = Callable[["PickleMachine", Arguments, Keywords], object]
Find = Callable[[str, str], "Stub | str | None"]
Persistent = Callable[["PickleMachine", object], object]

_LARGE = 1 << 16
_LIST, _DICT, _SET, _SLOT, _MEMO = 72, 80, 232, 16, 64
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class Constructor(Stub):
    """A class or function that the reader knows. Left uncalled in the data, it is a stub as any other.

    Args:
        name: as the pickle has it.
        build: makes what a call gives.
    """

    __slots__ = ("build",)

    def __init__(self, name: str, build: Build):
        super().__init__(name, is_instance=False)
        self.build = build


class Pending(Stub):
    """A stub that becomes something else when its state comes. `places` are where the memo holds it."""

    __slots__ = ("places",)

    def __init__(self, name: str, arguments: Arguments = ()):
        super().__init__(name, arguments)
        self.places: list[int] = []

    def finish(self, machine: "PickleMachine", state: object) -> object:
        """What it becomes; itself if the state is not what it takes."""
        raise NotImplementedError


class PickleMachine:
    """Reads one pickle after another from the same bytes.

    Args:
        source: the bytes.
        limits: what it may take.
        find: gives the constructor or constant that a module's name stands for, or None for a foreign one.
        persistent: gives what a persistent id stands for; without it there must be none.
        depth: how many pickles this one lies in.
    """

    def __init__(
        self,
        source: PickleBytes,
        limits: Limits,
        find: Find,
        persistent: Persistent | None = None,
        depth: int = 0,
    ):
        self.source, self.limits, self.depth = source, limits, depth
        self.charge, self.key = limits.charge, limits.key
        self.classes: set[str] = set()
        self._find, self._persistent = find, persistent
        self._names: dict[tuple[str, str], Stub | str] = {}
        self._reset()

    def _reset(self) -> None:
        self.stack: list[object] = []
        self._marked: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        """Read the next pickle.

        Raises:
            CheckpointError: if it is damaged, or asks for more memory than its size justifies.
        """
        self._reset()
        source, operations = self.source, self._OPERATIONS
        try:
            while (code := source.byte()) != 0x2E:  # STOP
                operation = operations.get(code)
                if operation is None:
                    raise source.error(f"it has no operation {bytes([code])!r}")
                operation(self)
            value = self.stack.pop()
        except IndexError:
            raise source.error("the pickle takes more from its stack than is there") from None
        self._reset()
        return value

    def call(self, callee: object, arguments: object, keywords: object = None) -> object:
        """What a call of a stub gives: what its constructor makes, else another stub."""
        if not isinstance(callee, Stub) or not isinstance(arguments, tuple):
            raise self.source.error("it calls what is no class or function")
        named: Keywords = {}
        if isinstance(keywords, dict):
            self.charge(8 * _SLOT * len(keywords))
            named = {key: value for key, value in keywords.items() if isinstance(key, str)}
            if len(named) < len(keywords):
                raise self.source.error("it names an argument by what is no text")
        self.charge(STUB)
        if isinstance(callee, Constructor):
            made = callee.build(self, arguments, named)
            if made is not NotImplemented:
                return made
        name = callee.name.removesuffix("()")
        self.classes.add(name)
        if callee.is_instance:  # what a call gave is called itself
            self.charge(len(name))
            name = f"{name}()"
        return Stub(name, arguments, named)

    def named(self, module: str, name: str) -> Stub | str:
        """What stands for a class, function or constant of a module."""
        key = module, name
        if key not in self._names:
            found = self._find(_OLD_MODULES.get(module, module), name)
            if found is None:
                found = Stub(printable(f"{_OLD_MODULES.get(module, module)}.{name}"), is_instance=False)
                self.classes.add(found.name)
            self.charge(STUB + len(module) + len(name))
            self._names[key] = found
        return self._names[key]

    # Each of the following is an operation.

    def _protocol(self) -> None:
        if (protocol := self.source.byte()) > 5:
            raise self.source.error(f"a pickle of protocol {protocol}")

    def _frame(self) -> None:
        if self.source.number(8) > self.source.end - self.source.place:
            raise self.source.error("the pickle ends early")

    def _mark(self) -> None:
        self.charge(_LIST)
        self._marked.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[object]:
        values = self.stack
        self.stack = self._marked.pop()
        return values

    def _pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._since_mark()

    def _put(self, index: int) -> None:
        self.charge(_MEMO)
        value = self.stack[-1]
        self._memo[index] = value
        if isinstance(value, Pending):
            value.places.append(index)

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise self.source.error("it refers to what it has not made")
        self.stack.append(self._memo[index])

    def _list(self) -> None:
        self.charge(_LIST)
        self.stack.append([])

    def _dict(self) -> None:
        self.charge(_DICT)
        self.stack.append({})

    def _set(self) -> None:
        self.charge(_SET)
        self.stack.append(set())

    def _marked_list(self) -> None:
        values = self._since_mark()
        self.stack.append(values)

    def _marked_dict(self) -> None:
        values = self._since_mark()
        self._dict()
        self._fill_dict(self.stack[-1], values)

    def _marked_tuple(self) -> None:
        self._tuple(self._since_mark())

    def _marked_frozenset(self) -> None:
        values = self._since_mark()
        self.charge(_SET + 4 * _SLOT * len(values))
        self.stack.append(frozenset(map(self.key, values)))

    def _tuple(self, values: list[object]) -> None:
        self.charge(_LIST + _SLOT * len(values))
        self.stack.append(tuple(values))

    def _short_tuple(self, count: int) -> None:
        values = self.stack[-count:]
        if len(values) < count:
            raise IndexError
        del self.stack[-count:]
        self._tuple(values)

    def _append(self) -> None:
        value = self.stack.pop()
        self._extend(self.stack[-1], [value])

    def _appends(self) -> None:
        values = self._since_mark()
        self._extend(self.stack[-1], values)

    def _extend(self, target: object, values: list[object]) -> None:
        target = target.items if isinstance(target, Stub) else target
        if not isinstance(target, list):
            raise self.source.error("it appends to what is no list")
        self.charge(_SLOT * len(values))
        target.extend(values)

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill_dict(self.stack[-1], [key, value])

    def _set_items(self) -> None:
        values = self._since_mark()
        self._fill_dict(self.stack[-1], values)

    def _fill_dict(self, target: object, values: list[object]) -> None:
        target = target.entries if isinstance(target, Stub) else target
        if not isinstance(target, dict) or len(values) % 2:
            raise self.source.error("it sets items of what is no dictionary")
        self.charge(4 * _SLOT * len(values))
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[self.key(key)] = value

    def _add_items(self) -> None:
        values, target = self._since_mark(), self.stack[-1]
        if isinstance(target, set):
            self.charge(4 * _SLOT * len(values))
            target.update(map(self.key, values))
        else:
            self._extend(target, values)

    def _global(self) -> None:
        module = self.source.name()
        self.stack.append(self.named(module, self.source.name()))

    def _stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise self.source.error("it names a class by what is no text")
        self.stack.append(self.named(self.source.checked_name(module), self.source.checked_name(name)))

    def _extension(self, size: int) -> None:
        self.stack.append(self.named("copyreg", f"extension_{self.source.number(size)}"))

    def _reduce(self) -> None:
        arguments, callee = self.stack.pop(), self.stack.pop()
        self.stack.append(self.call(callee, arguments))

    def _new_with_keywords(self) -> None:
        keywords, arguments, callee = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append(self.call(callee, arguments, keywords))

    def _instance(self) -> None:
        module = self.source.name()
        callee, values = self.named(module, self.source.name()), self._since_mark()
        self.stack.append(self.call(callee, tuple(values)))

    def _object(self) -> None:
        values = self._since_mark()
        self.stack.append(self.call(values[0], tuple(values[1:])))

    def _build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Pending):
            made = target.finish(self, state)
            if made is not target:
                self.stack[-1] = made
                self._memo.update(dict.fromkeys(target.places, made))
                target.places.clear()
        elif isinstance(target, Stub):
            target.state = state
        elif not isinstance(target, (dict, list, set, TensorHandle)):
            raise self.source.error("it gives a state to what has none")

    def _persistent_id(self) -> None:
        if self._persistent is None:
            raise self.source.error("it refers to something outside of it")
        self.stack.append(self._persistent(self, self.stack.pop()))

    def _refuse(self) -> None:
        raise self.source.error("it refers to something outside of it")

    def _nothing(self) -> None:
        """READONLY_BUFFER: what is read here is never written to."""

    def _duplicate(self) -> None:
        self.stack.append(self.stack[-1])

    def _push(self, value: object) -> None:
        self.stack.append(value)

    def _push_data(self, value: str | bytes) -> None:
        if len(value) > _LARGE:  # one letter beyond Latin-1 doubles a text
            self.charge(sys.getsizeof(value))
        self.stack.append(value)

    def _buffer(self) -> None:
        data = self.source.take(self.source.number(8))
        self.charge(len(data))
        self.stack.append(bytearray(data))

    _OPERATIONS: ClassVar[dict[int, Callable[["PickleMachine"], None]]] = {
        ord(code): operation
        for code, operation in {
            "\x80": _protocol, "\x95": _frame, "(": _mark, "0": _pop, "1": lambda m: m._since_mark() and None,
            "2": _duplicate, "\x94": lambda m: m._put(len(m._memo)),
            "p": lambda m: m._put(m.source.decimal_index()), "q": lambda m: m._put(m.source.byte()),
            "r": lambda m: m._put(m.source.number(4)), "g": lambda m: m._get(m.source.decimal_index()),
            "h": lambda m: m._get(m.source.byte()), "j": lambda m: m._get(m.source.number(4)),
            "N": lambda m: m._push(None), "\x88": lambda m: m._push(True), "\x89": lambda m: m._push(False),
            "I": lambda m: m._push(m.source.decimal()), "L": lambda m: m._push(m.source.decimal_long()),
            "K": lambda m: m._push(m.source.byte()), "M": lambda m: m._push(m.source.number(2)),
            "J": lambda m: m._push(m.source.signed()), "\x8a": lambda m: m._push(m.source.long(m.source.byte())),
            "\x8b": lambda m: m._push(m.source.long(m.source.signed())),
            "F": lambda m: m._push(m.source.decimal_float()), "G": lambda m: m._push(m.source.double()),
            "S": lambda m: m._push_data(m.source.quoted()), "V": lambda m: m._push_data(m.source.raw_unicode()),
            "T": lambda m: m._push_data(m.source.old_text(m.source.take(m.source.signed()))),
            "U": lambda m: m._push_data(m.source.old_text(m.source.take(m.source.byte()))),
            "X": lambda m: m._push_data(m.source.text(m.source.take(m.source.number(4)))),
            "\x8c": lambda m: m._push_data(m.source.text(m.source.take(m.source.byte()))),
            "\x8d": lambda m: m._push_data(m.source.text(m.source.take(m.source.number(8)))),
            "C": lambda m: m._push_data(m.source.take(m.source.byte())),
            "B": lambda m: m._push_data(m.source.take(m.source.number(4))),
            "\x8e": lambda m: m._push_data(m.source.take(m.source.number(8))), "\x96": _buffer,
            "]": _list, "}": _dict, "\x8f": _set, "l": _marked_list, "d": _marked_dict, "t": _marked_tuple,
            "\x91": _marked_frozenset, ")": lambda m: m._push(()), "\x85": lambda m: m._short_tuple(1),
            "\x86": lambda m: m._short_tuple(2), "\x87": lambda m: m._short_tuple(3),
            "a": _append, "e": _appends, "s": _set_item, "u": _set_items, "\x90": _add_items,
            "c": _global, "\x93": _stack_global, "i": _instance, "o": _object, "R": _reduce, "\x81": _reduce,
            "\x92": _new_with_keywords, "b": _build, "\x82": lambda m: m._extension(1),
            "\x83": lambda m: m._extension(2), "\x84": lambda m: m._extension(4), "Q": _persistent_id, "P": _refuse,
            "\x97": _refuse, "\x98": _nothing,
        }.items()
    }  # fmt: skip
