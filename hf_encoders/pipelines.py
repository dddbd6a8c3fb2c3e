"""Pipelines of transformers for depth maps: "depth-feature-extraction" and "depth-zero-shot-classification".

The built-in image pipelines make 8-bit RGB of every file, which cuts 16-bit depth off at 255.
"""

from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import ImageFeatureExtractionPipeline, Pipeline

from .modalities import modalities
from .models.image_processing_depth import DepthImageProcessor
from .models.pixel_towers import is_single_map
from .zero_shot import ZeroShotClassifier


class DepthPipeline(Pipeline):
    """What the pipelines of depth maps share: the processor, and what they take.

    Args:
        model: a depth semantic encoder, or a multimodal encoder with a depth tower.
        task: its name.
        image_processor: a `DepthImageProcessor` in the place of that beside the weights; the model keeps it.
        processor: the same for a multimodal encoder, whose processor it replaces.
        options: `device`, `batch_size`, ... of every pipeline.

    Raises:
        ValueError: if there is no model, or it does not embed what the task needs, or has no processor for it.
        OSError: if the model's repo has no processor.
    """

    # Loaded where the repo has them: the first beside a depth encoder, the second beside a multimodal encoder.
    _load_image_processor = None
    _load_processor = None
    _load_feature_extractor = False
    _load_video_processor = False
    _load_tokenizer = False
    _embeds: tuple[str, ...] = ("depth",)

    def __init__(self, model: Any, task: str = "", image_processor: Any = None, processor: Any = None, **options: Any):
        if model is None:
            raise ValueError(f"{task} has no default model; give one: pipeline({task!r}, model=...)")
        self._encoder = model.base_model  # of a classifier, too
        known = modalities(self._encoder)
        if not set(self._embeds) <= set(known):
            raise ValueError(
                f"{task} needs a model that embeds {' and '.join(self._embeds)}; this {type(model).__name__} embeds"
                f" {' and '.join(known) or 'neither texts, images nor depth maps'}"
            )
        depth_processor = _depth_processor(self._encoder, image_processor, processor)
        super().__init__(model=model, task=task, image_processor=depth_processor, **options)

    def __call__(self, inputs: Any, **options: Any) -> Any:
        """Run the pipeline.

        Args:
            inputs: what `DepthImageProcessor` reads, at the precision it was stored in: a path, a PIL image, an array
                or a tensor [H, W]; or many: a list, an array [N, H, W] or [N, C, H, W], a `datasets` column, a
                `KeyDataset`, any iterable.
            options: of the pipeline, and `batch_size`, `num_workers` and `image_processor_kwargs` (settings of the
                `DepthImageProcessor`, such as `{"unit_scale": 0.001}`) for this call.

        Returns:
            The result of a single input, a list of results of many; for a `KeyDataset` or what has no length an
            iterator, which reads as it goes.

        Raises:
            ValueError: for an input that cannot be used; its path or index is named.
        """
        if hasattr(inputs, "column_names"):
            raise ValueError(f"a data set, expected one of its columns: {', '.join(inputs.column_names or ())}")
        if isinstance(inputs, Dataset) and isinstance(inputs, Sized):
            return super().__call__(_Numbered(inputs), **options)
        if is_single_map(inputs):
            return super().__call__((0, inputs), **options)
        if isinstance(inputs, (Sequence, np.ndarray, Tensor)):
            return list(super().__call__(_Numbered(inputs), **options))
        return super().__call__((pair for pair in enumerate(inputs)), **options)

    def preprocess(self, numbered: tuple[int, Any], **settings: Any) -> dict[str, Tensor]:
        """A map and its position, which messages name → `pixel_values` [1, C, H, W]."""
        index, depth_map = numbered
        return dict(self.image_processor([depth_map], first_index=index, return_tensors="pt", **settings))

    def _forward(self, model_inputs: dict[str, Tensor]) -> Any:
        features = getattr(self._encoder, "get_depth_features", self._encoder)
        return features(model_inputs["pixel_values"], return_dict=True)

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Save the model and its processor; no code, without which transformers would not open the repo any more."""
        self.model.save_pretrained(save_directory, **options)


class DepthFeatureExtractionPipeline(DepthPipeline, ImageFeatureExtractionPipeline):
    """`pipeline("depth-feature-extraction", model=...)`: depth maps → features.

    As the built-in "image-feature-extraction" gives nested lists of the last hidden state; with `pool=True`, of the
    embedding [1, D] that `encode` and `encode_depth` give, not normalised; with `return_tensors=True`, tensors.
    """


class DepthZeroShotClassificationPipeline(DepthPipeline):
    """`pipeline("depth-zero-shot-classification", model=...)`: depth maps and labels → scores, by a multimodal encoder.

    The labels are embedded once a call.
    """

    _embeds = ("depth", "text")

    def __init__(self, **options: Any):
        super().__init__(**options)
        _ = self._encoder.text_tokenizer  # ValueError now, rather than at the first call

    def __call__(
        self,
        inputs: Any,
        candidate_labels: Sequence[str] = (),
        hypothesis_template: str = "a photo of a {}.",
        **options: Any,
    ) -> Any:
        """Classify depth maps.

        Args:
            inputs: as for every depth pipeline: one map or many.
            candidate_labels: different strings, such as "chair".
            hypothesis_template: the prompt, with one `{}` where the label goes.
            options: as for every depth pipeline.

        Returns:
            For each map a list of `{"score": ..., "label": ...}`, the best first, as "zero-shot-image-classification"
            gives. Scores are the softmax of cosine / temperature over all labels.

        Raises:
            ValueError: for labels or a template that make no sense, or an input that cannot be used.
        """
        classifier = ZeroShotClassifier(self._encoder, candidate_labels, hypothesis_template)
        return super().__call__(inputs, classifier=classifier, **options)

    def _sanitize_parameters(
        self, classifier: Any = None, image_processor_kwargs: dict[str, Any] | None = None, **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        return image_processor_kwargs or {}, {}, {} if classifier is None else {"classifier": classifier}

    def _forward(self, model_inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"depth_embeds": nn.functional.normalize(super()._forward(model_inputs).pooler_output.float(), dim=-1)}

    def postprocess(self, model_outputs: dict[str, Tensor], classifier: ZeroShotClassifier) -> list[dict[str, Any]]:
        """Embeddings [1, D] → labels and scores."""
        (result,) = classifier.classify_embeddings(model_outputs["depth_embeds"], top_k=len(classifier.labels))
        return result


class _Numbered(Dataset):
    """Maps with their positions, read when they are asked for."""

    def __init__(self, maps: Any):
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, self._maps[index]


def _depth_processor(model: Any, image_processor: Any, processor: Any) -> Any:
    """What reads a model's depth maps, after what was loaded or given for it became the model's own."""
    if "text" not in modalities(model):
        if image_processor is not None:
            model.processor = image_processor
        return model.processor
    if processor is not None:
        model.processor = processor
    if isinstance(image_processor, DepthImageProcessor):  # else it is the one of its images
        model.processor.depth_image_processor = image_processor
    return model.depth_processor


__all__ = ["DepthFeatureExtractionPipeline", "DepthPipeline", "DepthZeroShotClassificationPipeline"]
