"""What raw inputs are: texts, images or depth maps. `encode` asks it of anything, the commands of files.

Colours are images; pictures of 16 and 32 bits, and files and arrays of such numbers, are depth maps. 8-bit grey may be
either: it is an image unless there are depth maps beside it.
"""

import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import PIL.Image
from torch import Tensor

from .depth_map_files import is_depth_content, is_depth_file
from .input_errors import OPEN_FILE_HINT, InputError, is_content
from .tower import Modality

# The modality of a PIL image, where its mode says so.
PIL_MODALITIES: Mapping[str, Modality] = {
    "RGB": "image",
    "RGBA": "image",
    "I": "depth",
    "I;16": "depth",
    "I;16B": "depth",
    "I;16L": "depth",
    "I;16N": "depth",
    "F": "depth",
}
# What a processor calls its tensor.
_PROCESSED: Mapping[str, Modality] = {"input_ids": "text", "pixel_values": "image", "depth_values": "depth"}
# As many items tell what a column holds that is decoded when it is read.
_LOOKED_AT = 64
_COLOURS = (3, 4)


def picture_modality(item: object) -> Modality | None:
    """The modality of a PIL image or of a file, of which only the header is read.

    Returns:
        None for anything else: 8-bit grey may be either, and a file that cannot be opened too.
    """
    if isinstance(item, PIL.Image.Image):
        return PIL_MODALITIES.get(item.mode)
    content = item.get("bytes") if isinstance(item, Mapping) else item
    if is_content(content) or (isinstance(item, Mapping) and isinstance(content, bytes)):
        return "depth" if is_depth_content(content) else _header_modality(io.BytesIO(content))
    path = item.get("path") if isinstance(item, Mapping) else item
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, (str, os.PathLike)) or not os.path.isfile(path):
        return None
    return "depth" if is_depth_file(path) else _header_modality(path)


def _header_modality(file: str | os.PathLike[str] | IO[bytes]) -> Modality | None:
    try:
        with PIL.Image.open(file) as image:
            return picture_modality(image)
    except Exception:  # what decoders raise; whoever reads the file says more
        return None


def pictures_modality(kinds: Iterable[tuple[str, Modality | None]], hint: str) -> Modality:
    """The modality of pictures that are embedded together.

    Args:
        kinds: the name of each, and its modality as `picture_modality` tells it.
        hint: how a person says it.

    Raises:
        InputError: if some are depth maps and some are not.
    """
    first: dict[Modality | None, str] = {}
    for name, kind in kinds:
        first.setdefault(kind, name)
    if "depth" not in first:
        return "image"
    if others := [name for kind, name in first.items() if kind != "depth"]:
        raise InputError(f"{first['depth']} is a depth map, {others[0]} is none: {hint}")
    return "depth"


def is_file(text: object) -> bool:
    """Whether something is the path of a file, and no text."""
    return isinstance(text, (str, os.PathLike)) and os.path.isfile(text)


def inputs_modality(inputs: object, towers: Sequence[Modality]) -> tuple[Modality, object]:
    """What one input or many are, for `encode`.

    A string is the path of a picture where there is such a file, and a text otherwise. All items of a list are looked
    at, of files the header; of a column of a data set some from all over it; of an iterator the first.

    Args:
        inputs: as `encode` takes them.
        towers: what the model embeds; what it does not embed is not asked for.

    Returns:
        The modality, and the inputs, of which an iterator begins anew.

    Raises:
        InputError: if they are of several modalities, may be of several, or are none of them; for a string that is
            named like a picture where no such file is.
    """
    if len(towers) == 1 or hasattr(inputs, "column_names"):  # a whole data set is refused where it is read
        return towers[0], inputs
    if hasattr(inputs, "read"):
        raise InputError(reason=f"a {type(inputs).__name__}", hint=OPEN_FILE_HINT)
    if isinstance(inputs, Mapping) and not {"bytes", "path"} & inputs.keys():
        return _processed_modality(inputs, towers), inputs
    if isinstance(inputs, (np.ndarray, Tensor)) and not _is_text_array(inputs):
        return _array_modality(inputs, towers, is_item=False), inputs
    if isinstance(inputs, (str, bytes, os.PathLike, PIL.Image.Image, Mapping)):
        return _items_modality([(0, inputs)], towers), inputs
    if isinstance(inputs, (list, tuple, np.ndarray)):
        return _items_modality(enumerate(inputs), towers), inputs
    if isinstance(inputs, Sequence):
        step = max(1, len(inputs) // _LOOKED_AT)
        return _items_modality(((index, inputs[index]) for index in range(0, len(inputs), step)), towers), inputs
    if not isinstance(inputs, Iterable):
        raise _unclear(f"a {type(inputs).__name__}", towers)
    if not isinstance(inputs, Iterator):  # such as a set: it can be gone through again
        return _items_modality(itertools.islice(enumerate(inputs), 1), towers), inputs
    first = list(itertools.islice(inputs, 1))
    return _items_modality(enumerate(first), towers), itertools.chain(first, inputs)


def _items_modality(items: Iterable[tuple[int, object]], towers: Sequence[Modality]) -> Modality:
    texts: list[str] = []
    pictures: list[tuple[str, Modality | None]] = []
    for index, item in items:
        name = str(item) if isinstance(item, (str, os.PathLike)) else f"item {index}"
        if isinstance(item, (np.ndarray, Tensor)):
            pictures.append((name, _array_modality(item, towers, is_item=True)))
        elif isinstance(item, str) and not is_file(item):
            _check_is_text(item)
            texts.append(name)
        elif isinstance(item, (str, bytes, os.PathLike, PIL.Image.Image, Mapping)):
            pictures.append((name, picture_modality(item)))
        else:
            raise _unclear(f"{name} is a {type(item).__name__}, which", towers)
        if texts and pictures:
            raise InputError(f"{texts[0]!r} is a text, {pictures[0][0]} a picture: {_methods(towers)}")
    if not pictures:
        return "text" if "text" in towers else towers[0]
    return pictures_modality(pictures, _methods(("image", "depth"))) if "depth" in towers else "image"


def _check_is_text(text: str) -> None:
    """Refuse a folder, and what is named like a picture and is none: as words they would mean anything."""
    if os.path.isdir(text):
        raise InputError(path=text, reason="a folder, expected a text or a file", hint="give its files")
    suffix = os.path.splitext(text)[1].lower()
    if len(suffix) > 2 and (is_depth_file(text) or suffix in PIL.Image.registered_extensions()):
        raise InputError(path=text, reason="no such file", hint="encode_text takes it for words")


def _processed_modality(inputs: Mapping[Any, object], towers: Sequence[Modality]) -> Modality:
    """The modality of a processor's output. Depth maps too are called `pixel_values` by their own processor."""
    found = [modality for name, modality in _PROCESSED.items() if name in inputs]
    if len(found) != 1 or (found == ["image"] and "depth" in towers):
        raise _unclear(f"a mapping with {', '.join(map(str, inputs)) or 'nothing'}", towers)
    return found[0]


def _array_modality(array: Any, towers: Sequence[Modality], *, is_item: bool) -> Modality:
    """The modality of an array or tensor of numbers: one picture, or a stack of them.

    Numbers of more than 8 bits in one channel are depth; 8 bits in 3 or 4 channels that come last are images.
    """
    if "depth" not in towers:
        return "image"
    shape, dtype = list(array.shape), str(array.dtype).removeprefix("torch.")
    is_processed = isinstance(array, Tensor) and len(shape) == 4 and array.is_floating_point()
    is_byte = dtype in ("uint8", "int8", "bool")
    if is_byte and len(shape) in ((3,) if is_item else (3, 4)) and shape[-1] in _COLOURS:
        return "image"
    # [H, W], [1, H, W], [H, W, 1], and stacks of these; [3, H, W] may be an image.
    is_grey = len(shape) == 2 or (len(shape) in (3, 4) and 1 in (shape[-3], shape[-1]))
    is_stack = not is_item and len(shape) == 3 and shape[0] not in _COLOURS and shape[-1] not in _COLOURS
    if not is_byte and not is_processed and (is_grey or is_stack):
        return "depth"
    raise _unclear(f"{dtype} {shape}", towers)


def _is_text_array(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "UO"


def _unclear(what: str, towers: Sequence[Modality]) -> InputError:
    return InputError(f"{what} may be several things, or none that is embedded: {_methods(towers)}")


def _methods(towers: Sequence[Modality]) -> str:
    *others, last = (f"encode_{name}" for name in towers)
    return f"call {', '.join(others)} or {last}"
