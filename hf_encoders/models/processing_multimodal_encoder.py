"""Texts, images and depth maps → what the multimodal encoder reads, in one call."""

from typing import Any

from transformers import AutoImageProcessor, AutoTokenizer
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import cached_file

from .encoding_pixels import is_single_image
from .image_files import read_images
from .image_processing_depth import DepthImageProcessor

_TOKENIZER_FILE = "tokenizer_config.json"
# sentence-transformers gives the options of every modality it knows.
_OF_OTHER_MODALITIES = {"audio_kwargs", "videos_kwargs"}
_MAY_BE_ABSENT = {"_raise_exceptions_for_missing_entries": False}


class MultimodalEncoderProcessor(ProcessorMixin):
    """A tokenizer, an image processor and a depth processor; any of them may be absent.

    Args:
        image_processor: for images.
        tokenizer: for texts.
        depth_image_processor: for depth maps.
    """

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, depth_image_processor: Any = None):
        given = {
            "image_processor": image_processor,
            "tokenizer": tokenizer,
            "depth_image_processor": depth_image_processor,
        }
        for name, part in given.items():
            if part is not None:
                self.check_argument_for_proper_class(name, part)
            setattr(self, name, part)
        self.chat_template = None

    def __call__(
        self,
        images: Any = None,
        text: Any = None,
        depth: Any = None,
        return_tensors: str | None = "pt",
        text_kwargs: dict[str, Any] | None = None,
        images_kwargs: dict[str, Any] | None = None,
        common_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Prepare what is given.

        Args:
            images: one image or many, as `read_image` reads them.
            text: a string or a list of strings.
            depth: one depth map or many, as `DepthImageProcessor` takes them.
            return_tensors: "pt" or "np".
            text_kwargs: for the tokenizer; texts are padded to the longest and truncated to the tokenizer's limit
                unless `padding` or `truncation` say otherwise.
            images_kwargs: for the image processor.
            common_kwargs: for all parts.
            kwargs: for the tokenizer too.

        Returns:
            `input_ids`, `attention_mask` (and what else the tokenizer gives) [B, L]; `pixel_values` [B, 3, H, W];
            `depth_values` [B, C, H, W].

        Raises:
            ValueError: if nothing is given, or what is given has no processor.
        """
        if text is None and images is None and depth is None:
            raise ValueError("nothing to process: give text, images or depth")
        common = {"return_tensors": return_tensors} | (common_kwargs or {})
        data: dict[str, Any] = {}
        if text is not None:
            given = {name: value for name, value in kwargs.items() if name not in _OF_OTHER_MODALITIES}
            options = {"padding": True, "truncation": True} | given | (text_kwargs or {})
            data |= self.part("tokenizer")(text, **options | common)
        if images is not None:
            pictures = read_images([images] if is_single_image(images) else images)
            data |= self.part("image_processor")(pictures, **(images_kwargs or {}) | common)
        if depth is not None:
            maps = self.part("depth_image_processor")(depth, **common)
            data["depth_values"] = maps["pixel_values"]
        return BatchFeature(data)

    def part(self, name: str) -> Any:
        """The tokenizer, image_processor or depth_image_processor.

        Raises:
            ValueError: if it is absent; the message says how to give one.
        """
        found = getattr(self, name)
        if found is None:
            raise ValueError(
                f"there is no {name} beside the weights: set model.processor.{name} to the one that the tower was"
                " trained with"
            )
        return found

    @property
    def model_input_names(self) -> list[str]:
        """What the model's `forward` takes of the result."""
        names = []
        if self.tokenizer is not None:
            names += self.tokenizer.model_input_names
        if self.image_processor is not None:
            names += self.image_processor.model_input_names
        return names + ["depth_values"] * (self.depth_image_processor is not None)

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> Any:
        """Save the parts that are present, as transformers does."""
        present = [name for name in self.get_attributes() if getattr(self, name) is not None]
        self.get_attributes = lambda: present  # type: ignore[method-assign]  # transformers would save all
        try:
            return super().save_pretrained(save_directory, **kwargs)
        finally:
            del self.get_attributes

    @classmethod
    def get_attributes(cls) -> list[str]:
        """The parts, by name."""
        return ["image_processor", "tokenizer", "depth_image_processor"]

    @classmethod
    def _get_arguments_from_pretrained(
        cls, pretrained_model_name_or_path: Any, processor_dict: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Any]:
        settings = processor_dict or {}
        image_processor = tokenizer = depth_image_processor = None
        if settings.get("image_processor"):
            image_processor = AutoImageProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)
        if cached_file(pretrained_model_name_or_path, _TOKENIZER_FILE, **kwargs | _MAY_BE_ABSENT):
            # Its own files say its class. Without a configuration AutoTokenizer would read the model's, and ask the
            # person at the terminal about the code in the repo.
            tokenizer = AutoTokenizer.from_pretrained(
                pretrained_model_name_or_path, config=PreTrainedConfig(), **kwargs
            )
        if settings.get("depth_image_processor"):
            depth_image_processor = DepthImageProcessor(**settings["depth_image_processor"])
        return [image_processor, tokenizer, depth_image_processor]


__all__ = ["MultimodalEncoderProcessor"]
