"""What reads raw inputs for an adopted network: a processor of images or depth maps, or a tokenizer."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch import Tensor
from transformers import AutoTokenizer, BitImageProcessorPil, PreTrainedTokenizerFast
from transformers.image_processing_utils import BaseImageProcessor
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from ..conversion.report import file_name
from ..conversion.tower_sources import read_part, read_processor_of_images
from ..hub.remote_code import write_depth_processor_code
from ..models.depth_units import DepthUnits
from ..models.image_files import read_images
from ..models.image_processing_depth import DepthImageProcessor
from .errors import AdoptError
from .generation import Input

_CHANNELS = 3
_PADDING, _UNKNOWN = ("<pad>", "[PAD]", "<PAD>"), ("<unk>", "[UNK]", "<UNK>")
_BICUBIC = 3


@dataclass(frozen=True)
class ProcessorOptions:
    """What a person says about raw inputs.

    Args:
        modality: "image", "depth" or "text"; None for a repo without a processor.
        mean: of each channel of images, of values from 0 to 1.
        std: of each channel.
        image_processor: folder or Hub id of an image processor, instead of both.
        tokenizer: folder or Hub id of a tokenizer, or a JSON file of characters and their numbers.
        units: what the raw values of depth maps mean, and the range that becomes [-1, 1]; without a range each map is
            stretched from its minimum to its maximum.
        metres: whether the network takes depths in metres, as they are.
    """

    modality: str | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_processor: str | None = None
    tokenizer: str | None = None
    units: DepthUnits = field(default_factory=DepthUnits)
    metres: bool = False


@dataclass(frozen=True)
class Reader:
    """A processor, ready to be written.

    Args:
        write: writes it into a folder.
        read: reads a picture from a file: [1, C, H, W].
        words: how many words a tokenizer knows.
        padding: the number with which it pads.
        parts: kind of processor → the name of its source; None for one that was made.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], Tensor]
    words: int | None = None
    parts: Mapping[str, str | None] | None = None
    padding: int | None = None


def reader_of(options: ProcessorOptions, main: Input) -> Reader:
    """Make the processor for the main input of a network.

    Raises:
        InputError: if the options do not fit each other or the input, or name no processor.
    """
    _check(options)
    expected = ("int64", "int32") if options.modality == "text" else ("float32",)
    if options.modality is not None and main.dtype not in expected:
        raise AdoptError(name="--input", reason=f"--modality {options.modality} gives {expected[0]}, not {main.dtype}")
    if options.modality == "image":
        return _images(options, main)
    if options.modality == "depth":
        return _depth_maps(options, main)
    if options.modality == "text":
        return _texts(options, main)
    return Reader(lambda folder: None, _reads_none)


def check_words(reader: Reader, inputs: Sequence[Input], tables: Sequence[tuple[int, int | None]]) -> None:
    """Refuse a tokenizer that does not fit the network's tables of words.

    Args:
        reader: of the inputs.
        inputs: of the network.
        tables: how many words each has, and the number of its padding.

    Raises:
        AdoptError: if no table has as many words, or the first one pads with another number.
    """
    if reader.words is None or not tables:
        return
    if reader.words > (most := max(count for count, _ in tables)):
        raise AdoptError(name="--tokenizer", reason=f"has {reader.words} words, and the network's table {most}")
    padding = tables[0][1]
    if padding is not None and reader.padding not in (None, padding):
        raise AdoptError(
            name="--tokenizer", reason=f"pads with {reader.padding}, and the network's table with {padding}"
        )


def _check(options: ProcessorOptions) -> None:
    of_images = {"--mean": options.mean, "--std": options.std, "--image-processor": options.image_processor}
    of_depth = {f"--{name.replace('_', '-')}": value for name, value in options.units.items()}
    of_depth["--metres"] = options.metres or None
    given: dict[str, dict[str, object]] = {
        "image": {**of_images},
        "depth": of_depth,
        "text": {"--tokenizer": options.tokenizer},
    }
    for modality, values in given.items():
        for option, value in values.items():
            if value is not None and options.modality != modality:
                raise AdoptError(f"{option} goes with --modality {modality}")
    if options.modality == "image" and not options.image_processor and not (options.mean and options.std):
        raise AdoptError("--modality image needs --mean and --std, of values from 0 to 1, or --image-processor")
    if options.image_processor and (options.mean or options.std):
        raise AdoptError("--image-processor says the mean and the deviation; leave --mean and --std out")
    if options.modality == "text" and not options.tokenizer:
        raise AdoptError("--modality text needs --tokenizer: a folder, a Hub id, or a JSON file of characters")


def _images(options: ProcessorOptions, main: Input) -> Reader:
    if len(main.shape) != 4 or main.shape[1] != _CHANNELS:
        raise AdoptError(
            name="--modality image", reason=f"--input is 1x3xHxW then, got {'x'.join(map(str, main.shape))}"
        )
    height, width = main.shape[2:]
    if options.image_processor:
        side = height if height == width else None
        processor = read_processor_of_images("--image-processor", options.image_processor, _CHANNELS, side)
        parts = {"image_processor": file_name(options.image_processor)}
        return Reader(processor.save_pretrained, _picture_by(processor), parts=parts)
    mean, std = options.mean or (), options.std or ()
    if len(mean) != _CHANNELS or len(std) != _CHANNELS or min(std) <= 0:
        raise AdoptError("--mean and --std are three numbers each, and no deviation is 0")
    is_square = height == width
    made = BitImageProcessorPil(
        size={"shortest_edge": height} if is_square else {"height": height, "width": width},
        crop_size={"height": height, "width": width},
        do_center_crop=is_square,
        image_mean=list(mean),
        image_std=list(std),
        resample=_BICUBIC,
        do_convert_rgb=True,
    )
    return Reader(made.save_pretrained, _picture_by(made), parts={"image_processor": None})


def _depth_maps(options: ProcessorOptions, main: Input) -> Reader:
    if len(main.shape) != 4:
        raise AdoptError(
            name="--modality depth", reason=f"--input is 1x1xHxW then, got {'x'.join(map(str, main.shape))}"
        )
    channels, height, width = main.shape[1:]
    if options.metres and options.units.get("value_range"):
        raise AdoptError("--metres takes depths as they are; leave --value-range out")
    size = {"height": height, "width": width}
    try:
        units = {name: value for name, value in DepthImageProcessor().settings(**options.units).items()
                 if name not in ("size", "num_channels", "do_normalize")}  # fmt: skip
        made = DepthImageProcessor(size=size, num_channels=channels, do_normalize=not options.metres, **units)
    except ValueError as error:
        raise AdoptError(name="--modality depth", reason=str(error)) from None

    def write(folder: Path) -> None:
        made.save_pretrained(folder)
        write_depth_processor_code(folder)

    def read(path: Path) -> Tensor:
        return made.preprocess([path])["pixel_values"]

    return Reader(write, read, parts={"image_processor": None})


def _picture_by(processor: BaseImageProcessor) -> Callable[[Path], Tensor]:
    def read(path: Path) -> Tensor:
        return processor(read_images([path]), return_tensors="pt")["pixel_values"]

    return read


def _reads_none(path: Path) -> Tensor:
    raise AdoptError(f"--example {path}: a picture, which --modality image or depth reads")


def _texts(options: ProcessorOptions, main: Input) -> Reader:
    source = str(options.tokenizer)
    tokenizer: PreTrainedTokenizerBase
    if source.endswith(".json") and Path(source).is_file():
        tokenizer = _characters(Path(source))
    else:
        tokenizer = read_part("--tokenizer", source, AutoTokenizer.from_pretrained)
    if len(main.shape) != 2:
        raise AdoptError(
            name="--modality text", reason=f"--input is 1xLENGTH then, got {'x'.join(map(str, main.shape))}"
        )
    tokenizer.model_max_length = min(tokenizer.model_max_length, main.shape[1])
    tokenizer.name_or_path = ""  # a path on this machine means nothing elsewhere
    return Reader(
        tokenizer.save_pretrained, _reads_none, len(tokenizer), {"tokenizer": file_name(source)}, tokenizer.pad_token_id
    )


def _characters(file: Path) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters, from the mapping of each to its number."""
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdoptError(path=file, reason=f"no JSON of a vocabulary ({error})") from None
    is_mapping = isinstance(words, dict) and all(isinstance(number, int) for number in words.values())
    special = [word for word in words if len(word) > 1] if is_mapping else []
    padding = next((word for word in _PADDING if word in special), None)
    unknown = next((word for word in _UNKNOWN if word in special), None)
    if not is_mapping or padding is None or unknown is None or len(special) == len(words):
        reason = "no vocabulary of characters: expected their numbers by character, with <pad> and <unk>"
        raise AdoptError(path=file, reason=reason)
    tokenizer = Tokenizer(WordLevel(words, unk_token=unknown))
    tokenizer.pre_tokenizer = Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=padding, unk_token=unknown)
