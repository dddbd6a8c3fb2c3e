"""Reads one depth or height map from a file, at the precision it was stored in."""

import io
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .input_errors import CONTENT_HINT, OPEN_FILE_HINT, InputError, is_content, reason

_COLOURS = ("RGB", "RGBA", "LA")
# Tags of a TIFF file: how many bits a value has, whether it is signed or a float, and GDAL's value for "no data".
_BITS, _ZERO_IS, _SAMPLE_FORMAT, _NO_DATA = 258, 262, 339, 42113
_WHITE = 0
_SIGNED, _UNSIGNED = 2, 1
_TIFF = (".tif", ".tiff")
# Formats whose readers the package registers: see `register_readers`.
_OF_THE_PACKAGE = (".pfm", ".exr", ".h5", ".hdf5", ".mat")

# How the content of a file begins that Pillow does not read, or reads as other numbers: `_kind_of` takes the first.
_SIGNATURES = {
    b"\x93NUMPY": ".npy",
    b"PK\x03\x04": ".npz",
    b"Pf": ".pfm",
    b"PF": ".pfm",
    b"\x76\x2f\x31\x01": ".exr",
    b"\x89HDF": ".h5",
    b"MATLAB": ".mat",
    b"II": ".tif",
    b"MM": ".tif",
}

Reader = Callable[[Path], NDArray[Any]]


class DepthMapError(InputError):
    """A depth map that cannot be used; the message names the file or the index and what was expected."""


def read_depth_map(path: str | os.PathLike[str]) -> Tensor:
    """Read a map from a file, in the file's own unit and type: no conversion to 8 bits or to RGB.

    | file                     | content                                                                               |
    |--------------------------|---------------------------------------------------------------------------------------|
    | .png, .pgm, ...          | 8 or 16 bits                                                                          |
    | .tif, .tiff              | integers and floats of 8 to 64 bits; GDAL's value for "no data" (tag 42113) is NaN    |
    | .npy, .npz, .pt          | one array, or the one named "depth"                                                   |
    | .pfm, .exr, .h5, .mat    | one map of one channel, or the one named "depth"; with the package, not remote code   |

    Returns:
        [H, W] or [C, H, W].

    Raises:
        DepthMapError: if the file is missing or unreadable, or does not hold exactly one map.
    """
    if not os.fspath(path):  # which Path would turn into the current folder
        raise DepthMapError("an empty path, expected the file of a depth map")
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix in _OF_THE_PACKAGE:
            return array_to_tensor(_registered(suffix, path)(path), str(path))
        return _READERS.get(suffix, _read_image)(path)
    except DepthMapError:
        raise
    except FileNotFoundError:
        raise DepthMapError(path=path, reason="no such file") from None
    except IsADirectoryError:
        raise DepthMapError(path=path, reason="a folder, expected the file of a depth map") from None
    except ImportError as error:
        hint = "pip install 'hf-encoders[depth]'"
        raise DepthMapError(path=path, reason=f"needs {error.name or 'a library'}", hint=hint) from error
    except Exception as error:  # the decoders raise whatever they like on damaged files
        raise DepthMapError(path=path, reason=f"not a readable depth map ({reason(error)})") from error


def read_depth(item: object, name: str) -> Tensor:
    """Read a map of any kind, at the precision it was stored in.

    Args:
        item: a path, the content of a file (bytes with a zero among them, as no path has), a PIL image, an array, a
            tensor, or `{"bytes": ..., "path": ...}` as `datasets` gives undecoded.
        name: what messages call it, where it has no path.

    Returns:
        [H, W] or [C, H, W].

    Raises:
        DepthMapError: if it is something else, or does not hold exactly one map.
    """
    if isinstance(item, Mapping):
        content, path = item.get("bytes"), item.get("path")
        if isinstance(content, bytes):
            return _read_bytes(content, name, path if isinstance(path, str) else "")
        item = path if isinstance(path, str) else item
    if is_content(item):
        return _read_bytes(item, name, "")
    if isinstance(item, (str, os.PathLike)):
        return read_depth_map(item)
    if isinstance(item, Image.Image):
        return image_to_tensor(item, name)
    if isinstance(item, np.ndarray):
        return array_to_tensor(item, name)
    if isinstance(item, Tensor):
        return item.detach().cpu()
    found = f"a {type(item).__name__}" + (" without 'bytes' or 'path'" if isinstance(item, Mapping) else "")
    hint = CONTENT_HINT if isinstance(item, bytes) else OPEN_FILE_HINT if hasattr(item, "read") else ""
    raise DepthMapError(name=name, reason=f"{found}, expected a path, a PIL image, an array or a tensor", hint=hint)


def _read_bytes(content: bytes, name: str, path: str) -> Tensor:
    """The map in the content of a file. What Pillow does not read is written to a file, which the readers take."""
    if not content:
        raise DepthMapError(name=name, reason="no bytes, expected the content of a file")
    # A name may tell more than the content does: .pt files are zip archives, as .npz files are.
    file_name = os.path.basename(path) if is_depth_file(path) else f"map{_kind_of(content)}"
    try:
        if os.path.splitext(file_name)[1] in ("", ".tif"):
            with Image.open(io.BytesIO(content)) as image:
                if not _is_misread(getattr(image, "tag_v2", {})):
                    return image_to_tensor(image, name)
    except UnidentifiedImageError:
        if file_name == "map":
            raise DepthMapError(name=name, reason="not a depth map of a kind that is read") from None
    except DepthMapError:
        raise
    except Exception as error:  # the decoders raise whatever they like on damaged files
        raise DepthMapError(name=name, reason=f"not a readable depth map ({reason(error)})") from error
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, file_name)
        file.write_bytes(content)
        try:
            return read_depth_map(file)
        except DepthMapError as error:
            raise DepthMapError(name=name, reason=error.reason, hint=error.hint) from error


def _kind_of(content: bytes) -> str:
    """The suffix of a file with this content; of pictures that Pillow reads none, as it looks at the content too."""
    return next((suffix for start, suffix in _SIGNATURES.items() if content.startswith(start)), "")


def is_depth_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds numbers that no image processor reads, by its suffix: .npy, .exr, ..."""
    return Path(path).suffix.lower() in {*_READERS, *_OF_THE_PACKAGE}


def is_depth_content(content: bytes) -> bool:
    """Whether the content of a file holds numbers that no image processor reads, by how it begins: .npy, .exr, ..."""
    kind = _kind_of(content)
    return kind not in _TIFF and is_depth_file(f"map{kind}")


def register_readers(readers: dict[str, Reader]) -> None:
    """Let files be read by what this file, which travels with the weights, cannot import.

    Args:
        readers: suffix → what reads such a file; ".tif" reads the TIFF files that Pillow does not.
    """
    _REGISTERED.update(readers)


def image_to_tensor(image: Image.Image, name: str) -> Tensor:
    """Turn a PIL image of any depth mode (1, L, I;16, I, F, or colour) into [H, W], or [3, H, W] if its colours differ.

    Raises:
        DepthMapError: for a palette, 16-bit colours, a file of several frames or one that cannot be decoded.
    """
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise DepthMapError(name=name, reason=f"holds {frames} frames, expected one map")
    if image.mode in _COLOURS and any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        raise DepthMapError(
            name=name, reason="16-bit colours, which Pillow reduces to 8 bits; expected one 16-bit channel"
        )
    tags = getattr(image, "tag_v2", {})  # of a TIFF file
    if _is_misread(tags):
        raise DepthMapError(name=name, reason="a TIFF file of a type that Pillow misreads; pass its path")
    largest = _declared_largest(image)
    try:
        image.load()
    except Exception as error:  # the decoders raise whatever they like on damaged files
        raise DepthMapError(name=name, reason=f"not a readable depth map ({reason(error)})") from error
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        # Pillow hands out big-endian 16-bit images as such, and torch takes the native order only.
        array = np.asarray(image)
        if largest is not None:  # Pillow stretched it to 8 or 16 bits
            top = 255 if image.mode == "L" else 65535
            array = np.rint(array * (largest / top)).astype(np.int32)
        return array_to_tensor(without_no_data(array, tags.get(_NO_DATA)), name)
    if image.mode in _COLOURS:
        array = np.asarray(image)
        colours = array[..., : 3 if image.mode.startswith("RGB") else 1]
        if (colours == colours[..., :1]).all():
            return torch.from_numpy(colours[..., 0].copy())
        return torch.from_numpy(colours.copy()).permute(2, 0, 1)
    raise DepthMapError(name=name, reason=f"a PIL image of mode {image.mode!r}, expected depth (L, I;16, I or F)")


def without_no_data(array: NDArray[Any], declared: object) -> NDArray[Any]:
    """An array whose pixels of GDAL's declared "no data" value are NaN; the array itself where there are none.

    Args:
        array: the pixels.
        declared: the text of tag 42113, or None.
    """
    try:
        value = float(str(declared).strip("\0 "))
    except ValueError:
        return array
    # A float32 file declares its value in decimals, which are rounded as the pixels were.
    is_float = array.dtype.kind == "f"
    with np.errstate(over="ignore"):
        pixels = array == (array.dtype.type(value) if is_float else value)
    if not pixels.any():
        return array
    array = array.astype(array.dtype if is_float else np.float64)
    array[pixels] = np.nan
    return array


def _declared_largest(image: Image.Image) -> int | None:
    """The largest value that a .pgm file declares, such as 4095; None where Pillow keeps values as they are."""
    for codec, _, _, arguments in getattr(image, "tile", ()):
        if codec in ("ppm", "ppm_plain") and isinstance(arguments, tuple):
            return int(arguments[1])
    return None


def _is_misread(tags: Any) -> bool:
    """Whether Pillow gives other numbers than those that were stored.

    32 bits without a sign become negative, 8 bits with a sign lose it, and 8 bits whose zero is white are inverted.
    """
    bits, kind = _first(tags.get(_BITS)), _first(tags.get(_SAMPLE_FORMAT, _UNSIGNED))
    return (bits, kind) in ((32, _UNSIGNED), (8, _SIGNED)) or (bits == 8 and tags.get(_ZERO_IS) == _WHITE)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _read_image(path: Path) -> Tensor:
    is_tiff = path.suffix.lower() in _TIFF
    try:
        with Image.open(path) as image:
            if not (is_tiff and _is_misread(getattr(image, "tag_v2", {}))):
                return image_to_tensor(image, str(path))
    except UnidentifiedImageError:
        if not is_tiff or not path.stat().st_size:
            raise
    return array_to_tensor(_registered(".tif", path)(path), str(path))


def _read_npy(path: Path) -> Tensor:
    return array_to_tensor(np.load(path, allow_pickle=False), str(path))


def _read_npz(path: Path) -> Tensor:
    with np.load(path, allow_pickle=False) as arrays:
        return array_to_tensor(arrays[only_name(list(arrays), path)], str(path))


def _read_pt(path: Path) -> Tensor:
    content: object = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, dict):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = tensors[only_name(list(tensors), path)]
    if not isinstance(content, Tensor):
        raise DepthMapError(path=path, reason=f"holds a {type(content).__name__}, expected one tensor")
    return content.detach()


def only_name(names: Sequence[str], path: Path) -> str:
    """The only name, or "depth".

    Raises:
        DepthMapError: if there are several; the message lists them.
    """
    if "depth" in names:
        return "depth"
    if len(names) == 1:
        return names[0]
    raise DepthMapError(
        path=path,
        reason=f"holds {', '.join(names) or 'no array'}; expected one array, or one named 'depth'",
        hint="read the file yourself, and pass the array that is the depth map" if names else "",
    )


def array_to_tensor(array: NDArray[Any], name: str) -> Tensor:
    """Turn an array of real numbers into a tensor of the same values, whatever its byte order or strides."""
    if array.dtype.kind not in "biuf":
        raise DepthMapError(name=name, reason=f"an array of {array.dtype}, expected real numbers")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    if isinstance(array, np.ma.MaskedArray):  # as raster libraries mark what was not measured
        array = np.ma.filled(array.astype(np.float64), np.nan)
    # Always a copy: torch warns of arrays that are read-only.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _registered(suffix: str, path: Path) -> Reader:
    if suffix not in _REGISTERED:
        raise DepthMapError(
            path=path,
            reason=f"{suffix} files of this kind are read by the package alone",
            hint="install and import the package, or pass an array",
        )
    return _REGISTERED[suffix]


_READERS: dict[str, Callable[[Path], Tensor]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_pt,
    ".pth": _read_pt,
}
_REGISTERED: dict[str, Reader] = {}
