"""Turn a repo back into a legacy .pth or .pt file, with equal tensors.

    hf-encoders export-legacy depth-semantic-encoder encoder.pth
    hf-encoders export-legacy depth-autoencoder best_model.pth --autoencoder
    hf-encoders export-legacy multimodal-encoder checkpoint.pt

From a depth repo it writes the extracted-encoder dictionary, or with --autoencoder, where the repo has the decoder, the
training-checkpoint dictionary; from a multimodal repo the training checkpoint, with the optimizer's state where the
repo has it. What a repo does not hold (scheduler states, unused poolers) is left out. In a clone,
`python conversion/export_legacy.py` does the same.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .. import command_line


def main() -> None:
    """Run the command by itself; bad input ends in one line on stderr and exit status 2."""
    command_line.run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and export."""
    run(command_line.parse_alone("export_legacy.py", __doc__, add_options, argv))


def add_options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("repo", help="folder or Hub id")
    parser.add_argument("output", type=Path, help="the .pth or .pt file to write")
    parser.add_argument("--autoencoder", action="store_true", help="write a depth training checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")


def run(args: argparse.Namespace) -> None:
    """Write the file, and print what a person should know of it.

    Raises:
        ValueError: if the repo holds no depth or multimodal model, or no decoder where one is asked for.
        OSError: if the output exists already or cannot be written.
    """
    from transformers.utils import logging

    from ..conversion.export import export

    logging.set_verbosity_error()
    notes = export(args.repo, args.output, autoencoder=args.autoencoder, overwrite=args.overwrite)
    print(f"{args.repo} → {args.output}", *notes, sep="\n")
