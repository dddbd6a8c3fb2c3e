"""A view of one object of a row: the part of its pictures around a box, with a caption of the object alone."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from datasets import Features
from PIL.Image import Image
from torch import Tensor

from .arguments import DataArguments
from .captions import ClassNames, Template, check_values


class Region(NamedTuple):
    """An object in the pictures of a row.

    Args:
        box: its corners [x1, y1, x2, y2], relative to the size if all four are at most 1, otherwise in pixels.
        caption: what it is.
    """

    box: tuple[float, float, float, float]
    caption: str

    def relative_to(self, image: Image | None, depth_map: Tensor | None) -> tuple[float, float, float, float]:
        """The box relative to the size of the image, or of the depth map [..., H, W] where there is no image."""
        if max(self.box) <= 1:
            return self.box
        if image is not None:
            width, height = image.size
        elif depth_map is not None:
            height, width = depth_map.shape[-2:]
        else:
            return 0, 0, 1, 1
        left, top, right, bottom = self.box
        return left / width, top / height, right / width, bottom / height


class Regions:
    """Chooses whether a row is seen whole, or one of its objects alone.

    Args:
        column: lists of objects and the name of their boxes, such as "objects.box".
        captions: templates of values of the object, such as "{color!a} {name}", of which a view takes one; see
            `Template`.
        share: how many of the rows that have objects are seen so.
        features: the columns of the rows, for the names of classes.

    Raises:
        ValueError: if the column has no name of boxes, a caption is no template, an object has no such
            value, or the share is none.
    """

    def __init__(self, column: str, captions: Sequence[str], share: float, features: Features | None = None):
        self._objects, _, self._box = column.partition(".")
        if not self._box:
            raise ValueError(f"--regions_column {column}: give the objects and what their box is called: objects.box")
        if not 0 < share <= 1:
            raise ValueError(f"--region_share {share}: expected a share above 0, and at most 1")
        self._templates, self._share, self._classes = list(map(Template, captions)), share, ClassNames(features)
        check_values(features, self._objects, [self._box], f"--regions_column {column}")
        named = (name for template in self._templates for name in template.columns)
        check_values(features, self._objects, named, "--region_captions")

    def choose(self, row: Mapping[str, Any], rng: np.random.Generator) -> Region | None:
        """An object of the row; None where the whole row is seen.

        Raises:
            ValueError, KeyError: if an object has no box, or not the values of the caption.
        """
        objects = self._classes.named({self._objects: row[self._objects]})[self._objects]
        if rng.random() >= self._share or not objects:
            return None
        item = objects[rng.integers(len(objects))]
        template = self._templates[rng.integers(len(self._templates))]
        caption = template.fill(item)
        if caption is None:
            raise ValueError(f"an object in column {self._objects!r} lacks a value of {template.text!r}")
        box = [float(corner) for corner in item[self._box]]
        if len(box) != 4 or not (np.isfinite(box).all() and box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"a box in column {self._objects!r} is {box}, expected [x1, y1, x2, y2]")
        return Region((box[0], box[1], box[2], box[3]), caption)


def make_regions(options: DataArguments, features: Features | None = None) -> Regions | None:
    """The views of single objects that the options ask for.

    Raises:
        ValueError: if they ask for a part of it only, see `Regions`.
    """
    if not options.regions_column:
        if options.region_captions:
            raise ValueError("--region_captions are for the objects of --regions_column, which is not given")
        return None
    if not options.region_captions:
        raise ValueError("--regions_column needs --region_captions, such as '{color!a} {name}'")
    return Regions(options.regions_column, options.region_captions, options.region_share, features)
