"""Masked copies: the boxes, and nothing else, are black."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from hf_encoders.training.multimodal.masked_images import paint_boxes
from tests.conftest import DATA


def painted(boxes, width=10, height=8):
    """Where a white tensor and a white picture became black; both must agree."""
    image = torch.ones(3, height, width)
    tensor = paint_boxes(image, boxes) == 0
    picture = np.asarray(paint_boxes(Image.new("RGB", (width, height), "white"), boxes)) == 0
    assert image.all() and np.array_equal(tensor.permute(1, 2, 0).numpy(), picture)
    assert tensor.all(0).equal(tensor.any(0))
    return tensor[0]


def test_the_legacy_masked_copies():
    batch = load_file(DATA / "multimodal_resume_expected.safetensors")
    for image, masked in zip(batch["batch.pixel_values"], batch["batch.masked_pixel_values"], strict=True):
        assert torch.equal(paint_boxes(image, [[0.25, 0.25, 0.75, 0.75]], black=-1), masked)
        assert torch.equal(paint_boxes(image, [[8, 8, 24, 24]], black=[-1, -1, -1]), masked)


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ([2, 1, 5, 3], slice(1, 3), slice(2, 5)),
        ([0.2, 0.125, 0.7, 0.5], slice(1, 4), slice(2, 7)),  # 0.7 * 10 is a little more than 7
        ([2.9, 1.5, 3.1, 1.6], slice(1, 2), slice(2, 4)),  # every pixel that it touches
        ([-0.5, 0, 0.1, 1], slice(0, 8), slice(0, 1)),
        ([7, -3, 99, 2], slice(0, 2), slice(7, 10)),
        ([0, 0, 1, 1], slice(0, 8), slice(0, 10)),
    ],
)
def test_where_boxes_are(box, rows, columns):
    expected = torch.zeros(8, 10, dtype=torch.bool)
    expected[rows, columns] = True
    assert torch.equal(painted([box]), expected)


def test_at_most_fifteen_boxes():
    boxes = [[x, y, x + 1, y + 1] for y in (1, 3) for x in range(1, 10)]
    assert painted(boxes).sum() == 15 and torch.equal(painted(boxes), painted(boxes[:15]))


def test_black_of_other_images():
    for mode in ("L", "P", "RGBA", "I;16", "CMYK"):
        copy = paint_boxes(Image.new(mode, (4, 4)), [[0, 0, 2, 2]])
        assert copy.mode == "RGB" and copy.getpixel((1, 1)) == (0, 0, 0)
    copy = paint_boxes(torch.zeros(2, 4, 4), [[0, 0, 2, 2]], black=[3, 4])
    assert copy[:, 0, 0].tolist() == [3, 4] and copy[:, 2, 2].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([], "no boxes: the masked copy would be the image itself"),
        ([[0, 0, 2, 2], [1, 2, 3]], r"box 1 is \[1, 2, 3\], expected four finite numbers"),
        ([["a", 0, 1, 1]], "expected four finite numbers"),
        ([5], "box 0 is 5, expected four finite numbers"),
        ([[0, 0, float("nan"), 1]], "expected four finite numbers"),
        ([[3, 0, 3, 5]], "expected x1 < x2 and y1 < y2"),
        ([[20, 2, 30, 5]], r"outside of the image, which is 10 x 8 pixels"),
    ],
)
def test_bad_boxes(boxes, message):
    with pytest.raises(ValueError, match=message):
        painted(boxes)


def test_what_is_no_image():
    with pytest.raises(ValueError, match=r"pixels are \[2, 2\], expected \[C, H, W\]"):
        paint_boxes(torch.zeros(2, 2), [[0, 0, 1, 1]])
    with pytest.raises(TypeError, match="expected a PIL image or a tensor, got str"):
        paint_boxes("a.png", [[0, 0, 1, 1]])
