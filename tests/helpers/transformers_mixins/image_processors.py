"""Transformers' tests of image processors, on `DepthImageProcessor`."""

import unittest

from PIL import Image

from hf_encoders import DepthImageProcessor
from tests.helpers.transformers_mixins import NOT_APPLICABLE, leaving_out, theirs

common = theirs("test_image_processing_common")


class DepthImageProcessingTester(common.ImageProcessingTester):
    def __init__(self, parent, **kwargs):
        super().__init__(parent, num_channels=1, size={"height": 18, "width": 18}, **kwargs)

    def _get_image_processing_classes(self):
        return {"torchvision": DepthImageProcessor}  # transformers' name of the backend that computes with tensors

    def prepare_image_inputs(self, numpify=False, torchify=False, **kwargs):
        maps = super().prepare_image_inputs(numpify=not torchify, torchify=torchify, **kwargs)
        if torchify:
            return maps
        maps = [each[..., 0] for each in maps]  # Pillow has no images of one channel in three dimensions
        return maps if numpify else [Image.fromarray(each) for each in maps]


class DepthImageProcessorTest(
    leaving_out(NOT_APPLICABLE["DepthImageProcessor"]), common.ImageProcessingTestMixin, unittest.TestCase
):
    image_processor_tester_class = DepthImageProcessingTester
