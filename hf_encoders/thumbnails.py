"""Small pictures of images and depth maps, as people look at them: contact sheets and the page show these."""

from typing import NamedTuple

import PIL.Image

from .depth_colours import DepthColours
from .models.image_files import read_image


class Thumbnail(NamedTuple):
    """An RGB picture, and the range of a depth map in words, such as "0.8 to 3.2 m", empty where it is unknown."""

    image: PIL.Image.Image
    metres: str


def thumbnail(
    picture: object, modality: str, side: int, name: str = "a picture", depth: DepthColours | None = None
) -> Thumbnail:
    """A picture of any size and shape, scaled so that its longer side has a number of pixels.

    Args:
        picture: what `read_image` takes, or `read_depth` for a depth map.
        modality: "image" or "depth".
        side: the longer side, in pixels.
        name: what messages call an image.
        depth: how depth maps are drawn; by default, without their metres.

    Raises:
        InputError: if it cannot be read.
    """
    if modality == "depth":
        shown, metres = (depth or DepthColours()).draw(picture)
    else:
        shown, metres = read_image(picture, name).convert("RGB"), ""
    scale = side / max(shown.size)
    size = max(1, round(shown.width * scale)), max(1, round(shown.height * scale))
    resampling = PIL.Image.Resampling.LANCZOS if scale < 1 else PIL.Image.Resampling.BICUBIC
    return Thumbnail(shown.resize(size, resampling), metres)
