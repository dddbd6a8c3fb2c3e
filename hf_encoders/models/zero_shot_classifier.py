"""Classification by words: images or depth maps get the labels whose prompts are most similar."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, TypedDict, cast

import torch
from torch import Tensor, nn
from transformers.processing_utils import Unpack
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .depth_units import DepthUnits
from .encoding import Pictures
from .model_modalities import BOTH_EXAMPLES, PICTURES, modalities, pictures_or_default
from .text_tower import unknown_texts
from .tower import Encoder
from .unit_rows import Numbers, unit_rows
from .zero_shot_calibration import CALIBRATED, Calibration, ModalityCalibration, Threshold, calibration_of
from .zero_shot_scores import label_scores

_ROWS_AT_ONCE = 1024
_NAMED = 5  # labels in a message


class Score(TypedDict):
    """One answer.

    Args:
        label: the label; None where a threshold is given and no label reaches it ("none of these").
        score: the softmax of cosine / temperature over all labels, from 0 to 1: how the label compares with the others.
        similarity: the cosine of input and label, from -1 to 1: how they compare, whatever the others are.
    """

    label: str | None
    score: float
    similarity: float


class SharedSpace(Encoder, Protocol):
    """An encoder of texts and pictures whose embeddings are compared."""

    @property
    def clamped_temperature(self) -> Tensor:
        """What cosines are divided by for scores, a scalar."""


class ZeroShotClassifier:
    """Classifies images and depth maps by labels in words, with a model that embeds both in one space.

    A label's embedding is the mean of the normalised embeddings of its prompts, one per template, normalised again, as
    CLIP (Radford et al., 2021) does. The labels are embedded once, at first use: make a new classifier after the
    weights of the model have changed.

    Args:
        model: a `MultimodalEncoderModel`, or another of texts and pictures in one space, such as CLIP; see
            `load_encoder`. Scores are a softmax for SigLIP too.
        labels: different strings, such as "chair".
        templates: one or more prompts, each with one `{}` where the label goes. For depth maps, prompts that are
            worded as the training captions do best.

    Raises:
        ValueError: if the model embeds no texts or no pictures, there is no label or template, a label is empty or
            comes twice, or a template has not exactly one `{}` and no other brace.
    """

    def __init__(
        self,
        model: SharedSpace,
        labels: Sequence[str],
        templates: str | Sequence[str] = ("a photo of a {}.",),
    ):
        _check_model(model)
        self.model = model
        self.labels = _checked_labels(labels)
        self.templates = _checked_templates([templates] if isinstance(templates, str) else templates)

    @cached_property
    def label_embeds(self) -> Tensor:
        """[L, D] unit vectors, in float32, one per label.

        Labels of which the tokenizer knows no token are warned about, as they embed alike.

        Raises:
            ValueError: if it knows none of the labels.
        """
        tower = self.model.tower("text")
        tokenizer = getattr(tower, "processor", None)  # what else embeds texts tells nothing of its words
        if isinstance(tokenizer, PreTrainedTokenizerBase):
            _check_known(self.labels, unknown_texts(tokenizer, self.labels))
        return self.embed_words(self.labels)

    @cached_property
    def calibration(self) -> Calibration:
        """What `threshold="calibrated"` means: the calibration that the model carries.

        Raises:
            ValueError: if it carries none, or it is of other weights or templates.
        """
        calibration = calibration_of(self.model)
        calibration.check(self.model, self.templates)
        return calibration

    @cached_property
    def background_embeds(self) -> Tensor:
        """[B, D] unit vectors of the calibration's background words that are none of the labels."""
        labels = {label.casefold() for label in self.labels}
        words = [word for word in self.calibration.background if word.casefold() not in labels]
        return self.embed_words(words)

    def embed_words(self, words: Sequence[str]) -> Tensor:
        """[N, D] unit vectors of N words, each in all templates."""
        if not words:
            return self.label_embeds[:0]
        prompts = [template.replace("{}", word) for word in words for template in self.templates]
        embeds = self.model.tower("text").encode(prompts).unflatten(0, (len(words), len(self.templates)))
        return nn.functional.normalize(embeds.mean(dim=1), dim=-1)

    @torch.no_grad()
    def classify(
        self,
        inputs: Pictures,
        modality: str | None = None,
        *,
        top_k: int = 5,
        threshold: Threshold = None,
        batch_size: int = 32,
        **units: Unpack[DepthUnits],
    ) -> list[list[Score]]:
        """The best labels of each input.

        Args:
            inputs: what `model.encode_image` or `model.encode_depth` takes: one input or many.
            modality: "image" or "depth"; by default "depth" for pictures and files of 16 bits or floats, else "image".
            top_k: how many labels an input gets; all of them, if there are fewer.
            threshold: the least cosine of an answer, from -1 to 1. An input whose best label is less similar is none of
                these: its list is one answer whose label is None, with the score and similarity of that best label.
                Which cosine is enough depends on the model, and hardly on the other labels: look at `similarity` of
                inputs that you know. "calibrated" takes what was measured for the modality and travels with the model:
                see `Calibration`, and `hf-encoders calibrate`, which makes it. By default every input gets labels.
            batch_size: how many inputs the model sees at a time. It does not change the result.
            units: what the raw values of depth maps mean.

        Returns:
            For each input a list of `{"label": ..., "score": ..., "similarity": ...}`, the best first; see `Score`.

        Raises:
            ValueError: for an option out of range, or an input that cannot be used (its path or index is named); for
                "calibrated" also if the model has no calibration, or one of other weights, templates or modalities.
        """
        if modality is None:
            modality = pictures_or_default(self.model, inputs)
        if modality not in PICTURES:
            raise ValueError(f"modality is 'image' or 'depth', got {modality!r}")
        _check_options(top_k, threshold)
        self._calibrated(threshold, modality)  # before anything is embedded
        tower: Any = self.model.tower(modality)  # the units are for depth maps
        embeds = tower.encode(inputs, batch_size=batch_size, **units)
        return self.classify_embeddings(embeds, top_k=top_k, threshold=threshold, modality=modality)

    @torch.no_grad()
    def classify_embeddings(
        self, embeds: Numbers, *, top_k: int = 5, threshold: Threshold = None, modality: str | None = None
    ) -> list[list[Score]]:
        """The best labels of inputs that are embedded already.

        Args:
            embeds: [N, D] embeddings of the same model, of any length and precision: tensor, array or lists.
            top_k: how many labels an input gets; all of them, if there are fewer.
            threshold: see `classify`.
            modality: "image" or "depth": what they are embeddings of, for a calibrated threshold.

        Returns:
            As `classify`.

        Raises:
            ValueError: for an option out of range; for another shape, or an embedding that is zero, NaN or infinite;
                and as `classify`.
        """
        _check_options(top_k, threshold)
        calibrated = self._calibrated(threshold, modality)
        label_embeds = self.label_embeds
        rows_of_all = torch.from_numpy(unit_rows(embeds)).to(label_embeds.device)
        if rows_of_all.shape[1] != label_embeds.shape[1]:
            raise ValueError(
                f"embeddings of {rows_of_all.shape[1]} dimensions, the labels have {label_embeds.shape[1]}"
            )
        temperature = self.model.clamped_temperature.to(label_embeds)
        results: list[list[Score]] = []
        for rows in rows_of_all.split(_ROWS_AT_ONCE):
            cosines = rows @ label_embeds.T
            scores, order = (cosines / temperature).softmax(dim=-1).sort(descending=True, stable=True)
            best = order[:, :top_k]
            columns = best.tolist(), scores[:, :top_k].tolist(), cosines.gather(1, best).tolist()
            if calibrated:
                background = rows @ self.background_embeds.T
                known = label_scores(calibrated.score, cosines, background, temperature).amax(1)
                is_known: list[bool] = (known >= calibrated.threshold(len(self.labels))).tolist()
            else:
                is_known = [threshold is None or row[0] >= threshold for row in columns[2]]
            results += [self._answers(*row) for row in zip(*columns, is_known, strict=True)]
        return results

    def _calibrated(self, threshold: Threshold, modality: str | None) -> ModalityCalibration | None:
        return self.calibration.of(modality) if threshold == CALIBRATED else None

    def _answers(self, order: list[int], scores: list[float], cosines: list[float], is_known: bool) -> list[Score]:
        """The answers to one input, from its best labels."""
        if not is_known:
            return [{"label": None, "score": scores[0], "similarity": cosines[0]}]
        return [
            {"label": self.labels[index], "score": score, "similarity": cosine}
            for index, score, cosine in zip(order, scores, cosines, strict=True)
        ]


def _check_model(model: object) -> None:
    known = modalities(model)
    if known and ("text" not in known or not set(PICTURES) & set(known)):
        lacking = "pictures" if "text" in known else "text"
        raise ValueError(f"the model embeds {known[0]}, not {lacking}: classification by words takes {BOTH_EXAMPLES}")
    if not hasattr(model, "tower"):
        raise ValueError(f"a {type(model).__name__}, expected an encoder: load_encoder(model) makes one of it")


def _check_options(top_k: int, threshold: Threshold) -> None:
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    check_threshold(threshold)


def check_threshold(threshold: object) -> None:
    """Raise ValueError for a threshold that is neither a cosine nor "calibrated"."""
    if threshold is None or threshold == CALIBRATED:
        return
    is_number = isinstance(threshold, (int, float)) and not isinstance(threshold, bool)
    if not (is_number and -1 <= cast(float, threshold) <= 1):  # NaN too
        raise ValueError(f"threshold is a cosine, from -1 to 1, or {CALIBRATED!r}, got {threshold!r}")


def _checked_labels(labels: Sequence[str]) -> list[str]:
    if isinstance(labels, str):
        raise ValueError(f"labels is the string {labels!r}, expected a list of strings")
    labels = list(labels)
    if not labels:
        raise ValueError("no labels, expected at least one")
    first: dict[str, int] = {}
    for index, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"labels[{index}] is {label!r}, expected a word or words")
        if label in first:
            raise ValueError(f"labels[{index}]: {label!r} is there already, as labels[{first[label]}]")
        first[label] = index
    return labels


def _check_known(labels: Sequence[str], unknown: Sequence[str]) -> None:
    """Warn of labels that the tokenizer does not know, or refuse them where it knows none."""
    named = ", ".join(repr(label) for label in unknown[:_NAMED]) + (", ..." if len(unknown) > _NAMED else "")
    if len(unknown) == len(labels):
        raise ValueError(f"the model's tokenizer knows no token of the labels {named}; give words that it learned")
    if unknown:
        warnings.warn(
            f"the model's tokenizer knows no token of the labels {named}, which embed as any unknown word does: give"
            " words that it learned",
            stacklevel=2,
        )


def _checked_templates(templates: Sequence[str]) -> list[str]:
    templates = list(templates)
    if not templates:
        raise ValueError("no templates, expected at least one (such as 'a photo of a {}.')")
    for index, template in enumerate(templates):
        # No brace may be left: "{label}" and "{{}}" are meant for another way of filling them in.
        if not isinstance(template, str) or template.count("{}") != 1 or set("{}") & set(template.replace("{}", "")):
            raise ValueError(f"templates[{index}]: {template!r}, expected exactly one {{}} and no other brace")
    return templates
