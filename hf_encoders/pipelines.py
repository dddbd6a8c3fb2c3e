"""Pipelines of transformers for depth maps: "depth-feature-extraction" and "depth-zero-shot-classification".

The built-in image pipelines make 8-bit RGB of every file, which cuts 16-bit depth off at 255.
"""

from collections.abc import Sequence, Sized
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import ImageFeatureExtractionPipeline, Pipeline
from transformers.utils import ModelOutput

from .modalities import modalities
from .models.image_processing_depth import DepthImageProcessor
from .models.pixel_towers import is_single_map
from .zero_shot import Score, ZeroShotClassifier


class DepthPipeline(Pipeline):
    """The base of the pipelines of depth maps: their processor and their inputs.

    Args:
        model: a depth semantic encoder, or a multimodal encoder with a depth tower.
        task: its name.
        image_processor: a `DepthImageProcessor` to replace the one beside the weights; the model keeps it.
        processor: the same for a multimodal encoder, whose processor it replaces.
        options: `device`, `batch_size`, ... of every pipeline.

    Raises:
        ValueError: if there is no model, or it does not embed what the task needs, or has no processor for it.
        OSError: if the model's repo has no processor.
    """

    # Transformers loads them where the repo has them: a depth encoder has the first, a multimodal encoder the second.
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
        _take_processor(self._encoder, image_processor, processor)
        tower = self._encoder.tower("depth")
        super().__init__(model=model, task=task, image_processor=tower.processor, **options)

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

    def preprocess(self, numbered: tuple[int, object], **settings: Any) -> dict[str, Tensor]:
        """A map and its position, which messages name → `pixel_values` [1, C, H, W]."""
        index, depth_map = numbered
        return dict(self.image_processor([depth_map], first_index=index, return_tensors="pt", **settings))

    def _forward(self, model_inputs: dict[str, Tensor]) -> ModelOutput:
        return self._encoder.tower("depth").outputs(model_inputs)

    def save_pretrained(self, save_directory: Any, **options: Any) -> None:
        """Save the model and its processor; no code, without which transformers would not open the repo any more."""
        self.model.save_pretrained(save_directory, **options)


class DepthFeatureExtractionPipeline(DepthPipeline, ImageFeatureExtractionPipeline):
    """`pipeline("depth-feature-extraction", model=...)`: depth maps → features.

    It gives nested lists of the last hidden state, as the built-in "image-feature-extraction" does; with `pool=True`,
    of the embedding [1, D] that `encode` and `encode_depth` give, not normalised; with `return_tensors=True`, tensors.
    """


class DepthZeroShotClassificationPipeline(DepthPipeline):
    """`pipeline("depth-zero-shot-classification", model=...)`: depth maps and labels → scores, by a multimodal encoder.

    The labels are embedded once per call.
    """

    _embeds = ("depth", "text")

    def __init__(self, **options: Any):
        super().__init__(**options)
        _ = self._encoder.tower("text").processor  # ValueError now, rather than at the first call

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

    def postprocess(self, model_outputs: dict[str, Tensor], classifier: ZeroShotClassifier) -> list[Score]:
        """Embeddings [1, D] → labels and scores."""
        (result,) = classifier.classify_embeddings(model_outputs["depth_embeds"], top_k=len(classifier.labels))
        return result


class _Maps(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


class _Numbered(Dataset):
    """Maps with their positions, read when they are asked for."""

    def __init__(self, maps: _Maps):
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> tuple[int, object]:
        return index, self._maps[index]


def _take_processor(model: Any, image_processor: object, processor: object) -> None:
    """Let what was loaded or given for the pipeline become the model's own processor."""
    if "text" not in model.towers:
        if image_processor is not None:
            model.processor = image_processor
        return
    if processor is not None:
        model.processor = processor
    if isinstance(image_processor, DepthImageProcessor):  # else it is the processor of the model's images
        model.tower("depth").processor = image_processor


__all__ = ["DepthFeatureExtractionPipeline", "DepthPipeline", "DepthZeroShotClassificationPipeline"]
