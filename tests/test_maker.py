"""What made embeddings: any change of the model that changes them is seen, and named."""

import pytest
import torch
from transformers import AutoModel

from hf_encoders.maker import differences, maker
from tests.helpers.multimodal_models import tiny_model


def new_token_row(model):
    with torch.no_grad():
        model.text_encoder.get_input_embeddings().weight[7, 0] += 1


def other_pooling(model):
    model.config.text_pooling = "mean" if model.config.text_pooling == "cls" else "cls"


def other_casing(model):
    tokenizer = model.text_tokenizer.backend_tokenizer
    tokenizer.normalizer = type(tokenizer.normalizer)(lowercase=False)


def other_size(model):
    model.processor.image_processor.image_mean = [0.1, 0.2, 0.3]


def other_units(model):
    model.processor.depth_image_processor.unit_scale = 0.5


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (new_token_row, ["weights"]),
        (other_pooling, ["configuration"]),
        (other_casing, ["text processor"]),
        (other_size, ["image processor"]),
        (other_units, ["depth processor"]),
    ],
)
def test_a_change_is_named(change, names):
    model = tiny_model()
    before = maker(model)
    model.encode_text(["a red chair", "a lamp"])  # leaves padding in the tokenizer
    assert maker(model) == before
    change(model)
    assert differences(before, maker(model)) == names


def test_it_survives_saving(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    assert differences(maker(model), maker(AutoModel.from_pretrained(tmp_path))) == []


def test_the_active_adapter_counts():
    pytest.importorskip("peft")
    from peft import LoraConfig

    model = tiny_model()
    for name in ("first", "second"):
        model.add_adapter(LoraConfig(r=2, target_modules=["query", "value"], init_lora_weights=False), name)
    model.set_adapter("first")
    before = maker(model)
    model.set_adapter("second")
    assert differences(before, maker(model)) == ["active adapters"]
    model.set_adapter("first")
    assert maker(model) == before


def test_a_revision_counts_where_both_know_it():
    known, other, unknown = ({"fingerprint": "x", "revision": revision} for revision in ("a", "b", None))
    assert differences(known, other) == ["revision a, now b"]
    assert differences(known, unknown) == []
