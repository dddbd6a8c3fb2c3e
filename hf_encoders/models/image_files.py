"""Reads a picture of any kind into the 8-bit RGB image that transformers' image processors expect."""

import io
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from transformers.utils import logging

from .input_errors import CONTENT_HINT, OPEN_FILE_HINT, InputError, InputTypeError, is_content, reason

logger = logging.get_logger(__name__)

# Rounding moves floats this far outside of 0 to 1, for example in a resized picture.
_TOLERANCE = 1e-3
_INPUTS = "a path, the content of a file, a PIL image, an array, a tensor or {'bytes': ..., 'path': ...}"
_DEPTH_HINT = "depth maps are for encode_depth"
_SAFE_HINT = "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"

# Pillow copes with large pictures, palettes with transparency and damaged metadata, and warns of each file. The filter
# is set here, once: Python's filters belong to the process, and pictures are read in several threads. It stands last,
# so that the filters of the program come first.
warnings.filterwarnings("ignore", module=r"PIL\.", append=True)

# How AVIF and HEIC files call themselves (ISO/IEC 23000-22 and 23008-12).
_AVIF, _HEIC = (b"avif", b"avis"), (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_HINT = "AVIF needs Pillow 11.3 or later"

# Millimetres in 8 bits are white beyond 255, and metres are darker than this.
_DARK, _ALMOST_ALL = 21, 0.99
_WHITE = np.uint8(255)
_Pixels = NDArray[Any]


class ImageError(InputError):
    """A picture cannot be used; the message names it and says what was expected."""


def read_image(item: object, name: str) -> Image.Image:
    """Read one picture as a viewer shows it: upright (the EXIF orientation is applied), and on white where it is clear.

    What alpha, a palette or a key colour makes transparent is laid on white, as a page shows it; the colour that a file
    hides there is anything. Said once in the log. An opaque picture is that of `convert("RGB")`.
    An animation or a file of several pages gives its first frame; a PIL image gives the frame that it stands at.
    Pictures of more than 8 bits are scaled, not cut off at 255: 16-bit grey keeps its high byte, as Pillow does with
    16-bit colours.

    Args:
        item: a path (text, `PathLike` or bytes), the content of a file (bytes with a zero among them, as no path has),
            a PIL image of any mode, `{"bytes": ..., "path": ...}` as `datasets` gives undecoded, or an array or tensor:
            [H, W], [H, W, 1 | 3 | 4] or [1 | 3 | 4, H, W] of uint8, uint16, bool, or floats from 0 to 1. Three
            dimensions are channels last if the last one is 3 or 4, else channels first if the first one is 1, 3 or 4.
            A PIL image of floats holds 0 to 1, or else 0 to 255.
        name: what messages call it: its path, or a name such as "image 3".

    Returns:
        An RGB image in memory that shares nothing with `item`; no file stays open.

    Raises:
        ImageError: if it is missing, unreadable, larger than Pillow's limit, or its values are not those of a picture.
        TypeError: if it is something else.
    """
    if isinstance(item, Tensor):
        return _from_array(_tensor_to_array(item, name), name)
    if isinstance(item, np.ndarray):
        return _from_array(item, name)
    if isinstance(item, Image.Image):
        return _from_pil(item, name)
    if isinstance(item, Mapping) and isinstance(item.get("bytes"), bytes):
        return _from_file(io.BytesIO(item["bytes"]), name)
    if is_content(item):
        return _from_file(io.BytesIO(item), name)
    path = item.get("path") if isinstance(item, Mapping) else item
    if isinstance(path, (str, bytes, os.PathLike)):
        return _from_path(path, name)
    found = f"a {type(item).__name__}" + (" without 'bytes' or 'path'" if isinstance(item, Mapping) else "")
    hint = OPEN_FILE_HINT if hasattr(item, "read") else ""
    raise InputTypeError(name=name, reason=f"{found}, expected {_INPUTS}", hint=hint)


def is_deep(item: object) -> bool:
    """Whether a picture is grey of 16 bits or floats, as depth maps are; of a file only the header is read."""
    if isinstance(item, Image.Image):
        return item.mode in ("I", "F") or item.mode.startswith("I;16")
    if isinstance(item, (np.ndarray, Tensor)):
        is_grey = item.ndim == 2 or (item.ndim == 3 and 1 in (item.shape[0], item.shape[-1]))
        return is_grey and str(item.dtype).endswith(("int16", "int32"))
    source = item.get("bytes") or item.get("path") if isinstance(item, Mapping) else item
    try:
        with Image.open(io.BytesIO(source) if is_content(source) else source) as image:  # type: ignore[arg-type]
            return is_deep(image)
    except Exception:  # reading it says what is wrong
        return False


def looks_cut_off(image: object) -> bool:
    """Whether an RGB picture in memory is what is left of depth in 8 bits: grey, and all white and black, or all dark.

    Transformers' own image pipelines convert every file to RGB, which cuts 16 bits off at 255 and floats to integers.
    """
    if not isinstance(image, Image.Image) or image.mode != "RGB" or image.format is not None:
        return False
    counts = image.histogram()
    grey, pixels = counts[:256], image.width * image.height
    if not (grey == counts[256:512] == counts[512:]) or max(grey) == pixels:
        return False
    return grey[0] + grey[255] >= _ALMOST_ALL * pixels or sum(grey[:_DARK]) >= _ALMOST_ALL * pixels


def read_images(images: Iterable[object], first_index: int = 0) -> list[Image.Image]:
    """Read many pictures; messages name each by its path, or else by its index, counted from `first_index`."""
    return [_read_numbered(image, index) for index, image in enumerate(images, start=first_index)]


def _read_numbered(image: object, index: int) -> Image.Image:
    # What `datasets` gives undecoded may be a path alone.
    file = image.get("path") if isinstance(image, Mapping) and image.get("bytes") is None else image
    path = None
    if isinstance(file, (str, bytes, os.PathLike)) and file and not is_content(file):
        path = os.fsdecode(file)
    try:
        return read_image(image, path or f"image {index}")
    except InputError as error:
        error.index, error.path = index, path
        raise


def _from_path(path: str | bytes | os.PathLike[str], name: str) -> Image.Image:
    if not os.fspath(path):
        raise ImageError(name=name or "image", reason="an empty path, expected an image file")
    try:
        file = open(path, "rb")  # closed below: an error of opening is told apart from one of reading
    except FileNotFoundError:
        hint = CONTENT_HINT if isinstance(path, bytes) else ""
        raise ImageError(name=name, reason="no such file", hint=hint) from None
    except IsADirectoryError:
        raise ImageError(name=name, reason="a folder, expected an image file") from None
    except (OSError, ValueError) as error:
        hint = CONTENT_HINT if isinstance(path, bytes) else ""
        text = getattr(error, "strerror", None) or reason(error)
        raise ImageError(name=name, reason=f"cannot be opened ({text})", hint=hint) from error
    with file:
        return _from_file(file, name)


def _from_file(file: BinaryIO, name: str) -> Image.Image:
    try:
        image = _open(file)
    except UnidentifiedImageError:
        is_empty = file.seek(0, os.SEEK_END) == 0
        found = "an empty file" if is_empty else "not an image of a kind that Pillow reads"
        hint = _AVIF_HINT if _brand(file) in _AVIF else ""
        raise ImageError(name=name, reason=found, hint=hint) from None
    except ImportError:
        raise ImageError(name=name, reason="HEIC needs pillow-heif", hint="pip install 'hf-encoders[heic]'") from None
    except Image.DecompressionBombError as error:
        raise ImageError(name=name, reason=_too_large(error), hint=_SAFE_HINT) from None
    except Exception as error:  # the decoders raise whatever they like on damaged files
        raise ImageError(name=name, reason=f"not a readable image ({reason(error)})") from error
    with image:
        return _from_pil(image, name)


def _open(file: BinaryIO) -> Image.Image:
    """As `Image.open`; what reads HEIC is imported with the first such file."""
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        if _brand(file) not in _HEIC:
            raise
    import_module("pillow_heif").register_heif_opener()  # not an import that transformers would ask every user for
    file.seek(0)
    return Image.open(file)


def _brand(file: BinaryIO) -> bytes:
    """What a file of the kind of MPEG-4 calls itself; empty for others."""
    file.seek(0)
    head = file.read(12)
    return head[8:] if head[4:8] == b"ftyp" else b""


def _too_large(error: Exception) -> str:
    size = re.search(r"\((\d+) pixels", str(error))
    megapixels = f"{int(size[1]) / 1e6:.0f} megapixels" if size else "too many pixels"
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6  # Pillow warns at its constant and refuses at twice that
    return f"{megapixels}, more than the {limit:.0f} that Pillow takes for safe"


def _from_pil(image: Image.Image, name: str) -> Image.Image:
    if image.format == "EPS":  # a program, which Pillow would hand to Ghostscript
        raise ImageError(
            name=name, reason="EPS is a program that draws an image, expected pixels", hint="convert it to PNG"
        )
    if 0 in image.size:
        raise ImageError(name=name, reason=f"an image of {image.width} x {image.height} pixels")
    try:
        image.load()
        image = _upright(image)
        if image.mode == "F":
            return _grey(_scale_floats(np.asarray(image), name))
        if image.mode == "I" or image.mode.startswith("I;16"):
            values = np.asarray(image)
            grey = _scale_integers(values, name)
            clear = image.info.get("transparency")  # the key colour of a 16-bit PNG, which Pillow converts no further
            return _grey(grey if clear is None else np.where(values == clear, _WHITE, grey))
        return _on_white(image) if image.has_transparency_data else image.convert("RGB")
    except ImageError:
        raise
    except Exception as error:  # as above
        raise ImageError(name=name, reason=f"not a readable image ({reason(error)})") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata raises anything; the pixels are whole
        return image


def _on_white(image: Image.Image) -> Image.Image:
    """A picture with alpha, a palette or a key colour that says what is transparent → RGB."""
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (255, 255):
        return image.convert("RGB")  # the bytes of opaque pictures stay those of Pillow's conversion
    logger.warning_once("pictures are transparent in places: they are laid on white, as a viewer shows them")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _scale_floats(values: _Pixels, name: str) -> _Pixels:
    """Floats from 0 to 1, or else to 255 → uint8."""
    low, high = float(values.min()), float(values.max())
    if not (low >= -_TOLERANCE and high <= 255 + _TOLERANCE):  # NaN fails too
        raise ImageError(
            name=name, reason=f"floats from {low:g} to {high:g}, expected 0 to 1 or 0 to 255", hint=_DEPTH_HINT
        )
    return _to_8_bits(values if high <= 1 + _TOLERANCE else values / 255)


def _scale_integers(values: _Pixels, name: str) -> _Pixels:
    """16-bit values of any integer type → uint8."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            name=name, reason=f"integers from {low} to {high}, expected 16 bits (0 to 65535)", hint=_DEPTH_HINT
        )
    return (values >> 8).astype(np.uint8)


def _tensor_to_array(tensor: Tensor, name: str) -> _Pixels:
    try:
        tensor = tensor.detach().cpu()
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except Exception as error:  # quantized, sparse, or without data
        raise ImageError(name=name, reason=f"a tensor that is not a plain array ({reason(error)})") from error


def _from_array(array: _Pixels, name: str) -> Image.Image:
    """An array of any shape and type that `read_image` names → RGB."""
    shape = list(array.shape)
    if array.ndim == 3 and array.shape[-1] not in (3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in shape:
        raise ImageError(
            name=name, reason=f"an array of shape {shape}, expected [H, W], [H, W, 1|3|4] or [1|3|4, H, W]"
        )
    if array.dtype == np.bool_:
        pixels = array * np.uint8(255)
    elif array.dtype == np.uint8:
        pixels = array
    elif array.dtype.kind == "u" and array.dtype.itemsize == 2:
        pixels = _scale_integers(array, name)
    elif array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):  # NaN fails too
            raise ImageError(
                name=name, reason=f"floats from {low:g} to {high:g}, expected 0 to 1", hint="or pass uint8 (0 to 255)"
            )
        pixels = _to_8_bits(array)
    else:
        raise ImageError(
            name=name, reason=f"an array of {array.dtype}, expected uint8, uint16, bool or floats from 0 to 1"
        )
    if pixels.shape[-1] == 1:
        return _grey(pixels[..., 0])
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return _on_white(image) if image.mode == "RGBA" else image


def _to_8_bits(values: _Pixels) -> _Pixels:
    # Rounded, so that k / 255 becomes k again.
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _grey(pixels: _Pixels) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
