"""Calibrations travel with a model, hold for its weights and prompts alone, and tell what is none of the labels."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from transformers import AutoModel

from hf_encoders import load_encoder
from hf_encoders.maker import maker
from hf_encoders.models.input_errors import InputError
from hf_encoders.zero_shot import (
    Calibration,
    ModalityCalibration,
    ZeroShotClassifier,
    calibration_of,
    label_scores,
    write_calibration,
)
from tests.helpers.any_encoders import save_encoder
from tests.helpers.calibrations import TEMPLATES, calibrate, calibration
from tests.helpers.pictures import noise

pytestmark = pytest.mark.numeric

LABELS = ["chair", "table"]
WORDS = ["Chair", "lamp", "map", "photo"]


@pytest.fixture
def pictures():
    return [noise(seed) for seed in range(12)]


def thresholds(*pairs):
    return ModalityCalibration("cosine", {number: {"threshold": value} for number, value in pairs})


def test_a_threshold_is_that_of_the_nearest_numbers_of_labels_or_the_smaller_of_two():
    several = thresholds((5, 0.2), (20, 0.3), (90, 0.1))
    assert [several.threshold(number) for number in (1, 5, 6, 20, 21, 90, 500)] == [0.2, 0.2, 0.2, 0.3, 0.1, 0.1, 0.1]


def middle(values):
    """A number between the two middle ones: half of the values are below it."""
    below, above = sorted(values)[len(values) // 2 - 1 : len(values) // 2 + 1]
    return (below + above) / 2


@pytest.mark.parametrize("score", ["cosine", "softmax", "background"])
@pytest.mark.parametrize("modality", ["image", "depth"])
def test_inputs_below_the_threshold_are_none_of_the_labels(score, modality, tiny_multimodal, pictures):
    model = tiny_multimodal
    inputs = pictures if modality == "image" else [np.asarray(one, np.float32)[..., 0] / 100 for one in pictures]
    embeds = model.tower(modality).encode(inputs)
    labels, others = (
        ZeroShotClassifier(model, words, TEMPLATES).label_embeds for words in (LABELS, ["lamp", "map", "photo"])
    )
    temperature = model.clamped_temperature.detach()
    known = label_scores(score, embeds @ labels.T, embeds @ others.T, temperature).amax(1)
    cut = middle(known.tolist())
    # "Chair" is one of the labels, in another case. The other modality would refuse all.
    calibrate(model, score, ((2, cut),), background=WORDS)
    other = "depth" if modality == "image" else "image"
    model.config.zero_shot_calibration["modalities"][other]["measured"]["2"]["threshold"] = 2
    classifier = ZeroShotClassifier(model, LABELS, TEMPLATES)
    found = classifier.classify(inputs, modality, threshold="calibrated")
    for answers, before, is_known in zip(found, classifier.classify(inputs, modality), known >= cut, strict=True):
        assert answers == (before if is_known else [before[0] | {"label": None}])
    assert [answers[0]["label"] is None for answers in found].count(True) == len(inputs) // 2
    assert classifier.classify_embeddings(embeds, threshold="calibrated", modality=modality) == found


def test_it_travels_with_the_model_and_is_the_same_there(tiny_multimodal, tmp_path):
    made = calibration(tiny_multimodal, thresholds=((5, 0.25), (20, 0.5)), background=["lamp"])
    tiny_multimodal.config.zero_shot_calibration = made.to_dict()
    tiny_multimodal.save_pretrained(tmp_path / "one")
    again = AutoModel.from_pretrained(tmp_path / "one")
    assert calibration_of(again) == made
    again.save_pretrained(tmp_path / "two")
    model = load_encoder(tmp_path / "two")
    assert calibration_of(model) == made
    ZeroShotClassifier(model, LABELS, TEMPLATES).classify(noise(0), threshold="calibrated")


def test_it_is_written_into_the_folder_of_a_model(tiny_multimodal, tmp_path):
    tiny_multimodal.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())
    made = calibration(tiny_multimodal)
    write_calibration(tmp_path, made)
    after = json.loads((tmp_path / "config.json").read_text())
    assert after.pop("zero_shot_calibration") == json.loads(json.dumps(made.to_dict()))
    assert before.pop("zero_shot_calibration") is None and after == before
    assert calibration_of(AutoModel.from_pretrained(tmp_path)) == made
    with pytest.raises(FileExistsError, match=r"config.json: has a calibration already; give --overwrite"):
        write_calibration(tmp_path, made)
    other = calibration(tiny_multimodal, "softmax")
    (tmp_path / "config.json").chmod(0o640)
    (tmp_path / "config.json").rename(tmp_path / "kept.json")
    (tmp_path / "config.json").symlink_to("kept.json")
    write_calibration(tmp_path, other, overwrite=True)
    assert not (tmp_path / "config.json").is_symlink() and (tmp_path / "config.json").stat().st_mode & 0o777 == 0o640
    assert json.loads((tmp_path / "kept.json").read_text())["zero_shot_calibration"] == made.to_dict()
    assert calibration_of(AutoModel.from_pretrained(tmp_path)) == other
    assert not list(tmp_path.glob(".*"))


def test_other_models_of_texts_and_pictures_carry_one_too(tmp_path):
    save_encoder("clip", tmp_path)
    encoder = load_encoder(tmp_path)
    made = calibration(encoder, thresholds=((1, -1.0),), modalities=["image"])
    write_calibration(tmp_path, made)
    encoder = load_encoder(tmp_path)
    assert calibration_of(encoder) == made
    ((best, *_),) = ZeroShotClassifier(encoder, LABELS, TEMPLATES).classify(noise(0), threshold="calibrated")
    assert best["label"] in LABELS


def test_embeddings_of_before_are_of_the_same_maker(tiny_multimodal):
    before = maker(tiny_multimodal)
    assert maker(calibrate(tiny_multimodal)) == before


def refused(model, message, labels=LABELS, templates=TEMPLATES, modality="image"):
    with pytest.raises(ValueError, match=re.escape(message)):
        ZeroShotClassifier(model, labels, templates).classify(noise(0), modality, threshold="calibrated")


def test_a_model_without_a_calibration_says_so(tiny_multimodal):
    refused(tiny_multimodal, "the model has no calibration of what is none of the labels: hf-encoders calibrate makes")


def test_other_prompts_weights_modalities_and_sizes_are_refused(tiny_multimodal):
    model = calibrate(tiny_multimodal, modalities=["image"])
    refused(model, "calibrated with the templates 'a {}', 'the {}', not 'a {}': give those", templates="a {}")
    refused(model, "calibrated for image, not for depth: hf-encoders calibrate makes a new one", modality="depth")
    embeds = model.encode_image([noise(0)])
    classifier = ZeroShotClassifier(model, LABELS, TEMPLATES)
    with pytest.raises(ValueError, match="is one of a modality: say modality, image"):
        classifier.classify_embeddings(embeds, threshold="calibrated")
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.text_projection.bias[0] += 1
    for other in (changed, copy.deepcopy(model).bfloat16()):
        refused(other, "the weights are not those that were calibrated (trained further, or loaded in another dtype)")
    model.interpolate = 64
    refused(model, "calibrated with images of the model's own size")


DAMAGED = {
    "a list": [],
    "nothing": {},
    "another score": {"score": "energy"},
    "no thresholds": {"measured": {}},
    "no number": {"measured": {"5": {"threshold": float("nan")}}},
    "no threshold": {"measured": {"5": {"auroc": 1.0}}},
    "no count": {"measured": {"few": {"threshold": 0.5}}},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_calibration_is_named(case, tiny_multimodal):
    content = calibration(tiny_multimodal, modalities=["image"]).to_dict()
    damage = DAMAGED[case]
    if damage:
        content["modalities"]["image"] |= damage
    else:
        content = damage
    with pytest.raises(InputError, match=r"config.json: zero_shot_calibration is no calibration \(.*makes a new one"):
        Calibration.from_dict(content)


@pytest.mark.parametrize("content", [None, "[]", "{"])
def test_a_folder_without_a_model_gets_none(content, tiny_multimodal, tmp_path):
    if content:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config.json: "):
        write_calibration(tmp_path, calibration(tiny_multimodal))
    assert len(list(tmp_path.iterdir())) == (content is not None)
