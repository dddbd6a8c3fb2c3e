"""Objects of code bases that are gone when a file is read: their classes exist while it is written, and no longer."""

import sys
import types
from contextlib import contextmanager


@contextmanager
def absent_module(name):
    """A module that exists within the block alone; classes are put into it with `absent_class`."""
    parts = name.split(".")
    names = [".".join(parts[: n + 1]) for n in range(len(parts))]
    for each in names:
        sys.modules[each] = types.ModuleType(each)
    try:
        yield sys.modules[name]
    finally:
        for each in names:
            del sys.modules[each]


def absent_class(module, name, *bases, **body):
    """A class that pickles by its name in such a module."""
    cls = type(name, bases or (object,), {"__module__": module.__name__, **body})
    setattr(module, name, cls)
    return cls
