"""The settings of an image processor in a file of their own, as transformers.js looks for them."""

from contextlib import suppress
from pathlib import Path

from ..models.tower import Encoder

_FILE = "preprocessor_config.json"


def save_image_settings(encoding: Encoder, repo: Path) -> None:
    """Write the settings of the image tower's processor, if there is one and the repo keeps them elsewhere.

    Args:
        encoding: the encoder of the repo.
        repo: its folder.
    """
    if "image" not in encoding.towers or (repo / _FILE).exists():
        return
    with suppress(OSError, ValueError):  # an encoder without a processor
        processor = encoding.tower("image").processor
        (repo / _FILE).write_text(processor.to_json_string(), encoding="utf-8")
