"""Prepares texts, images and depth maps for the multimodal encoder, in one call."""

from .minimum_versions import MINIMUM_VERSIONS  # noqa: F401 - first, for the imports below ask for them

# isort: split
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, overload

from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerBase
from transformers.configuration_utils import PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.processing_utils import ProcessorMixin
from transformers.utils import PROCESSOR_NAME, has_file

from .encoding import Pictures
from .image_files import read_images
from .image_processing_depth import DepthImageProcessor, DepthMap
from .pixel_towers import is_single_image

_TOKENIZER_FILE = "tokenizer_config.json"
# sentence-transformers passes these options too; this processor has no such modality.
_OF_OTHER_MODALITIES = {"audio_kwargs", "videos_kwargs"}
# A tokenizer or a processor, called with options of any kind.
_Part = Callable[..., BatchFeature]


class MultimodalEncoderProcessor(ProcessorMixin):
    """A tokenizer, an image processor and a depth processor; any of them may be absent.

    Args:
        image_processor: for images.
        tokenizer: for texts.
        depth_image_processor: for depth maps.
    """

    image_processor: BaseImageProcessor | None
    tokenizer: PreTrainedTokenizerBase | None
    depth_image_processor: DepthImageProcessor | None

    def __init__(
        self,
        image_processor: BaseImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        depth_image_processor: DepthImageProcessor | None = None,
    ):
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
        images: Pictures | None = None,
        text: str | list[str] | None = None,
        depth: DepthMap | Sequence[DepthMap] | None = None,
        return_tensors: str | None = "pt",
        text_kwargs: Mapping[str, object] | None = None,
        images_kwargs: Mapping[str, object] | None = None,
        common_kwargs: Mapping[str, object] | None = None,
        **kwargs: object,
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
        common: dict[str, object] = {"return_tensors": return_tensors, **(common_kwargs or {})}
        data: dict[str, object] = {}
        if text is not None:
            given = {name: value for name, value in kwargs.items() if name not in _OF_OTHER_MODALITIES}
            options = {"padding": True, "truncation": True, **given, **(text_kwargs or {}), **common}
            tokenize: _Part = self.part("tokenizer")
            data |= tokenize(text, **options)
        if images is not None:
            pictures = read_images([images] if is_single_image(images) else cast(Iterable[object], images))
            process: _Part = self.part("image_processor")
            data |= process(pictures, **{**(images_kwargs or {}), **common})
        if depth is not None:
            process_maps: _Part = self.part("depth_image_processor")
            maps = process_maps(depth, **common)
            data["depth_values"] = maps["pixel_values"]
        return BatchFeature(data)

    @overload
    def part(self, name: Literal["tokenizer"]) -> PreTrainedTokenizerBase: ...

    @overload
    def part(self, name: Literal["image_processor"]) -> BaseImageProcessor: ...

    @overload
    def part(self, name: Literal["depth_image_processor"]) -> DepthImageProcessor: ...

    @overload
    def part(self, name: str) -> PreTrainedTokenizerBase | BaseImageProcessor: ...

    def part(self, name: str) -> PreTrainedTokenizerBase | BaseImageProcessor:
        """The tokenizer, image_processor or depth_image_processor.

        Raises:
            ValueError: if it is absent; the message says how to give one.
        """
        found: PreTrainedTokenizerBase | BaseImageProcessor | None = getattr(self, name)
        if found is None:
            raise ValueError(
                f"there is no {name} beside the weights: set model.processor.{name} to the one that the tower was"
                " trained with"
            )
        return found

    @property
    def model_input_names(self) -> list[str]:
        """The names in the result that the model's `forward` takes."""
        names = []
        if self.tokenizer is not None:
            names += self.tokenizer.model_input_names
        if self.image_processor is not None:
            names += self.image_processor.model_input_names
        if self.depth_image_processor is not None:
            names.append("depth_values")
        return names

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: object
    ) -> list[str]:
        """Save the parts that are present: the tokenizer by itself, the rest in processor_config.json.

        Transformers' own method saves all parts, and ends in an error where one is absent.

        Args:
            save_directory: a folder; made if there is none.
            push_to_hub: upload it too.
            kwargs: for `push_to_hub`; `repo_id` is the folder's name by default.

        Returns:
            The path of processor_config.json.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        if self._auto_class is not None:  # this class is remote code, which is saved with it
            # It writes `auto_map` into what it takes for a configuration, as for transformers' own processors.
            custom_object_save(self, folder, config=self)  # type: ignore[arg-type]
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)
        self.to_json_file(folder / PROCESSOR_NAME)
        if push_to_hub:
            push: Callable[..., object] = self.push_to_hub  # which checks its options
            push(kwargs.pop("repo_id", folder.name), **kwargs)
        return [str(folder / PROCESSOR_NAME)]

    @classmethod
    def get_attributes(cls) -> list[str]:
        """The parts, by name."""
        return ["image_processor", "tokenizer", "depth_image_processor"]

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str = "main",
        **kwargs: object,
    ) -> "MultimodalEncoderProcessor":
        """Load the parts that a repo has; the arguments are those of transformers, whose own method needs all parts."""
        source = str(pretrained_model_name_or_path)
        kwargs |= {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": token,
            "revision": revision,
        }
        settings, options = cls.get_processor_dict(source, **kwargs)
        image_processor = tokenizer = depth_image_processor = None
        if settings.get("image_processor"):
            image_processor = AutoImageProcessor.from_pretrained(source, **kwargs)
        if _has_tokenizer(source, kwargs):
            # The tokenizer's own files name its class. Without a configuration AutoTokenizer would read the model's,
            # and ask the person at the terminal about the code in the repo.
            tokenizer = AutoTokenizer.from_pretrained(source, config=PreTrainedConfig(), **kwargs)
        if settings.get("depth_image_processor"):
            depth_image_processor = DepthImageProcessor(**settings["depth_image_processor"])
        return cls.from_args_and_dict([image_processor, tokenizer, depth_image_processor], settings, **options)


def _has_tokenizer(source: str, options: Mapping[str, object]) -> bool:
    name = "/".join(part for part in (str(options.get("subfolder") or ""), _TOKENIZER_FILE) if part)
    known = {key: options[key] for key in ("revision", "token", "local_files_only", "cache_dir")}
    look: Callable[..., bool] = has_file
    return look(source, name, **known)


__all__ = ["MultimodalEncoderProcessor"]
