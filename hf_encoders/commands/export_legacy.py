"""Turn a repo back into a legacy .pth or .pt file, with equal tensors.

    hf-encoders export-legacy depth-semantic-encoder encoder.pth
    hf-encoders export-legacy depth-autoencoder best_model.pth --autoencoder
    hf-encoders export-legacy multimodal-encoder checkpoint.pt
    hf-encoders export-legacy adopted-repo last.ckpt

A depth repo becomes the dictionary of an extracted encoder, or with --autoencoder that of a training checkpoint, for
which the repo must hold the decoder. A multimodal repo becomes a training checkpoint, with the optimizer's state if
the repo holds it. An adopted or converted encoder becomes the state dict of its file. The file lacks what no repo
holds: states of schedulers, and the unused poolers. In a clone, `python conversion/export_legacy.py` does the same.
"""

import argparse
import sys
from collections.abc import Sequence

from .. import command_line
from ..progress import quiet_libraries
from .options import add_format, add_model, add_overwrite, path
from .runner import Result, perform_alone


def main() -> None:
    """Run the command by itself; bad input ends in one line on stderr and exit status 2."""
    command_line.run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and export."""
    perform_alone("export_legacy.py", __doc__, add_options, run, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_model(parser, "folder or Hub id of a depth or multimodal encoder")
    parser.add_argument("output", type=path, help="the .pth or .pt file to write")
    parser.add_argument("--autoencoder", action="store_true", help="write a depth training checkpoint")
    add_overwrite(parser)
    add_format(parser, "one document: output, notes")


def run(args: argparse.Namespace) -> Result:
    """Write the file, and say what a person should know about it.

    Raises:
        ValueError: if the repo holds no depth or multimodal model, or no decoder although one is asked for.
        OSError: if the output exists already or cannot be written.
    """
    from ..conversion.export import export
    from ..conversion.read_repo import repo_folder
    from ..hub.kind import is_adopted

    quiet_libraries()
    if is_adopted(folder := repo_folder(args.model, args.revision)):
        from ..adopt.export import export_adopted

        if args.autoencoder:
            raise ValueError(f"{args.model}: has no decoder; leave --autoencoder out")
        notes = export_adopted(folder, args.output, overwrite=args.overwrite)
    else:
        notes = export(
            args.model, args.output, autoencoder=args.autoencoder, overwrite=args.overwrite, revision=args.revision
        )
    return Result([f"{args.model} → {args.output}", *notes], {"output": str(args.output), "notes": notes})
