"""Memory that PyTorch frees stays with the process, for commands: they have it to themselves."""

import ctypes
import os
import platform

# From malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE, _MOST = 1 << 30, (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Let glibc keep what is freed, up to 1 GiB at a time; says whether it does.

    Else it gives each large tensor back to the system, which clears the pages of the next one: up to a third of the
    time of a network on a CPU. A person who has told glibc otherwise, or uses another allocator, is left alone.
    """
    is_told = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    if is_told or "LD_PRELOAD" in os.environ or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE) and mallopt(_TRIM_THRESHOLD, _MOST))
