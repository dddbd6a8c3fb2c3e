"""Reads one depth or height map from a file, at the precision it was stored in."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .input_errors import InputError, reason

_COLOURS = ("RGB", "RGBA", "LA")


class DepthMapError(InputError):
    """A depth map that cannot be used; the message names the file or the index and what was expected."""


def read_depth_map(path: str | os.PathLike[str]) -> Tensor:
    """Read a map from an image file (PNG of 8 or 16 bits, TIFF of integers or floats, ...), .npy, .npz or .pt.

    Returns:
        [H, W] or [C, H, W], in the file's own type: no conversion to 8 bits or to RGB.

    Raises:
        DepthMapError: if the file is missing or unreadable, or does not hold exactly one map.
    """
    if not os.fspath(path):  # which Path would turn into the current folder
        raise DepthMapError("an empty path, expected the file of a depth map")
    path = Path(path)
    reader = _READERS.get(path.suffix.lower(), _read_image)
    try:
        depth_map = reader(path)
    except DepthMapError:
        raise
    except FileNotFoundError:
        raise DepthMapError(path=path, reason="no such file") from None
    except IsADirectoryError:
        raise DepthMapError(path=path, reason="a folder, expected the file of a depth map") from None
    except Exception as error:  # the decoders raise whatever they like on damaged files
        raise DepthMapError(path=path, reason=f"not a readable depth map ({reason(error)})") from error
    return depth_map


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
    try:
        image.load()
    except Exception as error:  # the decoders raise whatever they like on damaged files
        raise DepthMapError(name=name, reason=f"not a readable depth map ({reason(error)})") from error
    if image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16"):
        # Pillow hands out big-endian 16-bit images as such, and torch takes the native order only.
        array = np.asarray(image)
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=True))
    if image.mode in _COLOURS:
        array = np.asarray(image)
        colours = array[..., : 3 if image.mode.startswith("RGB") else 1]
        if (colours == colours[..., :1]).all():
            return torch.from_numpy(colours[..., 0].copy())
        return torch.from_numpy(colours.copy()).permute(2, 0, 1)
    raise DepthMapError(name=name, reason=f"a PIL image of mode {image.mode!r}, expected depth (L, I;16, I or F)")


def _read_image(path: Path) -> Tensor:
    with Image.open(path) as image:
        return image_to_tensor(image, str(path))


def _read_npy(path: Path) -> Tensor:
    return array_to_tensor(np.load(path, allow_pickle=False), str(path))


def _read_npz(path: Path) -> Tensor:
    with np.load(path, allow_pickle=False) as arrays:
        return array_to_tensor(arrays[_only_name(list(arrays), path)], str(path))


def _read_pt(path: Path) -> Tensor:
    content: object = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, dict):
        tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = tensors[_only_name(list(tensors), path)]
    if not isinstance(content, Tensor):
        raise DepthMapError(path=path, reason=f"holds a {type(content).__name__}, expected one tensor")
    return content.detach()


def _only_name(names: list[str], path: Path) -> str:
    if "depth" in names:
        return "depth"
    if len(names) == 1:
        return names[0]
    raise DepthMapError(
        path=path, reason=f"holds {', '.join(names) or 'no array'}; expected one array, or one named 'depth'"
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


_READERS: dict[str, Callable[[Path], Tensor]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".pt": _read_pt,
    ".pth": _read_pt,
}
