"""Options of a conversion for what no file of an encoder tells."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conversion.encoders.conversion import InputOptions

_ACTIVATIONS = ("gelu", "quick_gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for networks and their inputs."""
    network = parser.add_argument_group("networks", "what no tensor tells; without them, what is assumed is printed")
    network.add_argument(
        "--attention-heads", type=_heads, metavar="N[,N]", help="of both towers, or of the text and the image tower"
    )
    network.add_argument("--hidden-act", choices=_ACTIVATIONS, help="the activation between two layers")
    network.add_argument("--layer-norm-eps", type=_positive, metavar="X", help="epsilon of the LayerNorms")
    network.add_argument(
        "--stride-in", choices=("1x1", "3x3"), help="a ResNet's bottlenecks: v1 (1x1), or v1.5 as torchvision (3x3)"
    )
    network.add_argument("--without-head", action="store_true", help="leave a classifier out")
    inputs = parser.add_argument_group("inputs", "DIR_OR_ID is a folder or a Hub id")
    inputs.add_argument("--mean", type=numbers, metavar="X,X,X", help="of the channels, of values from 0 to 1")
    inputs.add_argument("--std", type=numbers, metavar="X,X,X", help="standard deviation of the channels")
    inputs.add_argument("--image-size", type=_count, metavar="N", help="side of the images in pixels")
    inputs.add_argument("--image-processor", metavar="DIR_OR_ID", help="an image processor, instead of these three")
    inputs.add_argument("--tokenizer", metavar="DIR_OR_ID", help="a tokenizer, or BERT's vocab.txt")
    inputs.add_argument(
        "--pooling", choices=("cls", "mean"), help="a text's vector from its tokens, for sentence-transformers"
    )


def input_options(args: argparse.Namespace) -> "InputOptions":
    """The options for the inputs of an encoder."""
    from ..conversion.encoders.conversion import InputOptions
    from ..conversion.encoders.images import ImageOptions

    images = ImageOptions(args.mean, args.std, args.image_size, args.image_processor)
    return InputOptions(images, args.tokenizer, args.pooling)


def _heads(text: str) -> tuple[int, ...]:
    """Numbers of attention heads: one, or two with a comma between them."""
    try:
        heads = tuple(int(number) for number in text.split(","))
    except ValueError:
        heads = ()
    if len(heads) not in (1, 2) or min(heads) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of heads nor two with a comma between them")
    return heads


def numbers(text: str) -> tuple[float, ...]:
    """Numbers from 0 to 1 with commas between them, one per channel."""
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 <= number <= 1 for number in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers from 0 to 1, with commas between them")
    return numbers


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number between 0 and 1")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of pixels")
    return int(text)
