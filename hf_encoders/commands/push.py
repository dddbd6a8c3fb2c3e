"""`hf-encoders push`: a model's folder onto the Hub."""

import argparse

from ..plurals import counted
from .options import add_destination, add_format, check_destination, path
from .runner import Result


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", type=path, help="folder of a model that was converted, trained or saved here")
    parser.add_argument("repo_id", help="such as org/name")
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="PATTERN",
        help="more files to push, such as 'examples/*'; may be given several times. By default those that a model repo"
        " consists of",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be pushed, and push nothing")
    add_destination(parser)
    parser.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the folder's own code, such as an adopted network's, to know the weights that its metrics are of",
    )
    add_format(parser, "one document: pushed_to, or files with their bytes in a dry run; left_out")


def run(args: argparse.Namespace) -> Result:
    """Push the folder in one commit.

    Raises:
        ValueError: if it holds no model of this package, or the Hub refuses.
    """
    check_destination(args)
    from ..hub.contents import repo_contents
    from ..hub.push import Destination, list_push, push_model

    pushing = args.private, args.revision, args.create_pr, args.with_handler, args.trust_remote_code
    destination = Destination(args.repo_id, *pushing)
    contents = repo_contents(args.folder, args.include)
    left_out = [f"left out: {line}; --include PATTERN pushes more"] if (line := contents.left_out_line()) else []
    with_code = args.with_remote_code is not False
    if args.dry_run:
        files = list_push(args.folder, destination, remote_code=with_code, include=args.include)
        lines = [f"{size:>13,}  {name}" for name, size in files.items()]
        total = f"{sum(files.values()):>13,}  bytes in {counted(len(files), 'file')} would be pushed to {args.repo_id}"
        return Result([*lines, total, *left_out], {"files": files, "left_out": contents.left_out})
    address = push_model(args.folder, destination, remote_code=with_code, include=args.include)
    return Result([*left_out, f"pushed to {address}"], {"pushed_to": address, "left_out": contents.left_out})
