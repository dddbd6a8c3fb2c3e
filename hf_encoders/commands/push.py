"""`hf-encoders push`: a model's folder onto the Hub."""

import argparse
from pathlib import Path

from .options import add_destination, add_format
from .runner import Result


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", type=Path, help="folder of a model that was converted, trained or saved here")
    parser.add_argument("repo_id", help="such as org/name")
    add_destination(parser)
    add_format(parser, "one document: pushed_to")


def run(args: argparse.Namespace) -> Result:
    """Push the folder in one commit.

    Raises:
        ValueError: if it holds no model of this package, or the Hub refuses.
    """
    from ..hub.push import Destination, push_model

    destination = Destination(args.repo_id, args.private, args.revision, args.create_pr)
    address = push_model(args.folder, destination, remote_code=args.with_remote_code is not False)
    return Result([f"pushed to {address}"], {"pushed_to": address})
