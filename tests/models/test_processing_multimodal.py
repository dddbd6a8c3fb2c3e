"""The processor: three kinds of input in one call, any part absent, saved and loaded."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

from hf_encoders import MultimodalEncoderProcessor
from tests.helpers.multimodal_models import LENGTH, SIZE, tiny_model, tiny_processor, tiny_tokenizer

TEXTS = ["a red chair", "the lamp left of the table"]
IMAGE = Image.fromarray(np.arange(30 * 40 * 3, dtype=np.uint8).reshape(30, 40, 3))
MAP = np.linspace(1, 2, 1200).reshape(30, 40)


def test_one_call_for_everything():
    processor = tiny_processor()
    inputs = processor(text=TEXTS, images=[IMAGE, IMAGE], depth=[MAP, MAP])
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (2, 8)
    assert inputs["pixel_values"].shape == (2, 3, SIZE, SIZE)
    assert inputs["depth_values"].shape == (2, 1, SIZE, SIZE)
    assert torch.equal(
        inputs["pixel_values"], processor.image_processor(IMAGE, return_tensors="pt").pixel_values.expand(2, -1, -1, -1)
    )
    assert torch.equal(inputs["depth_values"][:1], processor.depth_image_processor(MAP)["pixel_values"])
    assert inputs["input_ids"].tolist() == processor.tokenizer(TEXTS, padding=True)["input_ids"]
    assert set(inputs) == set(processor.model_input_names)
    outputs = tiny_model()(**inputs.to("cpu"))
    assert outputs.logits_per_image.shape == outputs.logits_per_depth_image.shape == (2, 2)


def test_texts_are_cut_at_the_limit_unless_told_otherwise():
    processor = tiny_processor()
    assert processor(text="red " * 50)["input_ids"].shape == (1, LENGTH)
    assert processor(text="red " * 50, truncation=False)["input_ids"].shape == (1, 52)
    assert processor(text="red", padding="max_length")["input_ids"].shape == (1, LENGTH)
    assert isinstance(processor(text="red", return_tensors="np")["input_ids"], np.ndarray)


@pytest.mark.parametrize(
    "absent",
    [set(), {"tokenizer"}, {"image_processor"}, {"depth_image_processor"}, {"tokenizer", "depth_image_processor"}],
)
def test_save_and_load(absent, tmp_path):
    whole = tiny_processor()
    names = MultimodalEncoderProcessor.get_attributes()
    processor = MultimodalEncoderProcessor(**{n: None if n in absent else getattr(whole, n) for n in names})
    model = tiny_model()
    model.processor = processor
    model.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is MultimodalEncoderProcessor
    assert {name for name in names if getattr(loaded, name) is None} == absent
    if "tokenizer" not in absent:
        assert loaded(text=TEXTS)["input_ids"].tolist() == whole(text=TEXTS)["input_ids"].tolist()
        assert AutoTokenizer.from_pretrained(tmp_path)(TEXTS)["input_ids"] == whole.tokenizer(TEXTS)["input_ids"]
    if "image_processor" not in absent:
        assert torch.equal(loaded(images=IMAGE)["pixel_values"], whole(images=IMAGE)["pixel_values"])
        again = AutoImageProcessor.from_pretrained(tmp_path)
        assert torch.equal(again(IMAGE, return_tensors="pt")["pixel_values"], whole(images=IMAGE)["pixel_values"])
    if "depth_image_processor" not in absent:
        assert loaded.depth_image_processor.to_dict() == whole.depth_image_processor.to_dict()
    loaded.save_pretrained(tmp_path / "again")
    assert AutoProcessor.from_pretrained(tmp_path / "again").to_dict() == loaded.to_dict()


@pytest.mark.parametrize(
    ("name", "kind"), [("tokenizer", "text"), ("image_processor", "images"), ("depth_image_processor", "depth")]
)
def test_an_absent_part_is_asked_for_when_it_is_needed(name, kind):
    given = {"text": TEXTS, "images": IMAGE, "depth": MAP}
    with pytest.raises(ValueError, match=f"there is no {name} beside the weights: set model.processor.{name}"):
        MultimodalEncoderProcessor()(**{kind: given[kind]})


def test_the_part_can_be_given_later():
    model = tiny_model()
    expected = model.encode_text(TEXTS)
    model.processor = MultimodalEncoderProcessor(image_processor=tiny_processor().image_processor)
    with pytest.raises(ValueError, match="set model.processor.tokenizer"):
        model.encode_text(TEXTS)
    model.processor.tokenizer = tiny_tokenizer()
    assert torch.equal(model.encode_text(TEXTS), expected)


def test_errors():
    with pytest.raises(ValueError, match="give text, images or depth"):
        tiny_processor()()
    with pytest.raises(TypeError, match="tokenizer"):
        MultimodalEncoderProcessor(tokenizer="bert-base-uncased")
