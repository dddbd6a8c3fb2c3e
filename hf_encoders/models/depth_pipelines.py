"""Pipelines of transformers for depth maps: "depth-feature-extraction" and "depth-zero-shot-classification".

The built-in image pipelines make 8-bit RGB of every file, which cuts 16-bit depth off at 255.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from os import PathLike
from typing import Any, Protocol, TypeAlias, cast, overload

import numpy as np
import PIL.Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import ImageFeatureExtractionPipeline, Pipeline, PreTrainedModel
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin, Unpack
from transformers.utils import ModelOutput

from .depth_units import DepthUnits, RangeCheck
from .encoding import Pictures
from .image_processing_depth import DepthImageProcessor, DepthMap
from .model_modalities import modalities
from .pixel_towers import DepthTower, is_single_map
from .saved_processor import SaveOptions
from .tower import Encoder, pooler_output
from .zero_shot_calibration import CALIBRATED, Threshold, calibration_of
from .zero_shot_classifier import Score, SharedSpace, ZeroShotClassifier, check_threshold

# One map, and many.
OneMap: TypeAlias = str | PathLike[str] | PIL.Image.Image
Maps: TypeAlias = list[str] | list[PIL.Image.Image] | list[Tensor]
# Nested lists of numbers, or tensors.
Features: TypeAlias = Tensor | list["Features"] | float


class CallOptions(DepthUnits, total=False):
    """The options of a call of any pipeline of depth maps; `preset`, `unit_scale`, ... are among them.

    Args:
        batch_size: how many maps the model sees at a time; by default that of the pipeline.
        num_workers: processes that read maps; by default those of the pipeline.
        image_processor_kwargs: settings of the `DepthImageProcessor`, such as `{"unit_scale": 0.001}`.
    """

    batch_size: int
    num_workers: int
    image_processor_kwargs: Mapping[str, object]


class FeatureOptions(CallOptions, total=False):
    """The options of a call of the pipeline of features.

    Args:
        pool: give the embedding [1, D] instead of the last hidden state.
        return_tensors: give tensors instead of nested lists.
    """

    pool: bool
    return_tensors: bool


class _WithProcessor(Encoder, Protocol):
    """A model of ours, which keeps its processor."""

    processor: object


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
    # Transformers declares them None alone, and sets them as we do.
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_video_processor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]
    _embeds: tuple[str, ...] = ("depth",)

    def __init__(
        self,
        model: PreTrainedModel | None,
        task: str = "",
        image_processor: object = None,
        processor: ProcessorMixin | None = None,
        **options: Any,
    ):
        if model is None:
            raise ValueError(f"{task} has no default model; give one: pipeline({task!r}, model=...)")
        # A classifier has one, too. Remote code may bring its own classes, so `modalities` tells what it is.
        self._encoder = cast(_WithProcessor, model.base_model)
        known = modalities(self._encoder)
        if not set(self._embeds) <= set(known):
            raise ValueError(
                f"{task} needs a model that embeds {' and '.join(self._embeds)}; this {type(model).__name__} embeds"
                f" {' and '.join(known) or 'neither texts, images nor depth maps'}"
            )
        _take_processor(self._encoder, image_processor, processor)
        super().__init__(model=model, task=task, image_processor=self._tower.processor, **options)
        self._range_check = RangeCheck()

    def __call__(  # type: ignore[override]  # one input, and options by keyword
        self, inputs: Pictures | Dataset, **options: Unpack[CallOptions]
    ) -> object:
        """Run the pipeline.

        Args:
            inputs: what `DepthImageProcessor` reads, at the precision it was stored in: a path, a PIL image, an array
                or a tensor [H, W]; or many: a list, an array [N, H, W] or [N, C, H, W], a `datasets` column, a
                `KeyDataset`, any iterable.
            options: see `CallOptions`.

        Returns:
            The result of a single input, a list of results of many. A `KeyDataset` and an input without a length give
            an iterator, which reads as it goes.

        Raises:
            ValueError: for an input that cannot be used; its path or index is named.
        """
        return self._run(inputs, options)

    def _run(self, inputs: Pictures | Dataset, options: Mapping[str, object]) -> object:
        call = super().__call__
        units = {name: options[name] for name in DepthUnits.__annotations__ if name in options}
        if units:
            settings = {**units, **cast(Mapping[str, object], options.get("image_processor_kwargs", {}))}
            others = {name: value for name, value in options.items() if name not in units}
            options = {**others, "image_processor_kwargs": settings}
        self._range_check = RangeCheck()  # a call warns once
        if hasattr(inputs, "column_names"):
            raise ValueError(f"a data set, expected one of its columns: {', '.join(inputs.column_names or ())}")
        if isinstance(inputs, Dataset) and isinstance(inputs, Sized):
            return call(_Numbered(cast(_Maps, inputs)), **options)
        if is_single_map(inputs):
            return call((0, inputs), **options)
        if isinstance(inputs, (Sequence, np.ndarray, Tensor)):
            return list(call(_Numbered(inputs), **options))
        return call((pair for pair in enumerate(cast(Iterable[object], inputs))), **options)

    def preprocess(  # type: ignore[override]  # tensors alone
        self, numbered: tuple[int, DepthMap], **settings: object
    ) -> dict[str, Tensor]:
        """A map and its position, which messages name → `pixel_values` [1, C, H, W]."""
        index, depth_map = numbered
        check = self._range_check
        process: Callable[..., BatchFeature] = cast(DepthImageProcessor, self.image_processor).preprocess
        prepared = process([depth_map], first_index=index, return_tensors="pt", range_check=check, **settings)
        check.judge_now_and_then()
        return dict(prepared)

    @property
    def _tower(self) -> DepthTower:
        return cast(DepthTower, self._encoder.tower("depth"))

    def _forward(self, model_inputs: dict[str, Tensor]) -> ModelOutput:  # type: ignore[override]  # without options
        return self._tower.outputs(model_inputs)

    def save_pretrained(  # type: ignore[override]  # a model's own
        self, save_directory: str | PathLike[str], **options: Unpack[SaveOptions]
    ) -> None:
        """Save the model and its processor; no code, without which transformers would not open the repo any more."""
        self.model.save_pretrained(save_directory, **options)


# The built-in pipeline declares some of what `DepthPipeline` has, with other types.
class DepthFeatureExtractionPipeline(DepthPipeline, ImageFeatureExtractionPipeline):  # type: ignore[misc]
    """`pipeline("depth-feature-extraction", model=...)`: depth maps → features.

    It gives nested lists of the last hidden state, as the built-in "image-feature-extraction" does; with `pool=True`,
    of the embedding [1, D] that `encode` and `encode_depth` give, not normalised; with `return_tensors=True`, tensors.
    """

    @overload  # type: ignore[override]
    def __call__(self, inputs: OneMap, **options: Unpack[FeatureOptions]) -> Features: ...

    @overload
    def __call__(self, inputs: Maps, **options: Unpack[FeatureOptions]) -> list[Features]: ...

    @overload
    def __call__(
        self, inputs: Pictures | Dataset, **options: Unpack[FeatureOptions]
    ) -> Features | Iterator[Features]: ...

    def __call__(self, inputs: Pictures | Dataset, **options: Unpack[FeatureOptions]) -> Features | Iterator[Features]:
        """Compute features; the inputs, the results and the errors are those of every depth pipeline."""
        return cast(Features | Iterator[Features], self._run(inputs, options))


class DepthZeroShotClassificationPipeline(DepthPipeline):
    """`pipeline("depth-zero-shot-classification", model=...)`: depth maps and labels → scores, by a multimodal encoder.

    The labels are embedded once per call.
    """

    _embeds = ("depth", "text")

    def __init__(self, model: PreTrainedModel | None, **options: Any):
        super().__init__(model, **options)
        _ = self._encoder.tower("text").processor  # ValueError now, rather than at the first call

    @overload  # type: ignore[override]
    def __call__(
        self,
        inputs: OneMap,
        candidate_labels: Sequence[str] = (),
        hypothesis_template: str | None = None,
        threshold: Threshold = None,
        **options: Unpack[CallOptions],
    ) -> list[Score]: ...

    @overload
    def __call__(
        self,
        inputs: Maps,
        candidate_labels: Sequence[str] = (),
        hypothesis_template: str | None = None,
        threshold: Threshold = None,
        **options: Unpack[CallOptions],
    ) -> list[list[Score]]: ...

    @overload
    def __call__(
        self,
        inputs: Pictures | Dataset,
        candidate_labels: Sequence[str] = (),
        hypothesis_template: str | None = None,
        threshold: Threshold = None,
        **options: Unpack[CallOptions],
    ) -> list[Score] | list[list[Score]] | Iterator[list[Score]]: ...

    def __call__(
        self,
        inputs: Pictures | Dataset,
        candidate_labels: Sequence[str] = (),
        hypothesis_template: str | None = None,
        threshold: Threshold = None,
        **options: Unpack[CallOptions],
    ) -> list[Score] | list[list[Score]] | Iterator[list[Score]]:
        """Classify depth maps.

        Args:
            inputs: as for every depth pipeline: one map or many.
            candidate_labels: different strings, such as "chair".
            hypothesis_template: the prompt, with one `{}` where the label goes; by default "a photo of a {}.", or with
                a calibrated threshold the prompts that it was measured with.
            threshold: see `ZeroShotClassifier.classify`: a map that no label is as similar to gets one answer, whose
                label is None. "calibrated" takes what the model carries.
            options: as for every depth pipeline.

        Returns:
            For each map a list of `{"score": ..., "label": ...}`, the best first, as "zero-shot-image-classification"
            gives, and with `similarity`; see `Score`.

        Raises:
            ValueError: for labels, a template or a threshold that make no sense, or an input that cannot be used.
        """
        check_threshold(threshold)
        encoder = cast(SharedSpace, self._encoder)  # as it embeds texts
        templates: str | Sequence[str] = hypothesis_template or "a photo of a {}."
        if threshold == CALIBRATED and hypothesis_template is None:
            templates = calibration_of(encoder).templates
        classifier = ZeroShotClassifier(encoder, candidate_labels, templates)
        if threshold == CALIBRATED:
            classifier.calibration.of("depth")  # before anything is read
        scores = self._run(inputs, {**options, "classifier": classifier, "threshold": threshold})
        return cast(list[Score] | list[list[Score]] | Iterator[list[Score]], scores)

    def _sanitize_parameters(
        self,
        classifier: ZeroShotClassifier | None = None,
        threshold: Threshold = None,
        image_processor_kwargs: dict[str, object] | None = None,
        **options: object,
    ) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
        answering: dict[str, object] = {"classifier": classifier, "threshold": threshold} if classifier else {}
        return image_processor_kwargs or {}, {}, answering

    def _forward(self, model_inputs: dict[str, Tensor]) -> ModelOutput:  # type: ignore[override]
        embeds = pooler_output(self._tower.outputs(model_inputs), model_inputs)
        return ModelOutput(depth_embeds=nn.functional.normalize(embeds.float(), dim=-1))

    def postprocess(  # type: ignore[override]  # with its one parameter
        self, model_outputs: dict[str, Tensor], classifier: ZeroShotClassifier, threshold: Threshold = None
    ) -> list[Score]:
        """Embeddings [1, D] → labels and scores."""
        embeds, count = model_outputs["depth_embeds"], len(classifier.labels)
        (result,) = classifier.classify_embeddings(embeds, top_k=count, threshold=threshold, modality="depth")
        return result


class _Maps(Protocol):
    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


class _Numbered(Dataset):
    """Maps with their positions, read when they are asked for."""

    def __init__(self, maps: _Maps):
        self._maps = maps

    def __len__(self) -> int:
        return len(self._maps)

    def __getitem__(self, index: int) -> tuple[int, object]:
        return index, self._maps[index]


def _take_processor(model: _WithProcessor, image_processor: object, processor: ProcessorMixin | None) -> None:
    """Let what was loaded or given for the pipeline become the model's own processor."""
    if "text" not in model.towers:
        if image_processor is not None:
            model.processor = image_processor
        return
    if processor is not None:
        model.processor = processor
    # Else it is the processor of the model's images. Transformers imports a folder's code once for the model and once
    # for the pipeline, so there are two classes of the name.
    if DepthImageProcessor.__name__ in [cls.__name__ for cls in type(image_processor).__mro__]:
        model.tower("depth").processor = image_processor


__all__ = ["DepthFeatureExtractionPipeline", "DepthPipeline", "DepthZeroShotClassificationPipeline"]
