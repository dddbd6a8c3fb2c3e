"""`hf-encoders demo`: a page in the browser to search, classify, convert and explore, on this machine.

    hf-encoders demo
    hf-encoders demo --model openai/clip-vit-base-patch32 --data photos

It shows the small model and the rooms of a clone, or any model and collection.
"""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ..models.input_errors import InputError
from .options import (
    DATA_HELP,
    SPLIT_HELP,
    add_depth_units,
    add_device,
    add_encoder_loading,
    add_revision,
    count,
    depth_units,
    load_model,
    say,
    say_units,
)
from .runner import Result

if TYPE_CHECKING:
    from ..demo.opening import Shown
    from ..demo.words import Place

# What a clone holds, below its root.
_MODEL, _DATA = "samples/multimodal-rooms", "samples/rooms/test.parquet"
_HERE, _PORT = "127.0.0.1", 7860
_OWN = (_HERE, "localhost", "::1")
_MEGABYTE = 1_000_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--model", help=f"folder or Hub id of an encoder (default: {_MODEL} of a clone)")
    add_revision(parser)
    parser.add_argument("--data", help=f"{DATA_HELP} (default: {_DATA} of a clone)")
    parser.add_argument("--column", help="what is embedded; default: all columns of images and depth maps")
    parser.add_argument("--split", help=SPLIT_HELP)
    parser.add_argument("--label-column", help="labels to filter and colour by (default: label, or one of few words)")
    page = parser.add_argument_group("the page")
    page.add_argument(
        "--host", default=_HERE, help="address to listen on (default: %(default)s, for this machine alone)"
    )
    page.add_argument("--port", type=_port, default=_PORT, help="0 for any that is free (default: %(default)s)")
    page.add_argument(
        "--max-upload", type=count, default=500, metavar="MB", help="the largest file that is taken (default: 500)"
    )
    add_device(parser)
    add_depth_units(parser)
    add_encoder_loading(parser)


def run(args: argparse.Namespace) -> Result:
    """Serve the page until it is stopped.

    Raises:
        ValueError: if Gradio is not installed, or the model and the collection do not fit together.
        OSError: if there is no such model.
        KeyboardInterrupt: when it was stopped.
    """
    args.model, args.data = args.model or _bundled(_MODEL, "--model"), args.data or _bundled(_DATA, "--data")
    if missing := [name for name in ("gradio", "sklearn") if find_spec(name) is None]:
        raise ValueError(f"the page needs {' and '.join(missing)}: pip install 'hf-encoders[demo]'")
    from ..demo.uploads import temporary_uploads
    from ..progress import quiet_libraries

    quiet_libraries()
    with temporary_uploads() as uploads:  # before Gradio is imported
        from ..demo.serving import serve

        serve(
            lambda: _opened(args),
            uploads,
            args.host,
            args.port,
            max_upload=args.max_upload * _MEGABYTE,
            place=_place(args.host),
            say=lambda address: say(f"{args.model} and {args.data} are shown at {address}; Ctrl-C closes the page"),
        )
    return Result([], {})


def _opened(args: argparse.Namespace) -> "Shown":
    """The model and the collection."""
    from ..demo.opening import open_shown

    model = load_model(args)
    units = depth_units(args, *model.towers)
    shown = open_shown(
        model,
        args.model,
        args.data,
        column=args.column,
        split=args.split,
        label_column=args.label_column,
        units=units,
    )
    if "depth" in model.towers:
        say_units(model, units)
    return shown


def _place(host: str) -> "Place":
    """Where the page runs, as a visitor sees it."""
    if os.environ.get("SPACE_ID"):  # set by the Hub
        return "space"
    return "here" if host in _OWN else "server"


def _bundled(path: str, option: str) -> str:
    """What a clone holds: in the current folder, or beside the package.

    Raises:
        InputError: if there is no clone.
    """
    for folder in (Path(), Path(__file__).parents[2]):
        if (folder / path).exists():
            return str(folder / path)
    raise InputError(path=path, reason="a part of a clone, and this is none", hint=f"give another one as {option}")


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be from 0 to 65535, got {number}")
    return number
