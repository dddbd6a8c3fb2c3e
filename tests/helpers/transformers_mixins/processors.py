"""Transformers' tests of processors, on `MultimodalEncoderProcessor` with all its parts, and without depth."""

import unittest

from transformers import BertTokenizer, ViTImageProcessorPil

from hf_encoders import DepthImageProcessor, MultimodalEncoderProcessor
from tests.helpers.multimodal_models import SPECIAL
from tests.helpers.transformers_mixins import NOT_APPLICABLE, leaving_out, theirs

# The tests' texts, in letters.
VOCABULARY = [*SPECIAL, *"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")]


class WholeProcessor(theirs("test_processing_common").ProcessorTesterMixin):
    processor_class = MultimodalEncoderProcessor

    @classmethod
    def _setup_tokenizer(cls):
        return BertTokenizer(vocab={token: index for index, token in enumerate(VOCABULARY)})

    @classmethod
    def _setup_image_processor(cls):
        return ViTImageProcessorPil()

    @classmethod
    def _setup_depth_image_processor(cls):
        return DepthImageProcessor(size=32)

    def get_component(self, attribute, use_tiny_ckpt=True, **kwargs):
        if attribute == "depth_image_processor":  # saved in processor_config.json alone
            return MultimodalEncoderProcessor.from_pretrained(self.tmpdirname).depth_image_processor
        return super().get_component(attribute, use_tiny_ckpt, **kwargs)


class MultimodalEncoderProcessorTest(
    leaving_out(NOT_APPLICABLE["MultimodalEncoderProcessor"]), WholeProcessor, unittest.TestCase
):
    pass


class WithoutDepthTest(
    leaving_out(NOT_APPLICABLE["MultimodalEncoderProcessor without depth"]), WholeProcessor, unittest.TestCase
):
    @classmethod
    def _setup_depth_image_processor(cls):
        return None
