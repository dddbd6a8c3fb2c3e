"""Options that several commands share, and the model that they name."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TABLE, JSON = "table", "json"
MODALITY_HELP = "default: image, where the model embeds images, else depth"


def add_model(parser: argparse.ArgumentParser, text: str = "folder or Hub id of an encoder") -> None:
    """The model, first of all, and where it is on the Hub."""
    parser.add_argument("model", help=text)
    parser.add_argument(
        "--revision", default="main", help="branch, tag or commit of a model on the Hub (default: %(default)s)"
    )
    add_token(parser)


def add_token(parser: argparse._ActionsContainer) -> None:
    """Who asks the Hub."""
    parser.add_argument("--token", type=str.strip, help="of the Hub; default: HF_TOKEN, or that of 'hf auth login'")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where the model computes."""
    parser.add_argument("--device", help="such as cpu or cuda:1; default: an accelerator if there is one")


def add_batch_size(parser: argparse.ArgumentParser) -> None:
    """How much of the memory is used."""
    parser.add_argument("--batch-size", type=count, default=32, help="inputs at a time (default: %(default)s)")


def add_format(parser: argparse.ArgumentParser, content: str) -> None:
    """What stdout gets.

    Args:
        parser: of the command.
        content: what the JSON holds, for --help.
    """
    parser.add_argument(
        "--format",
        choices=(TABLE, JSON),
        default=TABLE,
        help=f"what is printed on stdout (default: %(default)s); json: {content}. Progress and notes go to stderr",
    )


def add_compute(parser: argparse.ArgumentParser) -> None:
    """What computes the embeddings, and how."""
    add_batch_size(parser)
    add_device(parser)
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "int8"), help="compute in fewer bits")
    parser.add_argument(
        "--backend", choices=("torch", "onnx", "openvino"), default="torch", help="what computes (default: %(default)s)"
    )


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """What happens to an output that is there already."""
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")


def add_collection(parser: argparse.ArgumentParser) -> None:
    """A model, the collection that it works on, and where the results go."""
    add_model(parser)
    parser.add_argument("source", help="folder of files, parquet file, or Hub id of a data set")
    parser.add_argument("--column", help="of a parquet file or data set; default: the one of that kind")
    parser.add_argument("--split", help="of a data set on the Hub; default: its only one")
    parser.add_argument(
        "--output", type=Path, default=Path("-"), help="results.jsonl, sheet.png (thumbnails), or - (default): stdout"
    )
    parser.add_argument(
        "--on-error", choices=("raise", "skip"), default="raise", help="what to do with files that cannot be read"
    )
    add_overwrite(parser)
    add_compute(parser)


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
    add_token(parser)


def load_model(args: argparse.Namespace, device: "torch.device | None" = None) -> "PreTrainedModel":
    """The model that the arguments name, on the device that they name; the libraries' bars are hidden.

    Args:
        args: with `model`, `revision` and `device`.
        device: where it goes if they name none; by default an accelerator if there is one.

    Raises:
        ValueError: if there is no such device.
        OSError: if there is no such model.
    """
    import torch
    from transformers import AutoModel

    from ..progress import hide_library_bars

    hide_library_bars()
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = _checked_device(args.device or device or accelerator or "cpu")
    model = AutoModel.from_pretrained(args.model, revision=args.revision)
    # cpu:0, as Accelerate says, would be a copy of the mapped weights.
    return model if device.type == "cpu" else model.to(device)


def _checked_device(name: "str | torch.device") -> "torch.device":
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch raises the latter where it was built without CUDA
        raise ValueError(f"--device {name}: {str(error).partition(chr(10))[0]}") from None


def count(text: str) -> int:
    """A number of 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number
