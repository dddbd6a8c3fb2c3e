"""Pictures as the page shows them: small JPEGs, and the range of depth maps in words."""

import base64
import io
from typing import NamedTuple

from ..depth_colours import DepthColours
from ..modalities import Modality
from ..thumbnails import thumbnail

_SIDE = 256  # pixels of the longer side


class SmallPicture(NamedTuple):
    """A JPEG, and the range of a depth map, such as "0.8 to 3.2 m"; empty for an image or where it is unknown."""

    jpeg: bytes
    metres: str

    def inline(self) -> str:
        """An address that holds the JPEG."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


def small_picture(picture: object, modality: Modality, depth: DepthColours) -> SmallPicture:
    """Make a picture small.

    Args:
        picture: what `thumbnail` takes.
        modality: "image" or "depth".
        depth: how depth maps are drawn.

    Raises:
        InputError: if it cannot be read.
    """
    shown, content = thumbnail(picture, modality, _SIDE, depth=depth), io.BytesIO()
    shown.image.save(content, "JPEG", quality=85)
    return SmallPicture(content.getvalue(), shown.metres)


def picture_address(pictures: str, modality: Modality, number: int) -> str:
    """Where the page finds the picture of a row; `pictures` is their folder, which is of this run of the server."""
    return f"{pictures}/{modality}/{number}.jpg"
