"""transformers' pipelines: its own for images, ours for depth maps, and what each of them refuses."""

import re
import warnings

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoImageProcessor, ViTImageProcessorPil, pipeline
from transformers.image_utils import load_image
from transformers.pipelines.pt_utils import KeyDataset

from hf_encoders import (
    DepthImageProcessor,
    DepthRangeWarning,
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderForImageClassification,
)
from hf_encoders.zero_shot import ZeroShotClassifier
from tests.conftest import TINY
from tests.helpers.calibrations import TEMPLATES, calibrate
from tests.helpers.multimodal_models import tiny_model

pytestmark = pytest.mark.numeric

LABELS = ["chair", "a large red chair", "lamp"]
FEATURES, ZERO_SHOT = "depth-feature-extraction", "depth-zero-shot-classification"


@pytest.fixture
def repo(tiny_multimodal, tmp_path):
    tiny_multimodal.save_pretrained(tmp_path / "multimodal")
    return str(tmp_path / "multimodal")


@pytest.fixture
def depth_repo(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path / "depth")
    return str(tmp_path / "depth")


@pytest.fixture
def pictures():
    return [Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)) for seed in range(3)]


@pytest.fixture
def depth_files(tmp_path):
    """Three maps in millimetres, of which 8 bits hold nothing: all is above 255."""
    paths = [str(tmp_path / f"map{seed}.png") for seed in range(3)]
    for seed, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(seed).integers(1000, 60000, (40, 48), np.uint16)).save(path)
    return paths


def close(one, other):
    torch.testing.assert_close(torch.as_tensor(one), torch.as_tensor(other), rtol=1e-4, atol=1e-5)


# Images, by transformers' own pipelines


@pytest.mark.parametrize("batch_size", [1, 2])
def test_image_features(repo, tiny_multimodal, pictures, tmp_path, batch_size):
    pictures[0].save(tmp_path / "picture.png")
    pipe = pipeline("image-feature-extraction", model=repo, batch_size=batch_size)
    features = torch.cat(
        pipe([str(tmp_path / "picture.png"), pictures[1], pictures[2]], pool=True, return_tensors=True)
    )
    close(torch.nn.functional.normalize(features), tiny_multimodal.encode_image(pictures))
    inputs = tiny_multimodal.processor(images=pictures)
    with torch.no_grad():
        outputs = tiny_multimodal.get_image_features(**inputs)
    close(features, outputs.pooler_output)
    close(pipe(pictures[0]), outputs.last_hidden_state[:1])


def test_text_features(repo, tiny_multimodal):
    with torch.no_grad():
        expected = tiny_multimodal.get_text_features(**tiny_multimodal.processor(text="a red chair"))
    close(pipeline("feature-extraction", model=repo)("a red chair"), expected.last_hidden_state)


def test_one_modality_alone_has_the_outputs_of_a_model_of_one_tower(tiny_multimodal, pictures):
    processed = tiny_multimodal.processor(images=pictures, text=LABELS)
    both = tiny_multimodal(**processed)
    assert both.pooler_output is None and both.last_hidden_state is None
    alone = tiny_multimodal(pixel_values=processed["pixel_values"], return_dict=False)
    assert alone[0].shape == (3, 17, 32) and alone[1].shape == (3, 8)


def test_zero_shot_of_images(repo, tiny_multimodal, pictures, tmp_path):
    pictures[0].save(tmp_path / "picture.png")
    pipe = pipeline("zero-shot-image-classification", model=repo)
    options = {"candidate_labels": LABELS, "hypothesis_template": "a photo of a {}."}
    (first, second) = pipe([str(tmp_path / "picture.png"), pictures[1]], batch_size=2, **options)
    assert pipe(pictures[1], **options) == [one | {"score": pytest.approx(one["score"], rel=1e-4)} for one in second]
    texts = [f"a photo of a {label}." for label in LABELS]
    with torch.no_grad():
        logits = tiny_multimodal(**tiny_multimodal.processor(images=pictures[:2], text=texts)).logits_per_image
    for answers, scores in zip((first, second), logits.softmax(-1).tolist(), strict=True):
        assert {one["label"]: pytest.approx(one["score"], rel=1e-4) for one in answers} == dict(
            zip(LABELS, scores, strict=True)
        )
    streamed = list(pipe(KeyDataset(Dataset.from_dict({"image": pictures}), "image"), batch_size=2, **options))
    assert [answers[0]["label"] for answers in streamed[:2]] == [first[0]["label"], second[0]["label"]]


# Depth maps, by ours


def models(kind, repo, depth_repo, tiny_multimodal, tiny_encoder):
    """What the pipeline is given, and what its features must equal."""
    by_encode = tiny_encoder.encode
    if kind == "classifier":
        model = DepthSemanticEncoderForImageClassification(DepthSemanticEncoderConfig(**TINY)).eval()
        return model, model.encoder.encode
    return {
        "multimodal repo": (repo, tiny_multimodal.encode_depth),
        "multimodal model": (tiny_multimodal, tiny_multimodal.encode_depth),
        "its tower": (tiny_multimodal.depth_encoder, tiny_multimodal.depth_encoder.encode),
        "depth repo": (depth_repo, by_encode),
        "depth model": (tiny_encoder, by_encode),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["multimodal repo", "multimodal model", "its tower", "depth repo", "depth model", "classifier"]
)
def test_depth_features(kind, repo, depth_repo, tiny_multimodal, tiny_encoder, depth_files):
    model, encode = models(kind, repo, depth_repo, tiny_multimodal, tiny_encoder)
    pipe = pipeline(FEATURES, model=model)
    expected = encode(depth_files, normalize=False)
    close(torch.cat(pipe(depth_files, pool=True, return_tensors=True)), expected)
    close(pipe(depth_files[0], pool=True), expected[:1])
    hidden = pipe(depth_files[0], return_tensors=True)
    assert hidden.ndim == 4 and hidden.shape[1] == 16


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_whatever_maps_come_as(tiny_encoder, depth_files, batch_size):
    pipe = pipeline(FEATURES, model=tiny_encoder, batch_size=batch_size, pool=True, return_tensors=True)
    expected = tiny_encoder.encode(depth_files)
    pictures = [Image.open(path) for path in depth_files]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    columns = Dataset.from_dict({"depth": pictures})
    many = {
        "paths": depth_files, "pictures": tuple(pictures), "array": arrays, "arrays": list(arrays),
        "metres": arrays / 1000, "tensor": torch.from_numpy(arrays.astype(np.float32)), "column": columns["depth"],
    }  # fmt: skip
    for name, inputs in many.items():
        results = pipe(inputs)
        assert type(results) is list and len(results) == 3, name
        close(torch.cat(results), expected)
    for inputs in (KeyDataset(columns, "depth"), (path for path in depth_files), dict.fromkeys(depth_files).keys()):
        results = pipe(inputs)
        assert type(results) is not list
        close(torch.cat(list(results)), expected)
    for inputs in (depth_files[0], pictures[0], arrays[0]):
        close(pipe(inputs), expected[:1])
    assert pipe([]) == []


def test_settings_of_one_call(tiny_encoder, depth_files):
    settings = {"normalization": "range", "value_range": [0, 10], "unit_scale": 0.001}
    pipe = pipeline(FEATURES, model=tiny_encoder)
    tiny_encoder.processor = DepthImageProcessor(**settings)
    close(pipe(depth_files[0], pool=True, image_processor_kwargs=settings), tiny_encoder.encode(depth_files[0]))


def test_depth_zero_shot_with_a_calibrated_threshold(tiny_multimodal, depth_files):
    model = calibrate(tiny_multimodal, thresholds=((1, 1.0),), modalities=["depth"])
    pipe = pipeline(ZERO_SHOT, model=model)
    classifier = ZeroShotClassifier(model, LABELS, TEMPLATES)
    for threshold, is_none in ((1.0, True), (-1.0, False)):
        model.config.zero_shot_calibration["modalities"]["depth"]["measured"]["1"]["threshold"] = threshold
        answers = pipe(depth_files[0], LABELS, threshold="calibrated")  # in the prompts of the calibration
        assert (answers[0]["label"] is None) == is_none
        (expected, *_) = classifier.classify(depth_files[0], "depth")[0]
        assert answers[0]["similarity"] == pytest.approx(expected["similarity"], abs=1e-5)
    with pytest.raises(ValueError, match="calibrated with the templates 'a {}', 'the {}', not 'the {}': give those"):
        pipe(depth_files[0], LABELS, hypothesis_template="the {}", threshold="calibrated")
    model.config.zero_shot_calibration = None
    with pytest.raises(ValueError, match="the model has no calibration"):
        pipe(depth_files[0], LABELS, threshold="calibrated")


def test_depth_zero_shot(repo, tiny_multimodal, depth_files):
    pipe = pipeline(ZERO_SHOT, model=repo)
    expected = ZeroShotClassifier(tiny_multimodal, LABELS, "the {}").classify(depth_files, "depth")
    results = pipe(depth_files, candidate_labels=LABELS, hypothesis_template="the {}", batch_size=2)
    for answers, others in zip(results, expected, strict=True):
        near = {"rel": 1e-4, "abs": 1e-6}
        assert answers == [
            {name: value if name == "label" else pytest.approx(value, **near) for name, value in one.items()}
            for one in others
        ]
    (scores,) = tiny_multimodal(
        **tiny_multimodal.processor(text=[f"a photo of a {label}." for label in LABELS], depth=depth_files[0])
    ).logits_per_depth.softmax(-1)
    answers = pipe(depth_files[0], LABELS)
    assert {one["label"]: one["score"] for one in answers} == pytest.approx(
        dict(zip(LABELS, scores.tolist(), strict=True)), rel=1e-4
    )
    assert [one["score"] for one in answers] == sorted((one["score"] for one in answers), reverse=True)
    assert pipe(depth_files[0], LABELS, threshold=answers[0]["similarity"] - 0.01) == answers
    (none,) = pipe(depth_files[0], LABELS, threshold=min(1.0, answers[0]["similarity"] + 0.01))
    assert none == answers[0] | {"label": None}
    with pytest.raises(ValueError, match="threshold is a cosine, from -1 to 1, or 'calibrated', got 2"):
        pipe(depth_files[0], LABELS, threshold=2)


@pytest.mark.parametrize("dtype", ["float16", torch.bfloat16])
def test_half_precision(repo, tiny_multimodal, depth_files, pictures, dtype):
    options = {"model": repo, "dtype": dtype, "device": "cpu"}
    pipe = pipeline(FEATURES, **options)
    features = pipe(depth_files[0], pool=True, return_tensors=True)
    assert features.dtype == pipe.dtype == getattr(torch, str(dtype).removeprefix("torch."))
    exact = tiny_multimodal.encode_depth(depth_files[0])
    assert torch.nn.functional.cosine_similarity(features.float(), exact).item() > 0.99
    (best, *_) = pipeline(ZERO_SHOT, **options)(depth_files[0], LABELS)
    exact_best = pipeline(ZERO_SHOT, model=tiny_multimodal)(depth_files[0], LABELS)[0]
    assert best["score"] == pytest.approx(exact_best["score"], abs=0.05)
    images = torch.tensor(pipeline("image-feature-extraction", **options)(pictures[0], pool=True))
    assert torch.nn.functional.cosine_similarity(images, tiny_multimodal.encode_image(pictures[0])).item() > 0.99


# Processors, and saving


def test_a_processor_in_the_place_of_that_beside_the_weights(repo, depth_repo, depth_files):
    other = DepthImageProcessor(size=48, invalid_fill="max")
    for source in (repo, depth_repo):
        pipe = pipeline(FEATURES, model=source, image_processor=other)
        assert pipe.image_processor is other
        assert pipe.preprocess((0, depth_files[0]))["pixel_values"].shape == (1, 1, 48, 48)
    processor = tiny_model().processor
    assert pipeline(FEATURES, model=repo, processor=processor).image_processor is processor.depth_image_processor


@pytest.mark.parametrize("task", [FEATURES, ZERO_SHOT])
def test_what_a_pipeline_saves_is_a_repo_that_every_pipeline_opens(repo, tmp_path, depth_files, pictures, task):
    pipeline(task, model=repo, image_processor=DepthImageProcessor(size=48)).save_pretrained(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.py"))
    assert pipeline(task, model=saved).image_processor.size["height"] == 48
    assert type(AutoImageProcessor.from_pretrained(saved)) is ViTImageProcessorPil
    assert len(pipeline("image-feature-extraction", model=saved)(pictures[0], pool=True)[0]) == 8


# What is refused


def test_the_pipeline_of_images_does_not_cut_depth_to_8_bits_unnoticed(depth_repo, depth_files, pictures):
    pipe = pipeline("image-feature-extraction", model=depth_repo)
    for depth in (depth_files[0], Image.open(depth_files[0])):
        with pytest.raises(ValueError, match="map 0: grey in RGB.*'depth-feature-extraction'"):
            pipe(depth)
    with pytest.raises(ValueError, match=r"map 0: a map of shape \[3, 40, 48\]"):
        pipe(pictures[0])


def test_grey_maps_in_files_of_three_channels_are_read_as_before(tiny_encoder, tmp_path):
    grey = Image.fromarray(np.random.default_rng(0).integers(1, 255, (40, 48), np.uint8))
    grey.save(tmp_path / "grey.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    expected = tiny_encoder.encode(grey)
    rows = Dataset.from_dict({"depth": [str(tmp_path / "rgb.png")]})
    for depth in (str(tmp_path / "rgb.png"), Image.open(tmp_path / "rgb.png"), rows["depth"]):
        close(tiny_encoder.encode(depth), expected)
    three_channels = DepthImageProcessor(num_channels=3)
    assert three_channels(grey.convert("RGB"))["pixel_values"].shape == (1, 3, 128, 128)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("nowhere.png", "nowhere.png: no such file"),
        ([np.ones((8, 8)), "nowhere.png"], "nowhere.png: no such file"),
        ([np.ones((8, 8)), np.zeros((8, 8))], "map 1: no valid pixel"),
        ((one for one in [np.ones((8, 8)), None]), "map 1: a NoneType, expected a path"),
        (7, "map 0: a int, expected a path"),
        (Dataset.from_dict({"depth": ["map.png"]}), "a data set, expected one of its columns: depth"),
    ],
)
def test_maps_that_cannot_be_used(tiny_encoder, inputs, message):
    with pytest.raises(ValueError, match=message):
        list(pipeline(FEATURES, model=tiny_encoder, batch_size=2)(inputs))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no labels"),
        ({"candidate_labels": []}, "no labels"),
        ({"candidate_labels": "chair"}, "the string 'chair', expected a list"),
        ({"candidate_labels": LABELS, "hypothesis_template": "a chair"}, "expected exactly one {}"),
    ],
)
def test_labels_that_make_no_sense(tiny_multimodal, depth_files, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        pipeline(ZERO_SHOT, model=tiny_multimodal)(depth_files, **options)


def test_models_that_do_not_fit(tiny_multimodal, tiny_encoder, tmp_path):
    tiny_model(depth=False).save_pretrained(tmp_path)
    without_depth = f"needs a model that embeds {{}}; this {type(tiny_multimodal).__name__} embeds text and image"
    with pytest.raises(ValueError, match=f"{FEATURES} {without_depth.format('depth')}"):
        pipeline(FEATURES, model=str(tmp_path))
    with pytest.raises(ValueError, match=f"{ZERO_SHOT} {without_depth.format('depth and text')}"):
        pipeline(ZERO_SHOT, model=str(tmp_path))
    with pytest.raises(ValueError, match="depth and text; this DepthSemanticEncoderModel embeds depth"):
        pipeline(ZERO_SHOT, model=tiny_encoder)
    with pytest.raises(ValueError, match="this BertModel embeds neither texts, images nor depth maps"):
        pipeline(FEATURES, model=tiny_multimodal.text_encoder)
    tiny_multimodal.processor.tokenizer = None
    with pytest.raises(ValueError, match="there is no tokenizer beside the weights"):
        pipeline(ZERO_SHOT, model=tiny_multimodal)
    tiny_multimodal.processor.depth_image_processor = None
    with pytest.raises(ValueError, match="there is no depth_image_processor beside the weights"):
        pipeline(FEATURES, model=tiny_multimodal)


@pytest.mark.parametrize("task", [FEATURES, ZERO_SHOT])
def test_no_task_has_a_default_model(task):
    with pytest.raises(ValueError, match=f"{task} has no default model; give one"):
        pipeline(task)


# Units


def test_units_of_a_call_and_depths_that_lie_elsewhere(depth_repo, tiny_encoder, depth_files):
    tiny_encoder.processor = DepthImageProcessor(
        size=96, normalization="range", value_range=[0, 70], unit_scale=0.001, value_percentiles=[1.5, 30, 59]
    )
    tiny_encoder.save_pretrained(depth_repo)
    pipe = pipeline(FEATURES, model=depth_repo)
    expected = tiny_encoder.encode(depth_files)
    metres = [np.asarray(Image.open(path)) / 1000 for path in depth_files]
    for units in ({"unit_scale": 1}, {"preset": "nyu"}, {"image_processor_kwargs": {"unit_scale": 1}}):
        with warnings.catch_warnings():
            warnings.simplefilter("error", DepthRangeWarning)
            close(np.concatenate(pipe(metres, pool=True, **units)).astype(np.float32), expected)
            close(np.concatenate(pipe(depth_files, pool=True)).astype(np.float32), expected)
    with pytest.warns(DepthRangeWarning, match="unit_scale") as said:
        pipe(metres, pool=True)
    assert len(said) == 1


def test_depth_that_was_cut_off_at_8_bits_is_warned_of(tiny_multimodal, tmp_path):
    """As `load_image` of transformers does it, which makes RGB of every file."""
    raw = np.random.default_rng(0).integers(500, 4000, (40, 48))
    raw[:2] = 0
    Image.fromarray(raw.astype(np.uint16)).save(tmp_path / "millimetres.png")
    Image.fromarray((raw / 1000).astype(np.float32)).save(tmp_path / "metres.tif")
    for name in ("millimetres.png", "metres.tif"):
        with pytest.warns(UserWarning, match="looks like a depth map"):
            tiny_multimodal.processor(images=load_image(str(tmp_path / name)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for picture in (Image.new("RGB", (8, 8), "white"), Image.fromarray(raw.astype(np.uint8)).convert("RGB")):
            tiny_multimodal.processor(images=picture)
