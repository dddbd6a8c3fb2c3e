"""Writes a calibration into the configuration of a model's folder, with which it travels."""

import json
import stat
from pathlib import Path

from ..models.input_errors import InputError, one_line
from ..models.zero_shot_calibration import FIELD, Calibration
from ..outputs import new_file

_CONFIG = "config.json"


def write_calibration(folder: Path, calibration: Calibration, *, overwrite: bool = False) -> None:
    """Write a calibration into the config.json of a model's folder.

    Args:
        folder: a local repo.
        calibration: replaces the one that is there, if `overwrite`.
        overwrite: whether to replace one.

    Raises:
        InputError: if the folder holds no model.
        FileExistsError: if there is a calibration already.
    """
    content = check_calibrated(folder, overwrite)
    content[FIELD] = calibration.to_dict()
    path = folder / _CONFIG  # a link, such as into the cache of the Hub, becomes a file
    mode = stat.S_IMODE(path.stat().st_mode)
    with new_file(path, overwrite=True) as partial:
        partial.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    path.chmod(mode)


def check_calibrated(folder: Path, overwrite: bool = False) -> dict[str, object]:
    """Refuse a folder that a calibration cannot be written into; returns its configuration. See `write_calibration`."""
    path = folder / _CONFIG
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = f"cannot be read ({getattr(error, 'strerror', None) or one_line(error)})"
        raise InputError(path=path, reason=reason, hint="a calibration is written into a model's own folder") from None
    if not isinstance(content, dict):
        raise InputError(path=path, reason="no configuration of a model", hint="save the model again")
    if content.get(FIELD) is not None and not overwrite:
        raise FileExistsError(f"{path}: has a calibration already; give --overwrite")
    return content
