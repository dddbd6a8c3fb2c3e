"""`encode_text`, `encode_image`, `encode_depth`: any input → unit vectors in the shared space."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import torch
from transformers.image_processing_utils import BaseImageProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling as Outputs
from transformers.modeling_utils import PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .configuration_multimodal_encoder import MultimodalEncoderConfig
from .depth_units import DepthEncodeOptions, DepthUnits, encode_depth_method
from .encoding import BackendName, DtypeName, Encoded, EncodeOptions, Pictures, Texts, encode_method
from .image_processing_depth import DepthImageProcessor
from .input_modality import inputs_modality
from .pixel_towers import DepthTower, ImageTower
from .processing_multimodal_encoder import MultimodalEncoderProcessor
from .saved_processor import ProcessorPart, RepoSource, SavedProcessor
from .text_tower import PROMPTS_FILE, TextTower, read_prompts
from .tower import MODALITIES, Encoder, Modality, check_tower, prepare_towers

if TYPE_CHECKING:  # the mixin stands before SavedProcessorMixin, whose methods it extends
    from .saved_processor import SavedProcessorMixin

    _Base = SavedProcessorMixin[MultimodalEncoderProcessor]
else:
    _Base = object

_MAY_BE_ABSENT = {
    "_raise_exceptions_for_missing_entries": False,
    "_raise_exceptions_for_gated_repo": False,
    "_raise_exceptions_for_connection_errors": False,
}


def encode_any(model: Encoder, inputs: object, batch_size: int, options: DepthEncodeOptions) -> Encoded:
    """See `MultimodalEncodingMixin.encode`."""
    modality, inputs = inputs_modality(inputs, model.towers)
    units = [name for name in DepthUnits.__annotations__ if name in options]
    if units and modality != "depth":
        raise ValueError(f"{', '.join(units)}: for depth maps alone, and the inputs are {modality}s")
    return model.tower(modality).encode(inputs, batch_size, **cast(EncodeOptions, options))


class MultimodalEncodingMixin(_Base):
    """Adds the towers and the `encode_...` methods over the `get_..._features` of the model.

    Each method takes raw inputs, one or many, or what the processor returned for them. It embeds them in batches, in
    evaluation and inference mode: no gradients. `forward` and `get_..._features` keep the gradients and the mode: train
    with them. The options are `EncodeOptions`; `normalize` is true by default.

    Each returns [N, D] float32 in the order given, [0, D] for no input; each raises ValueError or TypeError for an
    option out of range, a tower that the model does not have, or an input that cannot be used, which is named by its
    path or index.

    ```python
    texts = model.encode_text(["a red chair", "a table"])                          # [2, D], of length 1
    images = model.encode_image(["chair.jpg", "broken.jpg"], on_error="skip")       # ([1, D], [True, False])
    inputs = model.processor(text=["a red chair"], images=["chair.jpg"])
    loss = model(**inputs, return_loss=True).loss                                   # with gradients
    ```

    Attributes:
        prompts: what goes before texts, by name: "query" in `encode_query`, "document" in `encode_document`. They are
            read from the repo's config_sentence_transformers.json, and saved there.
    """

    prompts: Mapping[str, str] = MappingProxyType({})
    config: MultimodalEncoderConfig
    saved_processor: SavedProcessor[MultimodalEncoderProcessor] | ProcessorPart[MultimodalEncoderProcessor]
    text_encoder: PreTrainedModel
    get_text_features: Callable[..., Outputs]
    get_image_features: Callable[..., Outputs]
    get_depth_features: Callable[..., Outputs]

    @property
    def text_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that was saved beside the weights; ValueError if there is none."""
        return self._tokenizer.get()

    @property
    def image_processor(self) -> BaseImageProcessor:
        """The image processor that was saved beside the weights; ValueError if there is none."""
        return self._image_processor.get()

    @property
    def depth_processor(self) -> DepthImageProcessor:
        """The `DepthImageProcessor` that was saved beside the weights; ValueError if there is none."""
        return self._depth_processor.get()

    @property
    def towers(self) -> tuple[Modality, ...]:
        """The modalities that the model embeds: "text", "image" and, where it has the tower, "depth"."""
        has_depth = self.config.depth_config is not None
        return tuple(name for name in MODALITIES if has_depth or name != "depth")

    @overload
    def tower(self, name: Literal["text"]) -> TextTower: ...

    @overload
    def tower(self, name: Literal["image"]) -> ImageTower: ...

    @overload
    def tower(self, name: Literal["depth"]) -> DepthTower: ...

    @overload
    def tower(self, name: str) -> TextTower | ImageTower | DepthTower: ...

    def tower(self, name: str) -> TextTower | ImageTower | DepthTower:
        """The tower of a modality.

        Raises:
            ValueError: if the model does not embed it; the message lists what it embeds.
        """
        check_tower(name, self.towers)
        model = cast(PreTrainedModel, self)
        size = self.config.projection_dim
        if name == "text":
            tokenizer, network = self._tokenizer, self.text_encoder
            return TextTower(model, self.get_text_features, tokenizer, size, network, normalize=True)
        if name == "image":
            return ImageTower(model, self.get_image_features, self._image_processor, size, normalize=True)
        return DepthTower(model, self.get_depth_features, self._depth_processor, size, normalize=True)

    def prompted_tower(self, name: str) -> TextTower:
        """The tower of texts with the prompt of a name, "query" or "document", before them."""
        return self.tower("text").with_prompt(self.prompts.get(name, ""))

    @encode_depth_method
    def encode(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[DepthEncodeOptions]) -> Encoded:
        """Embed texts, images or depth maps, by what they are; all of them are one kind.

        ```python
        model.encode(["a red chair", "a table"])          # texts
        model.encode(["chair.jpg", "table.jpg"])          # files of colours: images
        model.encode(["chair.npy", "table_16bit.png"])    # files of numbers: depth maps
        ```

        Args:
            inputs: what `encode_text`, `encode_image` or `encode_depth` takes. A string is the path of a picture where
                there is such a file, else a text. Pictures and arrays of more than 8 bits in one channel are depth
                maps; see `inputs_modality`.
            batch_size: how many inputs the model sees at a time; it does not change the result.
            options: see `encode_depth`; units are for depth maps alone.

        Raises:
            ValueError: if inputs are of several kinds or may be of several: then call the method that is meant.
        """
        return encode_any(cast(Encoder, self), inputs, batch_size, options)

    @encode_method
    def encode_text(self, inputs: Texts, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed texts.

        Args:
            inputs: a string, a list or `datasets` column of strings, any iterable; or the tokenizer's output. Strings
                are sorted by length inside, and cut at the limit of the model or of the tokenizer
                (`model_max_length`), whichever is less, with one warning that counts those that are cut.
            batch_size: how many inputs the model sees at a time; it does not change the result.
            options: see `EncodeOptions`.
        """
        return self.tower("text").encode(inputs, batch_size, **options)

    @encode_method
    def encode_query(self, inputs: Texts, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed what is searched for: as `encode_text`, with the prompt "query" before each text."""
        return self.prompted_tower("query").encode(inputs, batch_size, **options)

    @encode_method
    def encode_document(self, inputs: Texts, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed what is found: as `encode_text`, with the prompt "document" before each text."""
        return self.prompted_tower("document").encode(inputs, batch_size, **options)

    @encode_method
    def encode_image(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Encoded:
        """Embed images.

        Args:
            inputs: what `read_image` reads (paths, PIL images of any mode, arrays [H, W], [H, W, C], [C, H, W]), one or
                many, a `datasets` column; or the processor's output or `pixel_values`, a 4-dimensional
                floating-point *tensor*. A picture is embedded as a viewer shows it: upright, in RGB, what is
                transparent on white, 16 bits scaled to 8.
            batch_size: how many inputs the model sees at a time; it does not change the result.
            options: see `EncodeOptions`.
        """
        return self.tower("image").encode(inputs, batch_size, **options)

    @encode_depth_method
    def encode_depth(self, inputs: Pictures, batch_size: int = 32, **options: Unpack[DepthEncodeOptions]) -> Encoded:
        """Embed depth maps.

        ```python
        embeddings = model.encode_depth(["a.png", "b.png"], preset="tum")     # 16-bit PNG in 1/5000 metre
        embeddings = model.encode_depth(maps, unit_scale=1)                    # metres
        ```

        Args:
            inputs: what `DepthImageProcessor` reads, one map or many, a `datasets` column; or the processor's output
                or `depth_values`, a 4-dimensional floating-point *tensor*.
            batch_size: how many inputs the model sees at a time; it does not change the result.
            options: see `EncodeOptions`, and `DepthUnits` for what the raw values mean: by default what they meant in
                training. Depths that lie elsewhere than the training maps are warned about (`DepthRangeWarning`).
        """
        self.require_depth_tower()
        return self.tower("depth").encode(inputs, batch_size, **options)

    def prepare(
        self,
        modalities: Modality | Sequence[Modality] | None = None,
        *,
        backend: BackendName = "openvino",
        dtype: DtypeName | torch.dtype | None = None,
    ) -> None:
        """Load processors and compile towers now, so that the first request does not wait for it.

        Threads of a server share what is compiled. A process that is forked afterwards compiles anew.

        ```python
        model.prepare(backend="openvino")                       # every tower
        model.prepare("text", backend="onnx")                   # one
        ```

        Args:
            modalities: "text", "image", "depth", or several of them; by default all of the model.
            backend: "openvino" or "onnx"; with "torch" there is nothing to compile.
            dtype: as in `encode_text`.

        Raises:
            ValueError: if the model has no such tower, or the backend no such precision.
            ImportError: if the backend is not installed.
        """
        prepare_towers(cast(Encoder, self), modalities, backend, dtype)

    def require_depth_tower(self) -> None:
        """Raise ValueError if the model has no depth tower."""
        if self.config.depth_config is None:
            raise ValueError("this model has no depth tower; build one with from_towers(text=, vision=, depth=)")

    def save_pretrained(self, save_directory: str | os.PathLike[str], *arguments: Any, **options: Any) -> None:
        """Save the weights and the processor, and the prompts if there are any; see `SavedProcessorMixin`."""
        super().save_pretrained(save_directory, *arguments, **options)
        is_main: bool = arguments[0] if arguments else options.get("is_main_process", True)
        path = Path(save_directory) / PROMPTS_FILE
        if is_main and (path.is_file() or any(self.prompts.values())):
            kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"similarity_fn_name": "cosine"}
            path.write_text(json.dumps({**kept, "prompts": dict(self.prompts)}, indent=2), encoding="utf-8")

    def _belongs_to(self, source: RepoSource, name: str, options: Mapping[str, object]) -> None:
        super()._belongs_to(source, name, options)
        self.prompts = read_prompts(self.source.find(PROMPTS_FILE, **_MAY_BE_ABSENT)) if self.source.name else {}

    @property
    def _tokenizer(self) -> ProcessorPart[PreTrainedTokenizerBase]:
        return ProcessorPart(self.saved_processor, "tokenizer")

    @property
    def _image_processor(self) -> ProcessorPart[BaseImageProcessor]:
        return ProcessorPart(self.saved_processor, "image_processor")

    @property
    def _depth_processor(self) -> ProcessorPart[DepthImageProcessor]:
        return ProcessorPart(self.saved_processor, "depth_image_processor")
