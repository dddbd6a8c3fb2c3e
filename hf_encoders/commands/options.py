"""Options that several commands share, and the model that is loaded by them."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from ..models.tower import Encoder

TABLE, JSON = "table", "json"
# What every argument that names a data set takes; see `data.location.locate`.
DATA_HELP = (
    "a folder of images, depth maps, parquet files or WebDataset shards (.tar); such a file; a quoted pattern such as"
    " 'maps/*.parquet'; the URL of a parquet file or shard; or the Hub id of a data set"
)
SPLIT_HELP = "of a Hub data set (default: its only split), or of a folder that has splits (default: all rows)"
MODALITY_HELP = "default: image, where the model embeds images, else depth"


def add_model(parser: argparse.ArgumentParser, text: str = "folder or Hub id of an encoder") -> None:
    """Add the model, which is the first argument, and its revision and token on the Hub."""
    parser.add_argument("model", help=text)
    parser.add_argument(
        "--revision", default="main", help="branch, tag or commit of a model on the Hub (default: %(default)s)"
    )
    add_token(parser)


def add_token(parser: argparse._ActionsContainer) -> None:
    """Add the token for the Hub."""
    parser.add_argument("--token", type=str.strip, help="for the Hub; default: HF_TOKEN, or that of 'hf auth login'")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device that computes."""
    parser.add_argument("--device", help="such as cpu or cuda:1; default: an accelerator if there is one")


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """Add the number of inputs that the model sees at a time."""
    parser.add_argument("--batch-size", type=count, default=32, help="inputs at a time (default: %(default)s)")


def add_format(parser: argparse.ArgumentParser, content: str) -> None:
    """Add the format of the result on stdout.

    Args:
        parser: the command's parser.
        content: a description of the JSON, for --help.
    """
    parser.add_argument(
        "--format",
        choices=(TABLE, JSON),
        default=TABLE,
        help=f"what is printed on stdout (default: %(default)s); json: {content}. Progress and notes go to stderr",
    )


def add_compute(parser: argparse.ArgumentParser) -> None:
    """Add the options about how embeddings are computed."""
    add_batch_size(parser)
    add_device(parser)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "int8"), help="compute in fewer bits")
    parser.add_argument(
        "--backend", choices=("torch", "onnx", "openvino"), default="torch", help="what computes (default: %(default)s)"
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the option that allows to replace an output."""
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")


def add_collection(parser: argparse.ArgumentParser) -> None:
    """Add the model, the collection that it works on, and the output."""
    add_model(parser)
    parser.add_argument("source", help=DATA_HELP)
    parser.add_argument("--column", help="what is embedded; default: the column of that kind")
    parser.add_argument("--split", help=SPLIT_HELP)
    parser.add_argument(
        "--output", type=Path, default=Path("-"), help="results.jsonl, sheet.png (thumbnails), or - (default): stdout"
    )
    parser.add_argument(
        "--on-error",
        choices=("raise", "skip"),
        default="raise",
        help="files and rows that cannot be read end the run, or are left out",
    )
    add_overwrite(parser)
    add_compute(parser)


def add_destination(parser: argparse._ActionsContainer) -> None:
    """Add the options of a push to the Hub."""
    parser.add_argument("--private", action="store_true", help="make the repo private")
    parser.add_argument("--revision", metavar="BRANCH", help="push to this branch, which is made if it does not exist")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument(
        "--with-remote-code",
        action=argparse.BooleanOptionalAction,
        help="put the model files of this package into the repo, for trust_remote_code=True (default: in pushes)",
    )
    add_token(parser)


def load_model(args: argparse.Namespace, device: "torch.device | None" = None) -> "Encoder":
    """Load the model that the arguments name onto their device, without progress bars of the libraries.

    Args:
        args: with `model`, `revision` and `device`.
        device: the device if they name none; by default an accelerator if there is one.

    Raises:
        ValueError: if there is no such device, or the model is not an encoder of this project.
        OSError: if there is no such model.
    """
    import torch
    from transformers import AutoModel

    from ..modalities import encoder_of
    from ..progress import hide_library_bars

    hide_library_bars()
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = _checked_device(args.device or device or accelerator or "cpu")
    model = AutoModel.from_pretrained(args.model, revision=args.revision)
    # Accelerate says cpu:0; moving the model there would copy the mapped weights.
    return encoder_of(model if device.type == "cpu" else model.to(device))


def _checked_device(name: "str | torch.device") -> "torch.device":
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch raises the latter where it was built without CUDA
        raise ValueError(f"--device {name}: {str(error).partition(chr(10))[0]}") from None


def count(text: str) -> int:
    """Parse a number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
