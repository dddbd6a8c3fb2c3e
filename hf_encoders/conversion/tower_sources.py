"""Reads the parts of a tower that no legacy checkpoint has: its configuration, tokenizer and image processor.

Sources are folders or Hub ids in the Hugging Face format; for the tokenizer also BERT's own vocab.txt. Nothing in them
is executed.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, cast

from PIL import Image
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ViTConfig,
    ViTImageProcessorPil,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import has_file

from ..data.text_files import TextFileError, has_mark, read_text
from ..models.input_errors import InputError, one_line
from ..places import check_places

_Part = TypeVar("_Part")

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
SETTINGS = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
_IMAGE_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


class SourceError(InputError):
    """A source that cannot be used. The message is one line: which option, what is wrong, what to do."""


def read_config(option: str, source: str, expected: type[PreTrainedConfig]) -> PreTrainedConfig:
    """Read a tower's configuration.

    Args:
        option: the option that names the source, for messages.
        source: a folder or a Hub id.
        expected: BertConfig or ViTConfig.

    Raises:
        SourceError: if there is none, or it is another model's.
    """
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise SourceError(f"{option} {source}: has no config.json; give the folder of a whole model{_hint(expected)}")
    config = read_part(option, source, AutoConfig.from_pretrained)
    if not isinstance(config, expected):
        raise SourceError(f"{option} {source}: a {config.model_type} model, expected {expected.model_type}")
    config.name_or_path = ""  # a path on this machine means nothing elsewhere
    config.dtype = None  # the repo has its own
    return config


def has_tokenizer(source: str) -> bool:
    """Whether a folder or Hub id has a tokenizer beside its model."""
    return any(_has_file(source, name) for name in _TOKENIZER_FILES)


def read_tokenizer(option: str, source: str, config: BertConfig) -> PreTrainedTokenizerBase:
    """Read a tokenizer and fit its limit to the text tower.

    Args:
        option: the option that names the source, for messages.
        source: see `bert_tokenizer`.
        config: the text tower's configuration.

    Raises:
        SourceError: if there is none, or the tower cannot embed its tokens.
    """
    tokenizer = bert_tokenizer(option, source)
    return fit_tokenizer(option, source, tokenizer, config.vocab_size, config.max_position_embeddings)


def bert_tokenizer(option: str, source: str) -> PreTrainedTokenizerBase:
    """Read a tokenizer, whose vocabulary is BERT's if nothing in the source says otherwise.

    Args:
        option: the option that names the source, for messages.
        source: a folder or a Hub id, or BERT's vocab.txt. A vocabulary alone tells by its
            tokens whether texts are lower-cased; a tokenizer_config.json beside it is asked first.

    Raises:
        SourceError: if there is none.
    """
    path = Path(source)
    if path.is_file():
        return _from_vocabulary_file(option, path)
    if (path / "vocab.txt").is_file() and not (path / "tokenizer.json").is_file():
        vocabulary_file = path / "vocab.txt"
        if has_mark(vocabulary_file):  # which transformers would take for a part of the first token
            return _from_vocabulary_file(option, vocabulary_file, SETTINGS)
        return _from_vocabulary(option, vocabulary_file, path)
    if path.is_dir() and not has_tokenizer(source):
        raise SourceError(f"{option} {source}: has no tokenizer ({', '.join(_TOKENIZER_FILES)})")
    return read_part(option, source, AutoTokenizer.from_pretrained)


def fit_tokenizer(
    option: str, source: str, tokenizer: PreTrainedTokenizerBase, vocab_size: int, max_length: int
) -> PreTrainedTokenizerBase:
    """Fit a tokenizer's limit to a network.

    Args:
        option: the option that names the source, for messages.
        source: where it was read from.
        tokenizer: it is changed.
        vocab_size: the number of tokens that the network embeds.
        max_length: the number of tokens of its longest text.

    Raises:
        SourceError: if the network cannot embed its tokens, or it has no padding token.
    """
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary) <= len(tokenizer.all_special_tokens):
        raise SourceError(f"{option} {source}: has no vocabulary; give a folder with tokenizer.json or vocab.txt")
    largest = max(vocabulary.values()) + 1
    if largest > vocab_size:
        raise SourceError(
            f"{option} {source}: has {largest} tokens, and the checkpoint embeds {vocab_size}; give the"
            " tokenizer that it was trained with"
        )
    if tokenizer.pad_token is None:
        raise SourceError(f"{option} {source}: has no padding token, which batches of texts need")
    tokenizer.model_max_length = min(tokenizer.model_max_length, max_length)
    return tokenizer


def read_image_processor(option: str, source: str | None, config: ViTConfig) -> tuple[BaseImageProcessor, bool]:
    """Read an image processor, or make the default one of ViT.

    Args:
        option: the option that names the source, for messages.
        source: a folder or a Hub id, or None.
        config: the image tower's configuration.

    Returns:
        The processor, and whether it came from the source.

    Raises:
        SourceError: if it gives images of another size than the tower takes.
    """
    found = source is not None and any(_has_file(source, name) for name in _IMAGE_PROCESSOR_FILES)
    if not found:
        half = [0.5] * config.num_channels
        side = cast(int, config.image_size)  # BERT and ViT of the legacy files take squares
        size = {"height": side, "width": side}
        return ViTImageProcessorPil(size=size, image_mean=half, image_std=half), False
    side = cast(int, config.image_size)
    return read_processor_of_images(option, str(source), config.num_channels, side), True


def read_processor_of_images(
    option: str, source: str, channels: int, side: int | None, hint: str = ""
) -> BaseImageProcessor:
    """Read an image processor.

    Args:
        option: the option that names the source, for messages.
        source: a folder or a Hub id.
        channels: of the images that the network takes.
        side: of the square that the network takes, in pixels; None if it takes any.
        hint: what to do about images of another size.

    Raises:
        SourceError: if it gives images of another size than the network takes.
    """
    processor = read_part(option, source, AutoImageProcessor.from_pretrained)
    image = Image.new("RGB" if channels == 3 else "L", (40, 30))
    try:
        given = list(processor(image, return_tensors="pt")["pixel_values"].shape)
    except Exception as error:
        raise SourceError(f"{option} {source}: its image processor fails ({one_line(error)})") from error
    expected = [1, channels, *([side, side] if side else given[2:])]
    if given != expected:
        what = f"{option} {source}: its image processor gives {given}, the checkpoint expects {expected}"
        raise SourceError(f"{what}; {hint}" if hint and given[1] == channels else what)
    return processor


def _from_vocabulary(option: str, file: Path, folder: Path) -> PreTrainedTokenizerBase:
    """BERT's tokenizer from a vocabulary and the settings beside it in the folder."""
    tokens = _lines(option, file)
    try:
        if (folder / "tokenizer_config.json").is_file():
            tokenizer = BertTokenizer.from_pretrained(folder)
        else:
            tokenizer = BertTokenizer.from_pretrained(folder, do_lower_case=not _has_capitals(tokens))
    except Exception as error:  # the Rust library raises its own
        raise SourceError(f"{option} {file}: no BERT vocabulary ({one_line(error)})") from error
    tokenizer.name_or_path = ""
    needed = (tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token, tokenizer.unk_token)
    missing = [token for token in needed if token not in tokens]
    if missing:
        raise SourceError(f"{option} {file}: no BERT vocabulary, it has no {missing[0]} among {len(tokens)} lines")
    return tokenizer


def _has_capitals(tokens: Sequence[str]) -> bool:
    """Whether a vocabulary tells capital letters from small ones: [CLS] and the other special tokens do not count."""
    return any(token != token.lower() for token in tokens if not (token.startswith("[") and token.endswith("]")))


def _from_vocabulary_file(option: str, file: Path, beside: Sequence[str] = SETTINGS[:1]) -> PreTrainedTokenizerBase:
    """BERT's tokenizer from one file: transformers reads folders only, and prefers other files in them."""
    with tempfile.TemporaryDirectory() as folder:
        tokens = "".join(f"{token}\n" for token in _lines(option, file))
        (Path(folder) / "vocab.txt").write_text(tokens, encoding="utf-8", newline="\n")
        for settings in map(file.with_name, beside):
            if settings.is_file():
                shutil.copy(settings, folder)
        return _from_vocabulary(option, file, Path(folder))


def _lines(option: str, file: Path) -> list[str]:
    try:
        text = read_text(file)
    except (OSError, TextFileError) as error:
        reason = error.reason if isinstance(error, TextFileError) else error
        raise SourceError(
            f"{option} {file}: no BERT vocabulary, a text file with one token per line ({reason})"
        ) from None
    return text.removesuffix("\n").split("\n") if text else []


def read_part(option: str, source: str, from_pretrained: Callable[..., _Part]) -> _Part:
    """Read a part of a model; nothing in the source is executed.

    Raises:
        SourceError: if it cannot be read.
        NoSuchPlaceError: if it is not there.
    """
    check_places(source)
    try:
        return from_pretrained(source, trust_remote_code=False)
    except Exception as error:  # third-party files may raise anything
        raise SourceError(f"{option} {source}: cannot be read ({one_line(error)})") from error


def _has_file(source: str, name: str) -> bool:
    """Whether a folder or Hub id has a file; False too if there is no such source."""
    try:
        return has_file(source, name)
    except (OSError, ValueError):
        return False


def _hint(expected: type[PreTrainedConfig]) -> str:
    return ", or its tokenizer alone with --tokenizer" if expected is BertConfig else ""
