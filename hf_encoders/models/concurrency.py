"""Threads and forked processes: locks that a fork leaves free, threads that are left after it, evaluation mode."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers.utils import logging

logger = logging.get_logger(__name__)

_is_settled = True


def settle_forked_process() -> None:
    """Make PyTorch usable in a process that was forked; once in each, and nothing in others.

    OpenMP's threads do not survive a fork, and the first operation that waits for them hangs for ever. With one thread
    there is none to wait for; `torch.utils.data.DataLoader` does the same in its workers.
    """
    global _is_settled
    if _is_settled:
        return
    _is_settled = True
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        logger.warning(
            "this process was forked, and PyTorch's threads do not survive a fork: it computes on one thread here; for"
            " more, start workers by spawn: multiprocessing.set_start_method('spawn')"
        )


def _notice() -> None:
    global _is_settled
    _is_settled = False


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_notice)


class ProcessLock:
    """A reentrant lock of the threads of one process.

    A thread that holds it while another forks is not there in the child, and would never release it.
    """

    def __init__(self) -> None:
        self._renew()
        if sys.platform != "win32":
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


# Module that was in training mode → the threads that evaluate it now, each as often as it does.
_USERS: "WeakKeyDictionary[nn.Module, list[int]]" = WeakKeyDictionary()
_LOCK = threading.Lock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and afterwards each of its modules back into the mode it had.

    Several threads may do so at a time, with one model or with models that share modules: the last one that ends puts
    a module back.
    """
    with _LOCK:
        used = _put_into_evaluation_mode(model)
    try:
        yield
    finally:
        with _LOCK:
            for module in used:
                _end_use(module)


def _put_into_evaluation_mode(model: nn.Module) -> list[nn.Module]:
    """Returns the modules that are to be put back."""
    used = [module for module in model.modules() if module.training or module in _USERS]
    for module in used:
        _USERS.setdefault(module, []).append(threading.get_ident())
    if used:
        model.eval()
    return used


def _end_use(module: nn.Module) -> None:
    threads = _USERS.get(module)
    if threads is None:
        return
    threads.remove(threading.get_ident())
    if not threads:
        del _USERS[module]
        module.training = True


def _forget_other_threads() -> None:
    """A forked process has only the thread that forked: the uses of the others never end here."""
    global _LOCK
    _LOCK = threading.Lock()
    for module, threads in list(_USERS.items()):
        threads[:] = [thread for thread in threads if thread == threading.get_ident()]
        if not threads:
            del _USERS[module]
            module.training = True


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_other_threads)
