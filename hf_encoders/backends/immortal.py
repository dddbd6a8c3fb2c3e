"""Objects that are never freed."""

import ctypes


def make_immortal(value: object) -> None:
    """Keep an object, and all that it holds, until the end of the process, and then too.

    In a forked process, the end of an engine that the parent made waits for threads that are not there.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
