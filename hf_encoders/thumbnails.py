"""Small pictures of images and depth maps, as people look at them: contact sheets and the page show these."""

import numpy as np
import PIL.Image

from .models.depth_map_files import read_depth
from .models.image_files import read_image


def thumbnail(picture: object, modality: str, side: int, name: str = "a picture") -> PIL.Image.Image:
    """A picture of any size and shape, scaled so that its longer side has a number of pixels.

    Args:
        picture: what `read_image` takes, or `read_depth` for a depth map.
        modality: "image" or "depth"; depth is drawn in grey, see `depth_to_grey`.
        side: the longer side, in pixels.
        name: what messages call an image.

    Returns:
        An RGB image.

    Raises:
        InputError: if it cannot be read.
    """
    shown = depth_to_grey(picture) if modality == "depth" else read_image(picture, name)
    scale = side / max(shown.size)
    size = max(1, round(shown.width * scale)), max(1, round(shown.height * scale))
    resampling = PIL.Image.Resampling.LANCZOS if scale < 1 else PIL.Image.Resampling.BICUBIC
    return shown.convert("RGB").resize(size, resampling)


def depth_to_grey(picture: object) -> PIL.Image.Image:
    """A depth map as an 8-bit grey image, from its lowest valid value (black) to its highest; invalid pixels are black.

    Args:
        picture: what `read_depth` takes.
    """
    values = np.asarray(read_depth(picture, "a depth map"), np.float64)
    values = values.reshape(-1, *values.shape[-2:])[0]
    valid = np.isfinite(values) & (values != 0)
    low, high = (values[valid].min(), values[valid].max()) if valid.any() else (0.0, 0.0)
    shown = np.where(valid, (values - low) / max(high - low, 1e-12), 0)
    return PIL.Image.fromarray((shown.clip(0, 1) * 255).astype(np.uint8))
