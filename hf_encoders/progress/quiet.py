"""Progress bars and warnings: those of the libraries give way to this package's own.

Every function imports what it quiets, so that a command's help costs nothing.
"""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout


def hide_library_bars() -> None:
    """Hide transformers' bars of loading and saving, and those of datasets, for the rest of the process."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    if "datasets" in sys.modules:
        sys.modules["datasets"].disable_progress_bars()
    else:  # a conversion never imports it, and that takes longer than a small conversion itself
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


def quiet_libraries() -> None:
    """Hide transformers' warnings too, for the rest of the process."""
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()
    hide_library_bars()


@contextmanager
def quiet_tracing(shows_bars: bool = False) -> Iterator[None]:
    """Hide for a while what exporters, torch.onnx and NNCF say of their own steps.

    Errors are raised, and are not hidden.

    Args:
        shows_bars: leave what is drawn on stdout, in a terminal.
    """
    loggers = [logging.getLogger(name) for name in ("nncf", "torch.onnx", "transformers.exporters")]
    levels = [logger.level for logger in loggers]
    is_shown = shows_bars and sys.stdout.isatty()
    with warnings.catch_warnings(), nullcontext() if is_shown else redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


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
