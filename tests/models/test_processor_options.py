"""Options of the processor: each is obeyed or refused, none is dropped."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from hf_encoders import MultimodalEncoderProcessor
from tests.helpers.multimodal_models import SIZE, tiny_processor, tiny_tokenizer

TEXTS = ["red", "a red chair left of the lamp"]
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8))
MAP = np.linspace(1, 2, 1200).reshape(30, 40)
SMALL = {"height": 16, "width": 16}
INPUTS = {"text": TEXTS, "images": [IMAGE], "depth": [MAP]}


@pytest.fixture
def processor():
    return tiny_processor()


@pytest.mark.parametrize(
    "options",
    [
        {"size": SMALL},
        {"do_rescale": False},
        {"do_resize": False},
        {"do_normalize": False},
        {"resample": Image.Resampling.NEAREST},
        {"image_mean": [0.1, 0.2, 0.3]},
        {"image_std": [0.1, 0.2, 0.3]},
        {"rescale_factor": 0.5},
        {"do_center_crop": True, "crop_size": SMALL},
    ],
)
def test_an_option_of_images_is_obeyed_wherever_it_stands(processor, options):
    expected = processor.image_processor([IMAGE], return_tensors="pt", **options)["pixel_values"]
    usual = processor(images=[IMAGE])["pixel_values"]
    assert expected.shape != usual.shape or not torch.equal(expected, usual)
    for given in (options, {"images_kwargs": options}, {"common_kwargs": options}):
        for inputs in ({"images": [IMAGE]}, {"images": [IMAGE], "text": TEXTS}):
            assert torch.equal(processor(**inputs, **given)["pixel_values"], expected)


@pytest.mark.parametrize(
    "options",
    [
        {"size": SMALL},
        {"do_normalize": False},
        {"unit_scale": 0.5, "do_normalize": False},
        {"num_channels": 3},
        {"normalization": "range", "value_range": [0, 4]},
        {"invalid_values": [1.0], "invalid_fill": "max"},
    ],
)
def test_an_option_of_depth_is_obeyed_wherever_it_stands(processor, options):
    expected = processor.depth_image_processor([MAP], **options)["pixel_values"]
    usual = processor(depth=[MAP])["depth_values"]
    assert expected.shape != usual.shape or not torch.equal(expected, usual)
    for given in (options, {"depth_kwargs": options}, {"common_kwargs": options}):
        assert torch.equal(processor(depth=[MAP], **given)["depth_values"], expected)
    both = processor(images=[IMAGE], depth=[MAP], depth_kwargs=options)
    assert torch.equal(both["depth_values"], expected)
    assert torch.equal(both["pixel_values"], processor(images=[IMAGE])["pixel_values"])


@pytest.mark.parametrize(
    "options",
    [
        {"padding": "max_length"},
        {"padding": "max_length", "max_length": 5},
        {"truncation": False},
        {"max_length": 4},
        {"add_special_tokens": False},
        {"return_token_type_ids": False},
        {"padding_side": "left"},
        {"pad_to_multiple_of": 16},
    ],
)
def test_an_option_of_texts_is_obeyed_wherever_it_stands(processor, options):
    texts = [*TEXTS, "red " * 50] if {"truncation", "max_length"} & options.keys() else TEXTS
    expected = processor.tokenizer(texts, **{"padding": True, "truncation": True, "return_tensors": "pt", **options})
    usual = processor(text=texts)
    assert usual.keys() != expected.keys() or usual["input_ids"].tolist() != expected["input_ids"].tolist()
    for given in (options, {"text_kwargs": options}, {"common_kwargs": options}):
        for inputs in ({"text": texts}, {"text": texts, "images": [IMAGE], "depth": [MAP]}):
            found = processor(**inputs, **given)
            assert found["input_ids"].tolist() == expected["input_ids"].tolist()
            assert found.keys() - {"pixel_values", "depth_values"} == expected.keys()


def test_common_options_are_for_all_that_have_them(processor):
    found = processor(**INPUTS, common_kwargs={"size": SMALL, "return_tensors": "np"})
    assert found["pixel_values"].shape == (1, 3, 16, 16) and found["depth_values"].shape == (1, 1, 16, 16)
    assert {type(values) for values in found.values()} == {np.ndarray}


@pytest.mark.parametrize(
    "options",
    [
        {"nonsense": 3},
        {"text_kwargs": {"nonsense": 3}},
        {"images_kwargs": {"nonsense": 3}},
        {"depth_kwargs": {"nonsense": 3}},
        {"common_kwargs": {"nonsense": 3}},
        {"images_kwargs": {"unit_scale": 1}},
        {"depth_kwargs": {"image_mean": [0.5]}},
        {"text_kwargs": {"size": SMALL}},
        {"videos": [IMAGE]},
        {"fps": 3},
        {"return_mm_token_type_ids": True},  # these have no effect on what this processor makes
        {"images_kwargs": {"input_data_format": "channels_first"}},
        {"data_format": "channels_last"},
        {"images_kwargs": 3},
    ],
)
def test_an_unknown_option_is_refused(processor, options):
    with pytest.raises(TypeError, match="|".join([*options, "nonsense", "option"])):
        processor(**INPUTS, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": SMALL}, "size fits images and depth: give it in images_kwargs or depth_kwargs"),
        ({"do_rescale": False}, "do_rescale fits images and depth"),
        ({"crop_size": SMALL, "images_kwargs": {"crop_size": SMALL}}, "twice: by itself and in images_kwargs"),
        ({"padding": True, "text_kwargs": {"padding": True}}, "padding is given twice"),
        ({"unit_scale": 1, "depth_kwargs": {"unit_scale": 1}}, "unit_scale is given twice"),
        ({"common_kwargs": {"size": SMALL}, "images_kwargs": {"size": SMALL}}, "size is given twice: in common_kwargs"),
        ({"return_tensors": "pt", "common_kwargs": {"return_tensors": "np"}}, "return_tensors is given twice"),
        ({"videos_kwargs": {"fps": 3}}, "no part for videos that takes fps"),
        ({"images_kwargs": {"do_rescale": "perhaps"}}, "do_rescale"),
        ({"images_kwargs": {"do_convert_rgb": False}}, "always read as RGB"),
        ({"depth_kwargs": {"unit_scale": -1}}, "unit_scale must be a positive number"),
        ({"crop_size": SMALL}, "crop_size has no effect without do_center_crop"),
        ({"images_kwargs": {"do_resize": False, "size": SMALL}}, "size has no effect without do_resize"),
        ({"depth_kwargs": {"do_rescale": False, "unit_scale": 2}}, "unit_scale has no effect without do_rescale"),
        ({"max_length": 3, "truncation": False}, "max_length has no effect"),
        ({"max_length": -3}, "max_length is -3, expected at least 1"),
        ({"text_kwargs": {"padding": "all"}}, "all is not a valid PaddingStrategy"),
        ({"add_special_tokens": 3.5}, "add_special_tokens"),
    ],
)
def test_an_option_that_cannot_be_obeyed_is_refused(processor, options, message):
    with pytest.raises(ValueError, match=message):
        processor(**INPUTS, **options)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (
            {"text": TEXTS},
            {"size": SMALL},
            "size is an option of images and depth, and the call has no images or depth",
        ),
        ({"text": TEXTS}, {"common_kwargs": {"do_rescale": False}}, "do_rescale is an option of images and depth"),
        ({"images": IMAGE}, {"padding": "max_length"}, "padding is an option of text"),
        ({"images": IMAGE}, {"unit_scale": 1}, "unit_scale is an option of depth"),
        ({"images": IMAGE}, {"depth_kwargs": {"unit_scale": 1}}, "depth_kwargs without depth: unit_scale"),
    ],
)
def test_an_option_of_a_modality_that_is_not_given_is_refused(processor, inputs, options, message):
    with pytest.raises(ValueError, match=message):
        processor(**inputs, **options)


def test_options_for_the_images_of_other_calls_are_warned_about(processor):
    with pytest.warns(UserWarning, match="images_kwargs without images: size would have no effect"):
        processor(text=TEXTS, images_kwargs={"size": SMALL})


def test_options_for_a_part_that_is_absent_are_refused(processor):
    processor = MultimodalEncoderProcessor(tokenizer=processor.tokenizer)
    for options in ({"images_kwargs": {"size": SMALL}}, {"depth_kwargs": {"unit_scale": 1}}):
        with pytest.raises(ValueError, match="this processor has no part for"):
            processor(text=TEXTS, **options)
    for options in ({"size": SMALL}, {"unit_scale": 1}, {"common_kwargs": {"unit_scale": 1}}):
        with pytest.raises(TypeError, match="no option (size|unit_scale) .it has parts for text"):
            processor(text=TEXTS, **options)


def test_what_sentence_transformers_gives_in_every_call_is_taken(processor):
    with warnings.catch_warnings(action="error"):
        found = processor(
            images=[IMAGE],
            text_kwargs={"padding": True, "truncation": "longest_first", "max_length": 8},
            images_kwargs={},
            audio_kwargs={"padding": True},
            videos_kwargs={},
            common_kwargs={"return_tensors": "pt"},
        )
    assert set(found) == {"pixel_values"}


def test_the_tokenizers_saved_padding_holds_unless_the_call_says_otherwise(tmp_path):
    processor = tiny_processor()
    processor.tokenizer = tiny_tokenizer(padding="max_length", max_length=9, padding_side="left")
    processor.save_pretrained(tmp_path)
    for each in (processor, MultimodalEncoderProcessor.from_pretrained(tmp_path)):
        assert each(text="red")["attention_mask"].tolist() == [[0] * 6 + [1] * 3]
        assert each(text="red", images=IMAGE)["input_ids"].shape == (1, 9)
        assert each(text="red", padding=True, padding_side="right")["input_ids"].shape == (1, 3)


def test_the_options_of_the_last_call_are_not_saved(tmp_path):
    processor = tiny_processor()
    usual = processor(text=TEXTS)["input_ids"].tolist()
    processor(text=TEXTS, max_length=8, padding_side="left", pad_to_multiple_of=8)
    processor.save_pretrained(tmp_path)
    loaded = MultimodalEncoderProcessor.from_pretrained(tmp_path)
    assert loaded(text=TEXTS)["input_ids"].tolist() == processor(text=TEXTS)["input_ids"].tolist() == usual


def test_a_length_in_tokenizer_json_cuts_no_texts():
    processor = tiny_processor()
    processor.tokenizer = tiny_tokenizer(max_length=4)  # as transformers reads what another program's last call left
    assert processor(text=TEXTS[1])["input_ids"].shape == (1, 9)


def test_settings_of_every_part_can_be_changed_at_loading(tmp_path):
    tiny_processor().save_pretrained(tmp_path)
    loaded = MultimodalEncoderProcessor.from_pretrained(tmp_path, do_normalize=False, unit_scale=0.5)
    assert not loaded.image_processor.do_normalize and not loaded.depth_image_processor.do_normalize
    assert loaded.depth_image_processor.unit_scale == 0.5


PIXELS = np.asarray(IMAGE)


@pytest.mark.parametrize(
    "images",
    [
        [[IMAGE], [IMAGE]],
        [[], [IMAGE], [IMAGE]],
        ([IMAGE, IMAGE],),
        [[PIXELS], [PIXELS]],
        [np.stack([PIXELS, PIXELS])],
        np.stack([PIXELS, PIXELS]),
        [[torch.from_numpy(PIXELS.copy())], [torch.from_numpy(PIXELS.copy())]],
        [torch.from_numpy(np.stack([PIXELS, PIXELS])).movedim(-1, 1)],
        (image for image in (IMAGE, IMAGE)),
    ],
)
def test_nested_images_become_flat(processor, images):
    expected = processor(images=IMAGE)["pixel_values"]
    assert torch.equal(processor(images=images)["pixel_values"], expected.expand(2, -1, -1, -1))


def test_tensors_are_pytorchs_unless_asked_otherwise(processor):
    assert {type(values) for values in processor(**INPUTS).values()} == {torch.Tensor}
    assert {type(values) for values in processor(**INPUTS, return_tensors="np").values()} == {np.ndarray}
    lists = processor(text=TEXTS, images=[IMAGE], return_tensors=None)
    assert {type(values) for values in lists.values()} == {list}


def test_the_mask_of_depth_maps_is_returned_on_request(processor):
    depth = MAP.copy()
    depth[:10] = 0
    found = processor(images=[IMAGE], depth=[depth], return_mask=True)
    mask = processor.depth_image_processor([depth], return_mask=True)["pixel_mask"]
    assert torch.equal(found["depth_mask"], mask) and found["depth_mask"].shape == (1, SIZE, SIZE)


def test_an_image_processor_with_names_of_its_own_takes_them(processor):
    class Old:  # such as remote code has, of before transformers 5
        def preprocess(self, images, sharpness=0, return_tensors=None): ...

    from hf_encoders.models.processor_options import option_names

    assert option_names(Old()) == {"sharpness", "return_tensors"}
