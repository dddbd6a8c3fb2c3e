"""The `hf-encoders` command: what one does with an encoder, from a terminal."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .command_line import OneLineArgumentParser, run

MAP_SUFFIXES = (".png", ".tif", ".tiff", ".npy", ".npz", ".pt", ".pgm", ".jp2")


def main() -> None:
    """Run the command line; bad input ends in one line on stderr and exit status 2."""
    run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and call what they name."""
    parser = OneLineArgumentParser(prog="hf-encoders", description=(__doc__ or "").partition(":")[2].strip())
    parser.add_argument("--version", action="version", version=f"hf-encoders {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    encode = commands.add_parser("encode", help="embed depth maps into a .npz file")
    encode.add_argument("model", help="folder or Hub id of a depth encoder")
    encode.add_argument("paths", nargs="+", type=Path, help="depth maps, or folders of them")
    encode.add_argument("--output", type=Path, default=Path("embeddings.npz"), help="default: %(default)s")
    encode.add_argument("--overwrite", action="store_true", help="replace an existing output")
    encode.add_argument("--batch-size", type=int, default=32)
    encode.add_argument("--normalize", action="store_true", help="scale each embedding to length 1")
    encode.add_argument("--device", help="such as cuda; default: the model's")
    encode.add_argument("--dtype", choices=("bfloat16", "float16"), help="compute in half precision")
    encode.set_defaults(run=_encode)

    args = parser.parse_args(argv)
    args.run(args)


def _encode(args: argparse.Namespace) -> None:
    import numpy as np
    from transformers import AutoModel
    from transformers.utils import logging

    from .outputs import new_file

    if args.output.suffix != ".npz":
        raise ValueError(f"{args.output}: the output is a .npz file (arrays 'embeddings' and 'paths')")
    paths = list_maps(args.paths)
    logging.disable_progress_bar()  # of loading; the bar of encoding stays
    model = AutoModel.from_pretrained(args.model)
    # Opened before the work, so that a place that cannot be written is known at once.
    with new_file(args.output, args.overwrite) as partial, partial.open("wb") as file:
        embeddings = model.encode(
            paths,
            batch_size=args.batch_size,
            normalize=args.normalize,
            device=args.device,
            dtype=args.dtype,
            convert_to="numpy",
        )
        np.savez(file, embeddings=embeddings, paths=np.array([str(path) for path in paths]))
    print(f"{len(paths)} maps → {args.output}: embeddings {list(embeddings.shape)}, paths")


def list_maps(paths: Sequence[Path]) -> list[Path]:
    """The files among the paths, and below each folder the depth maps in alphabetical order.

    Raises:
        ValueError: if a folder holds none.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in MAP_SUFFIXES)
            if not found:
                raise ValueError(f"{path}: no depth map in this folder (looked for {', '.join(MAP_SUFFIXES)})")
            files += found
        else:
            files.append(path)
    return files
