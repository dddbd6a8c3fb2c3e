"""Transformers' tests of models, on tiny ones of ours."""

import unittest

import torch
from transformers import BertConfig, ViTConfig

from hf_encoders import (
    DepthAutoencoderModel,
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderForImageClassification,
    DepthSemanticEncoderModel,
    MultimodalEncoderConfig,
    MultimodalEncoderModel,
)
from tests.conftest import TINY
from tests.helpers.multimodal_models import LENGTH, SIZE, TEXT, TRANSFORMER
from tests.helpers.transformers_mixins import NOT_APPLICABLE, leaving_out, theirs

BATCH = 3


class DepthTester:
    """What the tests ask of a model's tester: a configuration, inputs, and how many hidden states there are."""

    batch_size = BATCH
    num_hidden_layers, expected_num_hidden_layers = 1, 5
    seq_length = hidden_size = 16  # where a transformer has these, the first feature map has its sides
    is_training = True

    def __init__(self, parent):
        self.parent = parent

    def get_config(self):
        sizes = {"image_size": 64, "decoder_hidden_sizes": [8, 4, 4, 2]}  # so that reconstructions have a side of 64
        return DepthSemanticEncoderConfig(**TINY | sizes, num_labels=3)

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {"pixel_values": torch.rand(BATCH, 1, 64, 64) * 2 - 1}


class EncoderTester(DepthTester):
    is_training = False  # it has no loss of its own


class MultimodalTester(DepthTester):
    num_hidden_layers, expected_num_hidden_layers = 2, 3
    seq_length = LENGTH

    def get_config(self):
        return MultimodalEncoderConfig(
            text_config=BertConfig(**TRANSFORMER, **TEXT),
            vision_config=ViTConfig(**TRANSFORMER, image_size=SIZE, patch_size=8),
            depth_config=DepthSemanticEncoderConfig(**TINY | {"image_size": SIZE}),
            projection_dim=8,
        )

    def prepare_config_and_inputs_for_common(self):
        return self.get_config(), {
            "input_ids": torch.randint(5, TEXT["vocab_size"], (BATCH, LENGTH)),
            "attention_mask": torch.ones(BATCH, LENGTH, dtype=torch.long),
            "pixel_values": torch.rand(BATCH, 3, SIZE, SIZE) * 2 - 1,
            "depth_values": torch.rand(BATCH, 1, SIZE, SIZE) * 2 - 1,
        }


class OurModel(theirs("test_modeling_common").ModelTesterMixin):
    kind_of_tester = DepthTester
    has_attentions = test_resize_embeddings = False
    labels = {}

    def setUp(self):
        self.model_tester = self.kind_of_tester(self)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        """Ask for the loss where the tests expect one: the mixin knows the names of transformers' classes alone."""
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels)
        return inputs | (self.labels if return_labels else {})


class DepthSemanticEncoderModelTest(leaving_out(NOT_APPLICABLE["depth models"]), OurModel, unittest.TestCase):
    all_model_classes = (DepthSemanticEncoderModel,)
    kind_of_tester = EncoderTester


class DepthSemanticEncoderForImageClassificationTest(
    leaving_out(NOT_APPLICABLE["depth models"]), OurModel, unittest.TestCase
):
    all_model_classes = (DepthSemanticEncoderForImageClassification,)
    labels = {"labels": torch.zeros(BATCH, dtype=torch.long)}


class DepthAutoencoderModelTest(leaving_out(NOT_APPLICABLE["depth models"]), OurModel, unittest.TestCase):
    all_model_classes = (DepthAutoencoderModel,)
    labels = {"return_loss": True}


class MultimodalEncoderModelTest(leaving_out(NOT_APPLICABLE["MultimodalEncoderModel"]), OurModel, unittest.TestCase):
    all_model_classes = (MultimodalEncoderModel,)
    kind_of_tester = MultimodalTester
    labels = {"return_loss": True}
    has_attentions = test_resize_embeddings = _is_composite = True
    additional_model_inputs = ["pixel_values", "depth_values"]
