"""Serves the model beside this file on Inference Endpoints, which call `EndpointHandler` with each request.

    {"inputs": "a red chair"}                            → the embedding of a text, a list of numbers
    {"inputs": [{"image": FILE}, {"image": FILE}]}       → a list of embeddings
    {"inputs": {"depth": [[1.5, 1.6], [1.7, 1.8]]}}      → the embedding of a depth map
    {"inputs": {"image": FILE}, "parameters": {"candidate_labels": ["chair", "lamp"]}}
        → [{"label": "chair", "score": 0.9, "similarity": 0.3}, ...], the best first

An input is a text, an image or a depth map; several come as a list, all of one kind. FILE is the content of a file in
base64, with or without "data:image/png;base64," before it. A depth map may be rows of numbers too. The body of a
request may also be the file of one picture. No path and no address is opened.

Parameters:
    modality: "text", "image" or "depth": what inputs are that do not say it themselves.
    candidate_labels: classify pictures by these words, a list or one string with commas.
    hypothesis_template: the prompt, with one {} where a label goes. By default "a photo of a {}.", or the prompts of
        the calibration.
    threshold: the least cosine of an answer, or "calibrated"; below it the answer's label is null.
    top_k: how many labels an answer has.
    normalize, truncate_dim: of embeddings, as `encode` takes them.
    preset, unit_scale, value_range, invalid_values: what the numbers of depth maps mean.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module

_EMBEDDING = ("normalize", "truncate_dim")
_LABELS = ("candidate_labels", "hypothesis_template", "threshold", "top_k")
_UNITS = ("preset", "unit_scale", "value_range", "invalid_values")
_KEYS = ("text", "image", "depth")
_CALIBRATED = "calibrated"
# Parameter → the type that it has, and what that is called.
_TYPES: dict[str, tuple[type, str]] = {
    "hypothesis_template": (str, "a text"),
    "normalize": (bool, "true or false"),
    "truncate_dim": (int, "a whole number"),
    "top_k": (int, "a whole number"),
}


class EndpointHandler:
    """Embeds texts, images and depth maps, and classifies pictures by words.

    Args:
        path: the folder of the repo.
    """

    def __init__(self, path: str = ""):
        # This file and the model's code lie in one repo: who runs one of them runs both.
        self.model = AutoModel.from_pretrained(path, trust_remote_code=True).eval()
        if torch.cuda.is_available():
            self.model.to("cuda")
        self._modality_of: Callable[..., str] = _from_repo(path, "model_modalities.pictures_or_default")
        self._make_classifier: Callable[..., Any] = _from_repo(path, "zero_shot_classifier.ZeroShotClassifier")
        self._calibration_of: Callable[..., Any] = _from_repo(path, "zero_shot_calibration.calibration_of")
        # Labels are embedded once for the requests that ask for the same ones.
        self._classifier = lru_cache(maxsize=8)(self._new_classifier)

    def __call__(self, data: dict[str, Any]) -> list[Any]:
        """Answer a request.

        Args:
            data: `inputs`, and `parameters` if there are any; see the top of this file.

        Returns:
            For one input its embedding, or its labels and scores; for a list of inputs a list of these.

        Raises:
            ValueError: says what is wrong with the request.
        """
        if not isinstance(data, Mapping) or "inputs" not in data:
            raise ValueError('a request is {"inputs": ..., "parameters": {...}}; there are no inputs')
        parameters = _checked(data.get("parameters"))
        inputs, is_single = _listed(data["inputs"])
        modality = self._modality(inputs, parameters.get("modality"))
        items = [_item(value, modality, f"inputs[{index}]") for index, value in enumerate(inputs)]
        units = {name: parameters[name] for name in _UNITS if name in parameters}
        if units and modality != "depth":
            raise ValueError(f"{', '.join(units)}: for depth maps, and these inputs are of the modality {modality!r}")
        answers = self._answers(items, modality, parameters, units)
        return answers[0] if is_single else answers

    def _answers(
        self, items: list[object], modality: str, parameters: dict[str, Any], units: dict[str, Any]
    ) -> list[Any]:
        if "candidate_labels" not in parameters:
            options = {name: parameters[name] for name in _EMBEDDING if name in parameters}
            embeds = self.model.tower(modality).encode(items, convert_to="numpy", **options, **units)
            return embeds.astype(np.float32).tolist()
        if modality == "text":
            raise ValueError("candidate_labels: images and depth maps are classified, and these inputs are texts")
        threshold = parameters.get("threshold")
        classifier = self._classifier(
            tuple(parameters["candidate_labels"]),
            parameters.get("hypothesis_template"),
            threshold == _CALIBRATED,
        )
        top_k = parameters.get("top_k", len(classifier.labels))
        return classifier.classify(items, modality, top_k=top_k, threshold=threshold, **units)

    def _new_classifier(self, labels: tuple[str, ...], template: str | None, is_calibrated: bool) -> Any:
        templates: Any = template or "a photo of a {}."
        if template is None and is_calibrated:
            templates = self._calibration_of(self.model).templates
        return self._make_classifier(self.model, list(labels), templates)

    def _modality(self, inputs: list[object], stated: object) -> str:
        """What the inputs are, all of them: as they or the parameters say, or as the first of them looks."""
        towers = tuple(self.model.towers)
        found: set[str] = set()
        for index, value in enumerate(inputs):
            if isinstance(value, Mapping):
                if not value or set(value) - set(_KEYS):
                    keys = ", ".join(map(str, value)) or "nothing"
                    raise ValueError(f"inputs[{index}]: a mapping with {keys}, expected one of {', '.join(_KEYS)}")
                found |= set(value)
        if stated is not None:
            found.add(str(stated))
        if not found:
            first = inputs[0]
            if isinstance(first, str) and not first.startswith("data:") and "text" in towers:
                found = {"text"}
            elif isinstance(first, list):
                found = {"depth"}
            else:
                picture = {"bytes": _content(first, "inputs[0]")} if isinstance(first, (str, bytes)) else first
                found = {self._modality_of(self.model, picture)}
        if len(found) > 1:
            raise ValueError(f"inputs of several kinds ({', '.join(sorted(found))}): send a request for each")
        (modality,) = found
        if modality not in towers:
            raise ValueError(f"modality {modality!r}: this model embeds {', '.join(towers)}")
        return modality


def _from_repo(path: str, name: str) -> Any:
    """Something of the model's code: FILE.NAME."""
    return get_class_from_dynamic_module(name, path)


def _checked(parameters: object) -> dict[str, Any]:
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise ValueError(f"parameters are a mapping, got {_kind(parameters)}")
    known = ("modality", *_LABELS, *_EMBEDDING, *_UNITS)
    if unknown := [str(name) for name in parameters if name not in known]:
        raise ValueError(f"unknown parameters {', '.join(unknown)}; there are {', '.join(known)}")
    checked = {name: value for name, value in parameters.items() if value is not None}
    labels = checked.get("candidate_labels")
    if isinstance(labels, str):
        checked["candidate_labels"] = [label.strip() for label in labels.split(",")]
    elif labels is not None and not isinstance(labels, (list, tuple)):
        raise ValueError(f"candidate_labels is a list of words, got {_kind(labels)}")
    elif labels is not None and not all(isinstance(label, str) for label in labels):
        raise ValueError(f"candidate_labels is a list of words, got {labels!r}")
    elif labels is None and (alone := [name for name in _LABELS if name in checked]):
        raise ValueError(f"{', '.join(alone)}: for a classification, which candidate_labels ask for")
    if labels is not None and (others := [name for name in _EMBEDDING if name in checked]):
        raise ValueError(f"{', '.join(others)}: for embeddings, and candidate_labels ask for a classification")
    for name, (kind, noun) in _TYPES.items():
        if name in checked and type(checked[name]) is not kind:  # True is an int too
            raise ValueError(f"{name} is {noun}, got {checked[name]!r}")
    threshold = checked.get("threshold")
    if isinstance(threshold, str) and threshold != _CALIBRATED:  # of the address of a request, where all is text
        try:
            checked["threshold"] = float(threshold)
        except ValueError:
            raise ValueError(f"threshold is a cosine or {_CALIBRATED!r}, got {threshold!r}") from None
    return checked


def _listed(inputs: object) -> tuple[list[object], bool]:
    """The inputs as a list, and whether there was one alone. Rows of numbers are one depth map."""
    if not isinstance(inputs, list) or _is_rows(inputs):
        return [inputs], True
    if not inputs:
        raise ValueError("inputs is an empty list")
    return inputs, False


def _is_rows(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and isinstance(value[0], list)
        and bool(value[0])
        and isinstance(value[0][0], (int, float))
    )


def _item(value: object, modality: str, name: str) -> object:
    """An input as `encode` takes it; strings are texts or contents of files, and never paths."""
    if isinstance(value, Mapping):
        value = value[modality]
    if modality == "text":
        if not isinstance(value, str):
            raise ValueError(f"{name}: expected a text, got {_kind(value)}")
        return value
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, (str, bytes)):
        return {"bytes": _content(value, name)}
    if modality == "depth" and isinstance(value, list):
        return _map(value, name)
    kinds = "a file in base64" + (", or rows of numbers" if modality == "depth" else "")
    raise ValueError(f"{name}: expected {kinds}, got {_kind(value)}")


def _kind(value: object) -> str:
    return type(value).__name__


def _content(value: str | bytes, name: str) -> bytes:
    """The content of a file, from base64 or as it is."""
    if isinstance(value, bytes):
        return value
    data = value.partition(",")[2] if value.startswith("data:") else value
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        content = b""
    if not content:
        raise ValueError(f"{name}: a string that is no base64 of a file's content")
    return content


def _map(rows: list[object], name: str) -> "np.ndarray[Any, Any]":
    try:
        array = np.array(rows, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: rows of a depth map have equal lengths, and are numbers") from None
    if array.ndim != 2:
        raise ValueError(f"{name}: numbers of shape {list(array.shape)}, expected rows [H, W] of a depth map")
    return array
