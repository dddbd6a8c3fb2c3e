"""Options that several commands share."""

import argparse
from pathlib import Path

MODALITY_HELP = "default: image, where the model embeds images, else depth"


def add_model(parser: argparse.ArgumentParser) -> None:
    """The model that embeds, first of all."""
    parser.add_argument("model", help="folder or Hub id of an encoder")


def add_compute(parser: argparse.ArgumentParser) -> None:
    """What computes the embeddings, and how."""
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "int8"), help="compute in fewer bits")
    parser.add_argument(
        "--backend", choices=("torch", "onnx", "openvino"), default="torch", help="what computes (default: %(default)s)"
    )


def add_encoding(parser: argparse.ArgumentParser) -> None:
    """How inputs are embedded into an output."""
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.add_argument("--batch-size", type=count, default=32, help="default: %(default)s")
    parser.add_argument("--device", help="such as cuda; default: the model's")
    add_compute(parser)


def add_collection(parser: argparse.ArgumentParser) -> None:
    """A model, the collection that it works on, and where the results go."""
    add_model(parser)
    parser.add_argument("source", help="folder of files, parquet file, or Hub id of a data set")
    parser.add_argument("--column", help="of a parquet file or data set; default: the one of that kind")
    parser.add_argument("--split", help="of a data set on the Hub; default: its only one")
    parser.add_argument(
        "--output", type=Path, default=Path("-"), help="results.jsonl, sheet.png (thumbnails), or - (default): a table"
    )
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what to do with files that cannot be read"
    )
    add_encoding(parser)


def add_destination(parser: argparse._ActionsContainer) -> None:
    """Where a push to the Hub goes."""
    parser.add_argument("--private", action="store_true", help="make the repo private")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch, made if there is none")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument(
        "--with-remote-code",
        action=argparse.BooleanOptionalAction,
        help="put the model files of this package into the repo, for trust_remote_code=True (default: in pushes)",
    )


def count(text: str) -> int:
    """A number of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
