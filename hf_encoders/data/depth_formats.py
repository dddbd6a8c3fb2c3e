"""Readers of the depth maps that simulators, stereo benchmarks and MATLAB leave: .pfm, .exr, .h5, .mat and wide TIFF.

The models' own reader takes them from here once the package is imported. Each returns the stored numbers, [H, W] or
[H, W, 1], and refuses what would have to be guessed: which of several arrays, channels or pages is the map.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models.depth_map_files import DepthMapError, Reader, only_name, without_no_data

_PFM_HEADER = re.compile(rb"\A(P[fF])\s+(\d+)\s+(\d+)\s+([-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s")
_PFM_HEADER_BYTES = 256
# Middlebury's names of a scene: disp0.pfm beside calib.txt.
_DISPARITY = re.compile(r"disp", re.IGNORECASE)
_CALIBRATION = "calib.txt"
_DEPTH_CHANNELS = ("Z", "depth", "Depth", "depth.Z")
_ORIENTATION, _NO_DATA = 274, 42113


def read_pfm(path: Path) -> NDArray[Any]:
    """A portable float map (Debevec): rows from the bottom up, its byte order in the sign of its scale.

    Middlebury's stereo benchmark stores *disparity* in such files, in pixels. With the scene's `calib.txt` beside it
    (focal length f, baseline b in millimetres, offset d0) it becomes depth in millimetres: b f / (disparity + d0).

    Raises:
        DepthMapError: for colours, a damaged file, or disparity without its calibration.
    """
    content = path.read_bytes()
    header = _PFM_HEADER.match(content[:_PFM_HEADER_BYTES])
    if not header:
        raise DepthMapError(path=path, reason="no portable float map (it begins with Pf, width, height, scale)")
    if header[1] == b"PF":
        raise DepthMapError(path=path, reason="holds 3 channels (PF), expected one (Pf)")
    width, height, scale = int(header[2]), int(header[3]), float(header[4])
    if not (width and height and scale) or len(content) - header.end() < 4 * width * height:
        raise DepthMapError(path=path, reason=f"cut short, or no size: {width} x {height}, scale {scale:g}")
    dtype = np.dtype("<f4" if scale < 0 else ">f4")
    rows = np.frombuffer(content, dtype, width * height, header.end()).reshape(height, width)[::-1]
    calibration = path.with_name(_CALIBRATION)
    if calibration.is_file():
        return _depth_of_disparity(rows, calibration)
    if _DISPARITY.search(path.stem):
        raise DepthMapError(
            path=path,
            reason="its name says disparity, which is no depth without its calibration",
            hint=f"put the scene's {_CALIBRATION} beside it, or turn it into depth",
        )
    return rows


def _depth_of_disparity(disparity: NDArray[Any], calibration: Path) -> NDArray[Any]:
    """Disparity in pixels → depth in the unit of the baseline; what was not matched (infinity) stays invalid."""
    text = calibration.read_text(encoding="utf-8", errors="replace")
    focal = re.search(r"^\s*cam0\s*=\s*\[\s*([-+.\deE]+)", text, re.MULTILINE)
    found = {name: re.search(rf"^\s*{name}\s*=\s*([-+.\deE]+)", text, re.MULTILINE) for name in ("baseline", "doffs")}
    if not focal or not all(found.values()):
        raise DepthMapError(
            path=calibration, reason="no calibration of disparity, expected cam0, baseline and doffs of Middlebury"
        )
    baseline, offset = (float(match[1]) for match in found.values() if match)
    shifted = disparity.astype(np.float64) + offset
    with np.errstate(divide="ignore"):
        return np.where(np.isfinite(shifted) & (shifted > 0), baseline * float(focal[1]) / shifted, np.nan)


def read_exr(path: Path) -> NDArray[Any]:
    """The only channel of an OpenEXR image of one part, or the one called Z or depth; half or single precision.

    Raises:
        DepthMapError: for several channels, none of which is depth by name, or several parts.
    """
    import OpenEXR

    if not path.is_file():
        raise FileNotFoundError(path)
    with OpenEXR.File(str(path), separate_channels=True) as file:
        if len(file.parts) != 1:
            raise DepthMapError(path=path, reason=f"holds {len(file.parts)} parts, expected one map")
        channels = {name: channel.pixels for name, channel in file.channels().items()}
        name = next((name for name in _DEPTH_CHANNELS if name in channels), None)
        if name is None and len(channels) > 1:
            if not _are_equal(list(channels.values())):
                raise DepthMapError(
                    path=path,
                    reason=f"holds the channels {', '.join(channels)}; expected one, or one named Z or depth",
                    hint="read the file yourself, and pass the array that is the depth map",
                )
        return np.array(channels[name or next(iter(channels))])


def _are_equal(channels: list[NDArray[Any]]) -> bool:
    """Whether all channels hold the same, as renderers write grey."""
    return all(np.array_equal(channels[0], other, equal_nan=True) for other in channels[1:])


def read_hdf5(path: Path) -> NDArray[Any]:
    """The only array of numbers in an HDF5 file, or the one named "depth".

    Raises:
        DepthMapError: for several, which the message lists.
    """
    import h5py

    if not path.is_file():
        raise FileNotFoundError(path)
    with h5py.File(path, "r") as file:
        found: dict[str, Any] = {}

        def collect(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and item.ndim >= 2:
                found[name] = item

        file.visititems(collect)
        name = only_name(list(found), path)
        is_matlab = file.attrs.get("MATLAB_class") is not None or "MATLAB_class" in found[name].attrs
        array = np.array(found[name])
        # MATLAB stores columns first, which HDF5 shows as the transpose.
        return array.T if is_matlab else array


def read_mat(path: Path) -> NDArray[Any]:
    """The only array of numbers in a MATLAB file of any version, or the one named "depth". Nothing in it is run.

    Raises:
        DepthMapError: for several, which the message lists.
    """
    from scipy.io import loadmat, whosmat

    with path.open("rb") as file:
        head = file.read(128)
    if head.startswith(b"MATLAB 7.3") or head.startswith(b"\x89HDF"):  # since 7.3 an HDF5 file
        return read_hdf5(path)
    numbers = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}
    names = [name for name, shape, kind in whosmat(path) if kind in numbers and np.prod(shape) > 1]
    name = only_name(names, path)
    return np.asarray(loadmat(path, variable_names=[name])[name])


def read_wide_tiff(path: Path) -> NDArray[Any]:
    """The only page of a TIFF file whose numbers Pillow does not read: float16, float64, uint32, int8 and 64 bits.

    Raises:
        DepthMapError: for several pages or channels.
    """
    import tifffile

    with tifffile.TiffFile(path) as file:
        if not len(file.pages):
            raise ValueError("no page")
        if len(file.pages) != 1:
            raise DepthMapError(path=path, reason=f"holds {len(file.pages)} frames, expected one map")
        page = file.pages.first
        if page.samplesperpixel != 1:
            raise DepthMapError(path=path, reason=f"holds {page.samplesperpixel} channels, expected one")
        turned = page.tags.get(_ORIENTATION)
        if turned is not None and turned.value != 1:
            raise DepthMapError(path=path, reason="is stored turned or mirrored, expected the upper left pixel first")
        tag = page.tags.get(_NO_DATA)
        return without_no_data(page.asarray(), None if tag is None else tag.value)


READERS: dict[str, Reader] = {
    ".pfm": read_pfm,
    ".exr": read_exr,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
    ".mat": read_mat,
    ".tif": read_wide_tiff,
}
