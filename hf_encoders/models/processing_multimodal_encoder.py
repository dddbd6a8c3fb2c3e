"""Prepares texts, images and depth maps for the multimodal encoder, in one call."""

from .minimum_versions import MINIMUM_VERSIONS  # noqa: F401 - first, for the imports below ask for them

# isort: split
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, overload

from huggingface_hub.dataclasses import validate_typed_dict
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.configuration_utils import PreTrainedConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature
from transformers.processing_utils import ProcessorMixin, TextKwargs
from transformers.utils import PROCESSOR_NAME, has_file

from .encoding import Pictures
from .image_files import ImageError, is_deep, looks_cut_off, read_images
from .image_processing_depth import DepthImageProcessor, DepthMap
from .input_errors import InputError, one_line
from .pixel_towers import is_single_image
from .processor_options import Options, check_switches, option_names, options_by_modality

_PICTURE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?|p[gpf]m|jp2|np[yz]|pt|exr|h5|hdf5|mat)\Z", re.IGNORECASE)
_TOKENIZER_FILE = "tokenizer_config.json"
# The part for each modality.
_PARTS = {"text": "tokenizer", "images": "image_processor", "depth": "depth_image_processor"}
_TEXT_OPTIONS = TextKwargs.__annotations__.keys()
# What holds where neither the call nor the tokenizer's saved settings say otherwise.
_DEFAULTS: Mapping[str, Options] = {
    "text": {"padding": True, "truncation": True, "return_tensors": "pt"},
    "images": {"return_tensors": "pt"},
    "depth": {"return_tensors": "pt"},
}

# A tokenizer or a processor, called with options of any kind.
_Part = Callable[..., BatchFeature]

# Lists of images may be nested, as in transformers' processors.
NestedPictures = Pictures | Iterable["NestedPictures"]


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
        images: NestedPictures | None = None,
        text: str | list[str] | None = None,
        depth: DepthMap | Sequence[DepthMap] | None = None,
        depth_kwargs: Options | None = None,
        **kwargs: object,
    ) -> BatchFeature:
        """Prepare what is given.

        Args:
            images: one image or many, as `read_image` reads them; lists of images may be nested, and become flat.
            text: a string or a list of strings.
            depth: one depth map or many, as `DepthImageProcessor` takes them.
            depth_kwargs: options for the depth processor, such as `{"unit_scale": 1}` or `{"preset": "tum"}`.
            kwargs: the options of transformers' processors: `text_kwargs` for the tokenizer, `images_kwargs` for the
                image processor, `common_kwargs` for all; or by itself any option that fits only one of the modalities
                that are given. Texts are padded to the longest and cut at the tokenizer's limit, unless `padding` and
                `truncation`, here or among the tokenizer's saved settings, say otherwise. `return_tensors` is "pt" (the
                default), "np", or None for lists.

        Returns:
            `input_ids`, `attention_mask` (and what else the tokenizer gives) [B, L]; `pixel_values` [B, 3, H, W];
            `depth_values` [B, C, H, W], and `depth_mask` [B, H, W] if `return_mask` asks for it.

        Raises:
            TypeError: for an option that there is not.
            ValueError: if nothing is given, or what is given has no processor; for a depth map as image, and for the
                path of a picture as text; for an option that is given twice, has no modality, or fits images and depth
                maps where both are given; for a value that an option cannot have.
        """
        inputs = {"text": text, "images": images, "depth": depth}
        given = [name for name, value in inputs.items() if value is not None]
        if not given:
            raise ValueError("nothing to process: give text, images or depth")
        parts: dict[str, _Part] = {name: self.part(_PARTS[name]) for name in given}
        options = self._options(given, {"depth_kwargs": depth_kwargs, **kwargs})
        data: dict[str, object] = {}
        if text is not None:
            _refuse_paths([text] if isinstance(text, str) else text)
            data |= parts["text"](text, **options["text"])
        if images is not None:
            data |= self._prepare_images(parts["images"], images, options["images"])
        if depth is not None:
            names = {"pixel_values": "depth_values", "pixel_mask": "depth_mask"}
            data |= {names[name]: value for name, value in parts["depth"](depth, **options["depth"]).items()}
        return BatchFeature(data)

    def _prepare_images(self, process: _Part, images: object, options: Options) -> BatchFeature:
        if options.get("do_convert_rgb") is False:
            raise ValueError("do_convert_rgb=False: images are always read as RGB")
        items = list(_flat(images))
        self._refuse_depth(items)
        found = process(read_images(items), **options)
        # The image processors that need no torchvision do not look at `device`.
        return found if options.get("device") is None else cast(BatchFeature, found.to(options["device"]))

    def _refuse_depth(self, images: Sequence[object]) -> None:
        """Refuse pictures of 16 bits or of floats as images, where there is a tower of depth maps for them."""
        if self.depth_image_processor is None:
            return
        for index, image in enumerate(images):
            if is_deep(image):
                name = str(image) if isinstance(image, (str, os.PathLike)) else f"image {index}"
                raise ImageError(
                    index=index,
                    name=name,
                    reason="a picture of 16 bits or of floats is a depth map, expected an image",
                    hint="use encode_depth or depth=; if it is an image, convert it to 8 bits",
                )
            if looks_cut_off(image):
                warnings.warn(
                    f"image {index} looks like a depth map that was cut off at 8 bits; the pipelines"
                    " depth-zero-shot-classification and depth-feature-extraction read depth as it is",
                    stacklevel=4,
                )

    def _options(self, given: Sequence[str], options: Options) -> dict[str, Options]:
        """The options for the part of each modality that is given: those of the call, saved ones, and the defaults."""
        present = {modality: getattr(self, name) for modality, name in _PARTS.items()}
        known = {modality: option_names(part) for modality, part in present.items() if part is not None}
        routed = options_by_modality(options, known, given)
        of_call = {f"{modality}_kwargs": routed[modality] for modality in ("text", "images") if modality in given}
        saved = dict(self.tokenizer.init_kwargs) if self.tokenizer is not None else {}
        if saved.get("padding") != "max_length":
            # Older files keep the length of somebody's last call; texts are cut at the limit of `encode_text`.
            saved.pop("max_length", None)
        try:
            # Transformers checks the values of images' options alone.
            validate_typed_dict(  # type: ignore[type-var]  # it asks for a TypedDict, and this is one
                TextKwargs, {n: v for n, v in routed.get("text", {}).items() if n in _TEXT_OPTIONS}
            )
            merge: Callable[..., Mapping[str, Options]] = self._merge_kwargs
            merged = merge(self.valid_processor_kwargs, tokenizer_init_kwargs=saved, **of_call)
        except StrictDataclassError as error:
            raise ValueError(one_line(error)) from error
        every: dict[str, Options] = {m: {**_DEFAULTS[m], **merged.get(f"{m}_kwargs", routed[m])} for m in given}
        for modality in given:
            check_switches(present[modality], routed[modality], every[modality])
        return every

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
            _forget_last_call(self.tokenizer)
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
        own = {"trust_remote_code": False} | kwargs  # else a person at the terminal is asked about it
        if settings.get("image_processor"):
            image_processor = AutoImageProcessor.from_pretrained(source, **own)
        if _has_tokenizer(source, kwargs):
            # The tokenizer's own files name its class. Without a configuration AutoTokenizer would read the model's,
            # whose code may lie in the repo.
            tokenizer = AutoTokenizer.from_pretrained(source, config=PreTrainedConfig(), **own)
        if settings.get("depth_image_processor"):
            changes = {name: kwargs[name] for name in kwargs.keys() & DepthImageProcessor.option_names()}
            depth_image_processor = DepthImageProcessor(**{**settings["depth_image_processor"], **changes})
        return cls.from_args_and_dict([image_processor, tokenizer, depth_image_processor], settings, **options)


def _flat(images: object) -> Iterator[object]:
    """One image, many, or lists within lists → the images, in order."""
    if not isinstance(images, (list, tuple)) and is_single_image(images):
        yield images
        return
    for item in cast(Iterable[object], images):
        yield from _flat(item)


def _forget_last_call(tokenizer: PreTrainedTokenizerBase) -> None:
    """Let no option of the last call be saved: tokenizer.json would make it a setting of who loads it."""
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()


def _refuse_paths(texts: Sequence[object]) -> None:
    """Refuse the paths of pictures as texts: libraries that know no depth maps take them for such."""
    for index, text in enumerate(texts):
        # Most texts end without a suffix: the disk is asked about the others alone.
        if isinstance(text, str) and _PICTURE.search(text) and os.path.isfile(text):
            raise InputError(
                index=index,
                name=text,
                reason="a file, expected a text",
                hint='pass images= or depth=, and to sentence-transformers {"image": path}',
            )


def _has_tokenizer(source: str, options: Mapping[str, object]) -> bool:
    name = "/".join(part for part in (str(options.get("subfolder") or ""), _TOKENIZER_FILE) if part)
    known = {key: options[key] for key in ("revision", "token", "local_files_only", "cache_dir")}
    look: Callable[..., bool] = has_file
    return look(source, name, **known)


__all__ = ["MultimodalEncoderProcessor"]
