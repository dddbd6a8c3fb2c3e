"""Zero-shot classification: prompt ensembles, scores, the kept label embeddings, transformers' pipeline, errors."""

import math
import re
import warnings
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from transformers import pipeline

from hf_encoders.zero_shot import ZeroShotClassifier
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.pictures import noise

pytestmark = pytest.mark.numeric


class StandIn(nn.Module):
    """Embeds words and "images" (numbers) by random tables, and counts the calls."""

    def __init__(self):
        super().__init__()
        self.clamped_temperature = nn.Parameter(torch.tensor(0.1))
        self.calls = Counter()
        self.prompts = {}

    def _rows(self, items, modality):
        self.calls[modality] += 1
        rows = [torch.randn(5, generator=torch.Generator().manual_seed(sum(map(ord, str(item))))) for item in items]
        return nn.functional.normalize(torch.stack(rows) if rows else torch.empty(0, 5), dim=-1)

    def tower(self, name):
        return SimpleNamespace(encode=getattr(self, f"encode_{name}"))

    def encode_text(self, texts):
        self.prompts = {text: row for text, row in zip(texts, self._rows(texts, "text"), strict=True)}
        return torch.stack([self.prompts[text] for text in texts])

    def encode_image(self, inputs, batch_size):
        return self._rows(inputs, "image")

    def encode_depth(self, inputs, batch_size):
        return self._rows(inputs, "depth")


LABELS = ["chair", "sofa", "lamp", "bed {low}"]
TEMPLATES = ["a photo of a {}.", "{} in a room", "the depth of a {}"]


def test_a_label_is_the_mean_of_its_prompts():
    model = StandIn()
    embeds = ZeroShotClassifier(model, LABELS, TEMPLATES).label_embeds
    assert embeds.shape == (4, 5) and set(model.prompts) == {t.replace("{}", one) for t in TEMPLATES for one in LABELS}
    for label, embed in zip(LABELS, embeds, strict=True):
        mean = sum(model.prompts[template.replace("{}", label)] for template in TEMPLATES) / len(TEMPLATES)
        torch.testing.assert_close(embed, mean / mean.norm())


@pytest.mark.parametrize("modality", ["image", "depth"])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_scores_are_the_softmax_over_all_labels(modality, batch_size):
    model = StandIn()
    classifier = ZeroShotClassifier(model, LABELS)
    results = classifier.classify([0, 1, 2], modality, top_k=3, batch_size=batch_size)
    assert model.calls[modality] == 1 and len(results) == 3
    for row, result in zip(model._rows([0, 1, 2], modality), results, strict=True):
        weights = {label: math.exp(row @ of / 0.1) for label, of in zip(LABELS, classifier.label_embeds, strict=True)}
        best = sorted(weights, key=weights.get, reverse=True)[:3]
        assert [answer["label"] for answer in result] == best
        expected = [weights[label] / sum(weights.values()) for label in best]
        assert [answer["score"] for answer in result] == pytest.approx(expected, rel=1e-4)
        cosines = dict(zip(LABELS, (row @ classifier.label_embeds.T).tolist(), strict=True))
        assert [answer["similarity"] for answer in result] == pytest.approx([cosines[one] for one in best], abs=1e-5)


def test_below_the_threshold_an_input_is_none_of_these():
    classifier = ZeroShotClassifier(StandIn(), LABELS)
    without = classifier.classify([0, 1, 2, 3], top_k=2)
    least = sorted(result[0]["similarity"] for result in without)[2]
    found = classifier.classify([0, 1, 2, 3], top_k=2, threshold=least)
    for result, before in zip(found, without, strict=True):
        is_near = before[0]["similarity"] >= least
        assert result == (before if is_near else [before[0] | {"label": None}])
    assert [result[0]["label"] is None for result in found].count(True) == 2
    assert classifier.classify([0, 1, 2, 3], top_k=2, threshold=-1) == without


def test_a_single_label_has_score_1_and_its_cosine():
    """The softmax over one label tells nothing; the cosine does."""
    (result,) = ZeroShotClassifier(StandIn(), ["chair"]).classify([0], threshold=1.0)
    assert result[0]["label"] is None and result[0]["score"] == pytest.approx(1)
    assert -1 <= result[0]["similarity"] < 1


@pytest.mark.parametrize(
    "changed",
    [
        lambda rows: rows * 7.5,
        lambda rows: (rows * 3).numpy(),
        lambda rows: rows.half(),
        lambda rows: rows.bfloat16(),
        lambda rows: rows.double().tolist(),
    ],
)
def test_embeddings_of_any_length_precision_and_kind(changed):
    classifier, rows = ZeroShotClassifier(StandIn(), LABELS), StandIn()._rows([0, 1, 2], "image")
    expected = classifier.classify_embeddings(rows)
    for answer, other in zip(classifier.classify_embeddings(changed(rows)), expected, strict=True):
        assert [each["label"] for each in answer] == [each["label"] for each in other]
        assert [each["score"] for each in answer] == pytest.approx([each["score"] for each in other], rel=0.05)


@pytest.mark.parametrize(
    ("embeds", "says"),
    [
        ([[0.0] * 5], "embedding 0 has no direction"),
        ([[1.0] * 5, [math.nan] * 5], "embedding 1 has no direction"),
        ([[1.0] * 4], "embeddings of 4 dimensions, the labels have 5"),
        ([1.0] * 5, "expected \\[N, D\\]"),
    ],
)
def test_embeddings_that_are_none(embeds, says):
    with pytest.raises(ValueError, match=says):
        ZeroShotClassifier(StandIn(), LABELS).classify_embeddings(embeds)


def test_labels_are_embedded_once():
    model = StandIn()
    classifier = ZeroShotClassifier(model, LABELS, "{}")
    assert model.calls["text"] == 0
    first = classifier.classify([1], top_k=99)
    assert len(first[0]) == len(LABELS) and sum(answer["score"] for answer in first[0]) == pytest.approx(1, rel=1e-5)
    assert classifier.classify([1]) == first
    assert classifier.classify([]) == []
    model.to(torch.bfloat16)  # only the temperature is cast, to 0.1001
    again = classifier.classify([1])
    assert [answer["label"] for answer in again[0]] == [answer["label"] for answer in first[0]]
    assert model.calls["text"] == 1


ERRORS = {
    "no labels": (([],), "no labels, expected at least one"),
    "a string": (("chair",), "labels is the string 'chair', expected a list of strings"),
    "empty label": ((["chair", " "],), "labels[1] is ' ', expected a word or words"),
    "a number": (([3],), "labels[0] is 3, expected a word or words"),
    "label twice": ((["a", "b", "a"],), "labels[2]: 'a' is there already, as labels[0]"),
    "no templates": ((["a"], []), "no templates, expected at least one"),
    "no place": ((["a"], ["{}", "a photo"]), "templates[1]: 'a photo', expected exactly one {} and no other brace"),
    "a name": ((["a"], "a {label}"), "templates[0]: 'a {label}', expected exactly one {}"),
    "two places": ((["a"], "{} {}"), "templates[0]: '{} {}', expected exactly one {}"),
    "stray brace": ((["a"], "{} }"), "templates[0]: '{} }', expected exactly one {}"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_labels_and_templates_that_cannot_be_used(case):
    arguments, message = ERRORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        ZeroShotClassifier(StandIn(), *arguments)


def test_options_out_of_range():
    classifier = ZeroShotClassifier(StandIn(), LABELS)
    with pytest.raises(ValueError, match="modality is 'image' or 'depth', got 'sound'"):
        classifier.classify([1], "sound")
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        classifier.classify([1], top_k=0)
    for threshold in (1.5, math.nan, "0.2", True):
        with pytest.raises(
            ValueError, match=f"threshold is a cosine, from -1 to 1, or 'calibrated', got {threshold!r}"
        ):
            classifier.classify([1], threshold=threshold)
        with pytest.raises(ValueError, match="threshold is a cosine"):
            classifier.classify_embeddings([[1.0] * 5], threshold=threshold)


@pytest.mark.parametrize("temperature", [0.07, 0.001])  # the second is below the least that the model divides by
def test_the_pipeline_of_transformers_gives_the_same(tiny_multimodal, temperature):
    tiny_multimodal.temperature.data.fill_(temperature)
    processor = tiny_multimodal.processor
    pipe = pipeline(
        "zero-shot-image-classification", model=tiny_multimodal, image_processor=processor.image_processor,
        tokenizer=processor.tokenizer,
    )  # fmt: skip
    labels, pictures = ["chair", "a large red chair", "lamp", "table"], [noise(0), noise(1)]
    classifier = ZeroShotClassifier(tiny_multimodal, labels, "This is a photo of {}.")
    for ours, theirs in zip(
        classifier.classify(pictures, top_k=4), pipe(pictures, candidate_labels=labels), strict=True
    ):
        assert [answer["label"] for answer in ours] == [answer["label"] for answer in theirs]
        assert [answer["score"] for answer in ours] == pytest.approx([answer["score"] for answer in theirs], rel=1e-4)


def test_depth_maps_and_single_inputs(tiny_multimodal):
    classifier = ZeroShotClassifier(tiny_multimodal, ["chair", "sofa"])
    depth = np.random.default_rng(0).uniform(1, 3, (2, 40, 48)).astype(np.float32)
    both = classifier.classify(list(depth), "depth", batch_size=1)
    (alone,) = classifier.classify(depth[0], "depth")
    best = both[0][0]
    assert len(both) == 2 and alone[0]["label"] == best["label"]
    assert alone[0]["score"] == pytest.approx(best["score"], rel=1e-4)
    assert len(classifier.classify(noise(0))) == 1
    tiny_multimodal.to(torch.bfloat16)
    (rounded,) = classifier.classify(depth[0], "depth")
    assert rounded[0]["label"] == best["label"] and rounded[0]["score"] == pytest.approx(best["score"], abs=0.05)


def test_labels_that_the_tokenizer_does_not_know_are_named():
    model = tiny_model()
    with pytest.warns(UserWarning, match="knows no token of the labels 'ж', 'ш', which embed as any unknown word"):
        ZeroShotClassifier(model, ["chair", "ж", "ш", "lamp ж"]).label_embeds  # noqa: B018
    with pytest.raises(ValueError, match="knows no token of the labels 'ж', 'ш'; give words that it learned"):
        ZeroShotClassifier(model, ["ж", "ш"]).label_embeds  # noqa: B018
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ZeroShotClassifier(model, ["chair", "lamp"]).label_embeds  # noqa: B018
