"""Progress bars and warnings: those of the libraries give way to this package's own.

Every function imports what it quiets, so that a command's help costs nothing.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout


def hide_library_bars() -> None:
    """Hide transformers' bars of loading and saving, and those of datasets, for the rest of the process."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
    else:  # a conversion never imports it, and that takes longer than a small conversion itself
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def quiet_libraries() -> None:
    """Hide transformers' warnings too, for the rest of the process."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    hide_library_bars()


@contextmanager
def quiet_export() -> Iterator[None]:
    """Hide for a while what the exporters say of themselves: operators of libraries that are not installed; bars."""
    import logging

    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with open(os.devnull, "w") as nowhere, nullcontext() if sys.stdout.isatty() else redirect_stdout(nowhere):
            yield
    finally:
        exporter.setLevel(level)


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the bars of `datasets` for a while: it shows one for the shortest work, in files too."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    shown = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            enable_progress_bars()
