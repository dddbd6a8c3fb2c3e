"""What the arguments name that commands read, and the check that it is there, before anything heavy is imported."""

import argparse
from collections.abc import Callable, Mapping

from ..data.names import check_data_name, is_pattern, is_picture
from ..models.input_errors import InputError
from ..places import check_exists, check_on_hub, check_path_or_id, exists

# The arguments that name files or folders, by what they name, whichever command has them. Shells complete them.
ON_THIS_MACHINE = ("checkpoint", "against", "file", "folder", "paths", "example")
OR_ON_THE_HUB = ("model", "verify", "text_model", "vision_model", "depth_encoder", "tokenizer", "image_processor")
DATA = ("source", "data", "dataset", "train_dataset", "unknown_dataset", "calibration")
# Words with commas between them, or @ and a file of such.
_WORDS = ("labels", "background")

_CHECKS: Mapping[str, Callable[[str], None]] = {
    **dict.fromkeys(ON_THIS_MACHINE, check_exists),
    **dict.fromkeys(OR_ON_THE_HUB, check_path_or_id),
    **dict.fromkeys(DATA, check_data_name),
}


def check_inputs(args: argparse.Namespace) -> None:
    """Refuse files and folders that are not there; ids on the Hub are not looked up: see `check_ids`.

    Raises:
        InputError: for the first one.
    """
    given = vars(args)
    for name, check in _CHECKS.items():
        for one in _values(given.get(name)):
            check(one)
    for name in _WORDS:
        words = given.get(name) or ""
        if words.startswith("@"):
            check_exists(words[1:])
    for query in given.get("queries", ()):
        _check_query(query, given["by"])


def check_ids(args: argparse.Namespace) -> None:
    """Refuse ids that the Hub does not have, and all where it is out of reach and they are in no cache.

    Raises:
        NoSuchPlaceError: for the first one.
    """
    given = vars(args)
    for name in OR_ON_THE_HUB:
        for one in _values(given.get(name)):
            check_on_hub(one)
    for name in DATA:
        for one in _values(given.get(name)):
            if not is_pattern(one):
                check_on_hub(one, "dataset")


def _values(value: object) -> list[str]:
    """The values of an argument as texts, without those that are not given."""
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one]


def _check_query(query: str, by: str | None) -> None:
    """Refuse a query that is meant for a file, and is none: as words it would find anything."""
    if by in ("image", "depth"):
        check_exists(query)
    elif by is None and is_picture(query) and not exists(query):
        raise InputError(path=query, reason="no such file", hint="--by text takes it for words")
