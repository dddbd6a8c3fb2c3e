"""`encode_text`, `encode_image`, `encode_depth`: any input → unit vectors in the shared space."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.processing_utils import Unpack

from .encoding import EncodeOptions, Encoding, EncodingMixin, shaped
from .multimodal_towers import token_limit
from .pixel_towers import processed_pixels, raw_depth_encoding, raw_image_encoding, warn_of_raw_values
from .text_tower import raw_text_encoding

# Standardised pixels stay far below.
_LARGEST_PIXEL = 16.0
_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")


class MultimodalEncodingMixin(EncodingMixin):
    """Adds the `encode_...` methods over `get_text_features`, `get_image_features` and `get_depth_features`.

    Each takes raw inputs, one or many, and embeds them in batches, in evaluation and inference mode; or what the
    processor gave for them, which is embedded in one pass, with gradients and in the mode that the model is in, as the
    legacy code trained. The options are `EncodeOptions`; `normalize` is true by default.

    Each returns [N, D] (float32 for raw inputs) in the order given, [0, D] for no input; each raises ValueError or
    TypeError for an option out of range, a tower that the model does not have, or an input that cannot be used, which
    is named by its path or index.
    """

    get_text_features: Callable[..., Any]
    get_image_features: Callable[..., Any]
    get_depth_features: Callable[..., Any]

    @property
    def text_tokenizer(self) -> Any:
        """The tokenizer that was saved beside the weights; ValueError if there is none."""
        return self.processor.part("tokenizer")

    @property
    def image_processor(self) -> Any:
        """The image processor that was saved beside the weights; ValueError if there is none."""
        return self.processor.part("image_processor")

    @property
    def depth_processor(self) -> Any:
        """The `DepthImageProcessor` that was saved beside the weights; ValueError if there is none."""
        return self.processor.part("depth_image_processor")

    def encode_text(self, inputs: Any, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Any:
        """Embed texts.

        Args:
            inputs: a string, a list or `datasets` column of strings, any iterable; or the tokenizer's output. Strings
                are sorted by length inside, and cut at the limit of the model or of the tokenizer
                (`model_max_length`), whichever is less, with one warning.
            batch_size: how many strings the model sees at a time.
            options: see `EncodeOptions`.
        """
        if isinstance(inputs, Mapping):
            if "input_ids" not in inputs:
                raise ValueError(f"a mapping with {', '.join(map(str, inputs)) or 'nothing'}, expected input_ids")
            tokens = {name: inputs[name] for name in _TEXT_INPUTS if name in inputs}
            return self._encode_processed("text", tokens, self._embed_text, **options)
        encoding = raw_text_encoding(
            inputs, self._matching_tokenizer, self._token_limit(), self._embed_text, self.config.projection_dim
        )
        return self._encode_raw(encoding, batch_size, **options)

    def encode_image(self, inputs: Any, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Any:
        """Embed images.

        Args:
            inputs: what `read_image` reads (paths, PIL images of any mode, arrays [H, W], [H, W, C], [C, H, W]), one or
                many, a `datasets` column; or the processor's output or `pixel_values`, a 4-dimensional
                floating-point *tensor*.
            batch_size: how many raw images the model sees at a time.
            options: see `EncodeOptions`.
        """
        pixel_values = processed_pixels(inputs)
        if pixel_values is not None:
            warn_of_raw_values(inputs, _LARGEST_PIXEL, "image")
            return self._encode_processed("image", {"pixel_values": pixel_values}, self._embed_image, **options)
        encoding = raw_image_encoding(
            inputs, lambda: self.image_processor, self._embed_image, self.config.projection_dim
        )
        return self._encode_raw(encoding, batch_size, **options)

    def encode_depth(self, inputs: Any, batch_size: int = 32, **options: Unpack[EncodeOptions]) -> Any:
        """Embed depth maps.

        Args:
            inputs: what `DepthImageProcessor` reads, one map or many, a `datasets` column; or the processor's output
                or `depth_values`, a 4-dimensional floating-point *tensor*.
            batch_size: how many raw maps the model sees at a time.
            options: see `EncodeOptions`.
        """
        self.require_depth_tower()
        depth_values = processed_pixels(inputs, ("depth_values", "pixel_values"))
        if depth_values is not None:
            warn_of_raw_values(inputs, 1.01, "depth map")
            return self._encode_processed("depth", {"pixel_values": depth_values}, self._embed_depth, **options)
        encoding = raw_depth_encoding(
            inputs, lambda: self.depth_processor, self._embed_depth, self.config.projection_dim
        )
        return self._encode_raw(encoding, batch_size, **options)

    def require_depth_tower(self) -> None:
        """Raise ValueError if the model has no depth tower."""
        if self.config.depth_config is None:
            raise ValueError("this model has no depth tower; build one with from_towers(text=, vision=, depth=)")

    def _encode_raw(self, encoding: Encoding, batch_size: int, *, normalize: bool = True, **options: Any) -> Any:
        return self._encode(encoding, batch_size=batch_size, normalize=normalize, **options)

    def _encode_processed(
        self,
        tower: str,
        inputs: dict[str, Any],
        embed: Callable[[dict[str, Tensor]], Tensor],
        *,
        normalize: bool = True,
        truncate_dim: int | None = None,
        convert_to: str = "tensor",
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        backend: str = "torch",
        show_progress_bar: bool | None = None,  # one pass needs no bar
        on_error: str = "raise",
    ) -> Any:
        if device is not None:
            self.to(device)
        batch = {name: torch.as_tensor(values) for name, values in inputs.items()}
        engine = self.engines.get(self, tower, embed, backend, dtype)
        count = len(next(iter(batch.values())))
        rows = [rows.to(self._input_device) for _, rows in engine.embed(iter([(range(count), batch)]))]
        embeddings: Any = shaped(torch.cat(rows), truncate_dim, normalize)
        kept: Any = torch.ones(len(embeddings), dtype=torch.bool)  # what was processed has no bad items
        if convert_to == "numpy":
            embeddings, kept = embeddings.detach().float().cpu().numpy(), kept.numpy()
        return (embeddings, kept) if on_error == "skip" else embeddings

    def _embed_text(self, batch: dict[str, Tensor]) -> Tensor:
        length, limit = batch["input_ids"].shape[-1], self._token_limit()
        if limit is not None and length > limit:
            raise ValueError(
                f"{length} tokens, the model takes {limit}; tokenize with truncation=True, or pass strings"
            )
        return self.get_text_features(**batch, return_dict=True).pooler_output

    def _embed_image(self, batch: dict[str, Tensor]) -> Tensor:
        return self.get_image_features(**batch, return_dict=True).pooler_output

    def _embed_depth(self, batch: dict[str, Tensor]) -> Tensor:
        return self.get_depth_features(batch["pixel_values"], return_dict=True).pooler_output

    def _matching_tokenizer(self) -> Any:
        known = self.text_encoder.get_input_embeddings().num_embeddings
        if len(self.text_tokenizer) > known:
            raise ValueError(
                f"the tokenizer has {len(self.text_tokenizer)} tokens and the text tower {known}: it is another model's"
            )
        return self.text_tokenizer

    def _token_limit(self) -> int | None:
        return token_limit(self.text_encoder)
