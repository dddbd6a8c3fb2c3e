"""Depth maps in colours: bright is near, and the metres are those that the model reads."""

import numpy as np
import PIL.Image
import pytest

from hf_encoders import DepthImageProcessor
from hf_encoders.commands.figures.contact_sheet import Section, Tile, draw
from hf_encoders.depth_colours import DepthColours

NEAR, FAR, GREY = (253, 231, 37), (68, 1, 84), (208, 212, 217)
MILLIMETRES = np.array([[0, 1000], [3000, 2000]], np.uint16)


def drawn(colours, depth):
    picture, shown = colours.draw(depth)
    return [tuple(pixel) for row in np.asarray(picture).tolist() for pixel in row], shown


def test_from_the_nearest_valid_value_to_the_farthest():
    (invalid, near, far, middle), shown = drawn(DepthColours(), PIL.Image.fromarray(MILLIMETRES))
    assert (invalid, near, far, middle) == (GREY, NEAR, FAR, (33, 145, 140))
    assert shown == ""  # without a processor, nothing tells the unit


@pytest.mark.parametrize("values", [[[np.nan, 0.0], [0.0, np.inf]], [[np.nan, -np.inf], [0.0, 0.0]]])
def test_a_map_without_valid_values_is_grey(values):
    pixels, shown = drawn(DepthColours(DepthImageProcessor(invalid_values=[0])), np.array(values))
    assert set(pixels) == {GREY} and shown == ""


def test_a_map_of_one_value_has_one_colour():
    assert set(drawn(DepthColours(), np.full((2, 2), 5.0))[0]) == {FAR}


def test_the_metres_are_those_of_the_processor_and_of_the_call():
    processor = DepthImageProcessor(unit_scale=0.001, normalization="range", value_range=[0, 10], invalid_values=[0])
    assert drawn(DepthColours(processor), MILLIMETRES)[1] == "1.0 to 3.0 m"
    assert drawn(DepthColours(processor, {"unit_scale": 0.01}), MILLIMETRES)[1] == "10.0 to 30.0 m"
    pixels, shown = drawn(DepthColours(processor, {"invalid_values": [3000]}), MILLIMETRES)
    assert pixels[2] == GREY and shown == "0.0 to 2.0 m"
    rotated = (MILLIMETRES << 3) | (MILLIMETRES >> 13)
    assert drawn(DepthColours(processor, {"preset": "sunrgbd"}), rotated)[1] == "1.0 to 3.0 m"


def test_maps_that_are_stretched_have_no_unit():
    processor = DepthImageProcessor(normalization="minmax", invalid_values=[0])
    assert drawn(DepthColours(processor), MILLIMETRES)[1] == ""


def test_the_metres_are_on_a_sheet():
    processor = DepthImageProcessor(unit_scale=0.001, normalization="range", value_range=[0, 10])
    sections = [Section("", [Tile(MILLIMETRES, "depth", "1 · 0.5")])]
    without, within = (np.asarray(draw(sections, depth=depth)) for depth in (None, DepthColours(processor)))
    assert without.shape == within.shape
    changed = np.argwhere((without != within).any(-1))
    assert len(changed) > 500 and changed.min(0)[0] > 24 + 192 - 25  # the corner of the thumbnail
