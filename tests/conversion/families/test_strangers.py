"""Networks of no family are named where their names are well known; those of several families are all told."""

import pytest
import torch

from tests.helpers.encoder_files import ResNet
from tests.helpers.legacy_files import refusal
from tests.helpers.small_texts import SmallBert, below

BLOCK = "encoder.layer.0"
STRANGERS = {
    "a DistilBERT": ["transformer.layer.0.attention.q_lin.weight", "embeddings.word_embeddings.weight"],
    "an ALBERT": ["encoder.albert_layer_groups.0.albert_layers.0.ffn.weight", "embeddings.word_embeddings.weight"],
    "an MPNet": [
        f"{BLOCK}.attention.attn.q.weight",
        f"{BLOCK}.output.dense.weight",
        f"{BLOCK}.intermediate.dense.weight",
    ],
    "a DeBERTa": ["model.encoder.rel_embeddings.weight", "model.embeddings.word_embeddings.weight"],
    "a T5": ["encoder.block.0.layer.0.SelfAttention.q.weight"],
    "a DenseNet": ["module.features.denseblock1.denselayer1.conv1.weight"],
}


@pytest.mark.parametrize("what", STRANGERS)
def test_a_stranger_is_named(what, tmp_path):
    torch.save({"state_dict": {name: torch.ones(4, 4) for name in STRANGERS[what]}}, tmp_path / "a.pth")
    assert f"a.pth: {what}, which is no network of a known family" in refusal(tmp_path / "a.pth")


def test_a_bert_beside_another_image_tower_is_no_legacy_file(tmp_path):
    text, image = SmallBert().state_dict(), ResNet().state_dict()
    torch.save(below("text_encoder.", text) | below("visual_encoder.", image), tmp_path / "a.pth")
    line = refusal(tmp_path / "a.pth")
    assert "text_encoder (bert, " in line and "visual_encoder (resnet, " in line and "--weights PATH" in line


def test_pooling_without_a_tokenizer_would_have_no_effect(tmp_path):
    torch.save(SmallBert().state_dict(), tmp_path / "a.pth")
    assert "--pooling goes with --tokenizer" in refusal(tmp_path / "a.pth", "--pooling", "cls")
