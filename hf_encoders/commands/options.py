"""Options that several commands share, and the model that is loaded by them."""

import argparse
import sys
from typing import TYPE_CHECKING, cast

from ..data.presets import PRESETS, preset_name
from ..models.input_errors import InputError
from .skipping import add_on_error

if TYPE_CHECKING:
    import torch

    from ..any_encoder import EncoderLoading
    from ..data.remote_path import Place
    from ..models.depth_units import DepthUnits
    from ..models.image_processing_depth import DepthImageProcessor
    from ..models.tower import Encoder

TABLE, JSON = "table", "json"
# What every argument that names a data set takes; see `data.location.locate`.
DATA_HELP = (
    "a folder of images, depth maps, parquet files or WebDataset shards (.tar); such a file, or one of rows as text"
    " (.jsonl, .json, .csv, .txt); a quoted pattern such as 'maps/*.parquet'; the URL of a parquet file or shard; or"
    " the Hub id of a data set"
)
SPLIT_HELP = "of a Hub data set (default: its only split), or of a folder that has splits (default: all rows)"
MODALITY_HELP = "default: depth for 16-bit and floating-point files, image for others, where the model embeds both"


def add_model(parser: argparse.ArgumentParser, text: str = "folder or Hub id of an encoder") -> None:
    """Add the model, which is the first argument, and its revision and token on the Hub."""
    parser.add_argument("model", help=text)
    add_revision(parser)


def add_revision(parser: argparse.ArgumentParser) -> None:
    """Add the revision of a model on the Hub, and the token."""
    parser.add_argument(
        "--revision", default="main", help="branch, tag or commit of a model on the Hub (default: %(default)s)"
    )
    add_token(parser)


def add_encoder(parser: argparse.ArgumentParser) -> None:
    """Add the model that embeds, one of this project's or any encoder of transformers, and what its repo lacks."""
    add_model(parser)
    add_encoder_loading(parser)


def add_encoder_loading(parser: argparse.ArgumentParser) -> None:
    """Add what the repo of other people's encoders lacks, or leaves open."""
    group = parser.add_argument_group("other people's encoders", "DIR_OR_ID is a folder or a Hub id")
    group.add_argument(
        "--pooling",
        choices=("cls", "mean", "pooler"),
        help="a vector from tokens; default: the class token of images, else the model's own; the mean of a text",
    )
    group.add_argument("--tokenizer", metavar="DIR_OR_ID", help="instead of the repo's")
    group.add_argument("--image-processor", metavar="DIR_OR_ID", help="instead of the repo's")
    group.add_argument(
        "--interpolate",
        type=count,
        metavar="SIZE",
        help="embed images of SIZE x SIZE pixels, and interpolate the model's positions; default: its own size",
    )
    group.add_argument("--trust-remote-code", action="store_true", help="run code that the repo brings; read it first")


def encoder_loading(args: argparse.Namespace) -> "EncoderLoading":
    """The options of `add_encoder_loading`, as `load_encoder` takes them."""
    return {
        "pooling": args.pooling,
        "tokenizer": args.tokenizer,
        "image_processor": args.image_processor,
        "interpolate": args.interpolate,
        "trust_remote_code": args.trust_remote_code,
    }


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
        "--backend",
        choices=("auto", "torch", "onnx", "openvino"),
        default="auto",
        help="what computes; auto (default): PyTorch, or where much is known to be to do the faster of it"
        " and what hf-encoders[export] installs",
    )


def add_truncate_dim(parser: argparse.ArgumentParser) -> None:
    """Add the option of fewer dimensions."""
    parser.add_argument(
        "--truncate-dim", type=int, metavar="D", help="keep the first D dimensions, of a model that was trained for it"
    )


def add_depth_units(parser: argparse._ActionsContainer) -> None:
    """What the raw values of depth maps mean. No file tells it; the default is what they meant in training."""
    add = parser.add_argument
    add("--preset", type=preset, metavar="NAME", help=f"units of depth maps: {', '.join(PRESETS)}")
    add("--unit-scale", type=float, metavar="METRES", help="in one unit of a depth map: 1, 0.001, ...")
    add("--value-range", type=numbers, nargs="+", metavar="METRES", help="low and high end, such as 0 10")
    add("--invalid-values", type=numbers, nargs="+", metavar="RAW", help="no measurement, such as 0 65535, or none")


def depth_units(args: argparse.Namespace, *modalities: str) -> "DepthUnits":
    """The options of `add_depth_units` that are given, as `encode_depth` takes them.

    Raises:
        ValueError: if some are, and no depth map is read; or they make no sense.
    """
    units: DepthUnits = {}
    if args.preset is not None:
        units["preset"] = args.preset
    if args.unit_scale is not None:
        units["unit_scale"] = args.unit_scale
    if args.value_range is not None:
        units["value_range"] = [value for values in args.value_range for value in values]
    if args.invalid_values is not None:
        units["invalid_values"] = [value for values in args.invalid_values for value in values]
    if units and "depth" not in modalities:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in units)
        raise ValueError(f"{names}: for depth maps alone, and none is read; say --modality depth if they are")
    value_range = units.get("value_range")
    if value_range is not None and len(value_range) != 2:
        raise ValueError(f"--value-range takes two numbers, low and high, got {len(value_range)}")
    return units


def say_units(model: "Encoder", units: "DepthUnits") -> "DepthUnits":
    """Print on stderr what the raw values of depth maps are taken for, which no file tells; returns the same.

    Raises:
        ValueError: if the units make no sense.
    """
    processor: DepthImageProcessor = model.tower("depth").processor
    settings = processor.settings(**units)
    if settings["normalization"] == "range":
        low, high = settings["value_range"]
        seen = f"seen from {low:g} to {high:g} m"
    else:
        seen = "each map stretched from its minimum to its maximum"
    invalid = ", ".join(f"{value:g}" for value in settings["invalid_values"])
    scale = settings["unit_scale"]
    sys.stderr.write(
        f"depth maps: raw value x {scale:g} = metres, {seen}, invalid: {f'{invalid}, ' if invalid else ''}NaN, inf\n"
    )
    return {
        "unit_scale": scale,
        "value_range": settings["value_range"],
        "invalid_values": settings["invalid_values"],
    }


def say_source(model: "Encoder", name: str, modality: str, stated: str | None, left_out: str = "") -> None:
    """Print on stderr what was left out, and what pictures were read as where nobody said it.

    Commands call it when their work is done: an error is one line.

    Args:
        model: embeds them.
        name: of the pictures.
        modality: what they were read as.
        stated: what a person said, if anything.
        left_out: see `Source` and `Collection`.
    """
    say(left_out)
    if stated is None and {"image", "depth"} <= set(model.towers):
        noun, other = ("images", "depth") if modality == "image" else ("depth maps", "image")
        sys.stderr.write(f"{name}: read as {noun}; --modality {other} says otherwise\n")


def say_backend(args: argparse.Namespace, model: "Encoder", modality: str) -> None:
    """Print on stderr which backend was chosen, where it is another than PyTorch."""
    from ..backends.choosing import choice_of

    choice = choice_of(model.tower(modality))
    if args.backend == "auto" and args.dtype is None and choice.backend != "torch":
        say(f"computed by {choice.backend}, {choice.gain:.1f} times as fast as PyTorch when tried; see --backend")


def say(line: str) -> None:
    """Print a note on stderr, where there is one."""
    if line:
        sys.stderr.write(f"{line}\n")


def preset(text: str) -> str:
    """The name of units of depth maps."""
    try:
        return preset_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def numbers(text: str) -> list[float]:
    """Numbers with commas between them; none for "none"."""
    try:
        return [] if text == "none" else [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"must be a number, or several with commas between them, got {text!r}"
        ) from None


class path(str):  # the type of an argument, as int is
    """A path on the command line. `as_paths` makes a Path of it once it was looked for: that import takes a while."""


class place(path):  # likewise
    """A path on the command line, or a URL. `as_paths` makes a Path or a RemotePath of it."""


def as_paths(args: argparse.Namespace) -> None:
    """Turn each `path` among the arguments, alone or in a list, into a Path, and each `place` into what it names.

    Raises:
        InputError: for a URL where a path is expected.
    """
    for name, value in vars(args).items():
        if isinstance(value, path):
            setattr(args, name, _as_path(value))
        elif isinstance(value, list):
            setattr(args, name, [_as_path(one) if isinstance(one, path) else one for one in value])


def _as_path(value: path) -> "Place":
    from pathlib import Path

    if "://" not in value:
        return Path(value)
    if not isinstance(value, place):
        raise InputError(path=value, reason="a URL, and a file or folder of this machine is expected here")
    from ..data.remote_path import place_of

    return place_of(value)


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the option that allows to replace an output."""
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")


def add_collection(parser: argparse.ArgumentParser, text: str = DATA_HELP) -> None:
    """Add the model, the collection that it works on (`text` describes it), and the output."""
    add_encoder(parser)
    parser.add_argument("source", help=text)
    parser.add_argument("--column", help="what is embedded; default: the column of that kind")
    parser.add_argument("--split", help=SPLIT_HELP)
    parser.add_argument(
        "--output", type=path, default="-", help="results.jsonl, sheet.png (thumbnails), or - (default): stdout"
    )
    add_on_error(parser, "files and rows")
    add_overwrite(parser)
    add_compute(parser)
    add_depth_units(parser)


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
    parser.add_argument(
        "--with-handler",
        action="store_true",
        help="push a handler.py too, by which Inference Endpoints serve the model",
    )
    add_token(parser)


def check_destination(args: argparse.Namespace) -> None:
    """Raise ValueError for options of a push that exclude each other."""
    if args.with_handler and args.with_remote_code is False:
        raise ValueError("--with-handler runs the model's code: leave out --no-with-remote-code")


def load_model(args: argparse.Namespace, device: "torch.device | None" = None) -> "Encoder":
    """Load the model that the arguments name onto their device, without progress bars of the libraries.

    Args:
        args: with `model`, `revision` and `device`.
        device: the device if they name none; by default an accelerator if there is one.

    Raises:
        ValueError: if there is no such device, or the model embeds nothing; see `load_encoder`.
        OSError: if there is no such model.
    """
    import torch

    from ..any_encoder import load_encoder
    from ..backends.freed_memory import keep_freed_memory
    from ..progress import hide_library_bars

    hide_library_bars()
    keep_freed_memory()
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = _checked_device(args.device or device or accelerator or "cpu")
    model = load_encoder(args.model, revision=args.revision, **encoder_loading(args))
    # Accelerate says cpu:0; moving the model there would copy the mapped weights.
    if device.type != "cpu":
        cast(torch.nn.Module, model).to(device)  # every encoder has it
    return model


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
