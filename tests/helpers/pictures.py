"""Pictures, and folders of them."""

import numpy as np
from PIL import Image


def noise(seed):
    """A picture of random pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def save_pictures(folder, pictures, names=None):
    """Write PIL images as files, in their order; returns the folder, a Path.

    Args:
        folder: a new one, or one that is there.
        pictures: the images.
        names: the files' names; by default 0.png, 1.png and so on.
    """
    names = names or [f"{index}.png" for index in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
    return folder
