"""Progress bars and warnings: those of the libraries give way to this package's own.

Every function imports what it quiets, so that a command's help costs nothing.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
