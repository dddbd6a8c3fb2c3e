"""Progress bars: those of the libraries give way to this package's own."""


def hide_library_bars() -> None:
    """Hide transformers' bars of loading and saving, and those of datasets, for the rest of the process."""
    from datasets import disable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    disable_progress_bars()
