"""The processor that belongs to a model's weights is found and saved beside them."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypedDict, TypeVar, cast

from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin, Unpack
from transformers.utils import logging

from .concurrency import ProcessLock

if TYPE_CHECKING:  # the mixin stands before PreTrainedModel, whose methods it extends
    from huggingface_hub import CommitInfo
    from torch import Tensor
    from transformers.modeling_utils import PreTrainedModel as _Base
else:
    _Base = object

logger = logging.get_logger(__name__)

# The processor of a model, and one that is part of it: a tokenizer, an image processor.
ModelProcessor = TypeVar("ModelProcessor", bound="ProcessorMixin | BaseImageProcessor")
PartProcessor = TypeVar("PartProcessor")
# Threads that ask at once get the same processor.
_LOADING = ProcessLock()


class PushOptions(TypedDict, total=False):
    """The options of a push.

    Args:
        private: whether a new repo is private; by default what the organisation prefers.
        token: by default that of `hf auth login`.
        commit_message: title of the commit.
        commit_description: its text.
        revision: branch, made if there is none; the default branch by default.
        create_pr: open a pull request instead of a commit.
    """

    private: bool | None
    token: str | bool | None
    commit_message: str | None
    commit_description: str | None
    revision: str | None
    create_pr: bool


class SaveOptions(PushOptions, total=False):
    """The options of `save_pretrained`; those of a push count with `push_to_hub=True`.

    Args:
        repo_id: of the repo to push to; by default the folder's name.
        tags: added to those of the card.
        max_shard_size: the largest file of weights, in bytes or such as "5GB".
        variant: part of the names of the files of weights, such as "fp16".
        save_peft_format: see transformers.
        save_original_format: name the tensors as the files that the model was loaded from; see transformers.
        distributed_checkpoint: see transformers.
    """

    repo_id: str
    tags: str | list[str] | None
    max_shard_size: int | str
    variant: str | None
    save_peft_format: bool
    save_original_format: bool
    distributed_checkpoint: bool


class Push(Protocol):
    """Pushes a model as a whole repo."""

    def __call__(
        self,
        save: Callable[[], object],
        folder: Path,
        repo_id: str,
        /,
        *,
        tags: Sequence[str],
        **options: Unpack[PushOptions],
    ) -> "CommitInfo":
        """Save into the folder, and push it."""


class SavedProcessor(Generic[ModelProcessor]):
    """A processor that is loaded when it is first used; it depends on a configuration, not on a model.

    Args:
        processor_class: its class.
        config: the model's configuration, which knows the repo of the weights.
        make_default: makes the processor of a model that came from no repo.
    """

    def __init__(
        self,
        processor_class: type[ModelProcessor],
        config: PreTrainedConfig,
        make_default: Callable[[], ModelProcessor],
    ):
        self._class, self._config, self._make_default = processor_class, config, make_default
        self._processor: ModelProcessor | None = None

    def get(self) -> ModelProcessor:
        """The processor; OSError if the weights came from a repo that has none."""
        if self._processor is None:
            with _LOADING:
                if self._processor is None:
                    self._processor = self._load()
        return self._processor

    def _load(self) -> ModelProcessor:
        source = self._config.name_or_path
        if not source:
            return self._make_default()
        revision = getattr(self._config, "_commit_hash", None) or "main"
        return cast(ModelProcessor, self._class.from_pretrained(source, revision=revision))

    def set(self, processor: ModelProcessor) -> None:
        """Use another processor."""
        self._processor = processor

    def __getstate__(self) -> dict[str, object]:
        """Load the processor before pickling, because `datasets` compares functions by their pickles."""
        with suppress(OSError, ValueError):  # a model without a processor
            self.get()
        return self.__dict__


class HasParts(Protocol):
    """A processor of several modalities."""

    def part(self, name: str, /) -> object:
        """The processor of one; ValueError if it is absent."""


class Whole(Protocol):
    """Where a processor of several modalities is."""

    def get(self) -> HasParts:
        """The processor."""


class ProcessorPart(Generic[PartProcessor]):
    """One tower's part of a model's processor.

    Args:
        whole: the processor of the model.
        name: the name of the part.
    """

    def __init__(self, whole: Whole, name: str):
        self._whole, self._name = whole, name

    def get(self) -> PartProcessor:
        """The part; ValueError if it is absent."""
        return cast(PartProcessor, self._whole.get().part(self._name))

    def set(self, processor: PartProcessor) -> None:
        """Use another part, in the whole too."""
        setattr(self._whole.get(), self._name, processor)


class SavedProcessorMixin(Generic[ModelProcessor], _Base):
    """Adds `processor`; a model that uses it sets `processor_class`.

    A push uploads the weights and the processor. The package registers a function that pushes more: see `push_with`.
    """

    processor_class: type[ModelProcessor]
    saved_processor: SavedProcessor[ModelProcessor] | ProcessorPart[ModelProcessor]
    _push: ClassVar[Push | None] = None

    @staticmethod
    def push_with(push: Push) -> None:
        """Let all models push with a function: this file travels with the weights and cannot import the package."""
        SavedProcessorMixin._push = staticmethod(push)

    def __init__(self, config: PreTrainedConfig, *args: object, **kwargs: object):
        super().__init__(config, *args, **kwargs)
        self.saved_processor = SavedProcessor(self.processor_class, config, partial(self._default_processor, config))

    @property
    def processor(self) -> ModelProcessor:
        """The processor that was saved beside the weights; a model that came from no repo gets the default one.

        Raises:
            OSError: if the weights came from a repo that has no processor.
            ValueError: if the model is the tower of one whose processor has no part for it.
        """
        return self._owner.saved_processor.get()

    @processor.setter
    def processor(self, processor: ModelProcessor) -> None:
        self._owner.saved_processor.set(processor)

    @property
    def _owner(self) -> "SavedProcessorMixin[ModelProcessor]":
        return cast("SavedProcessorMixin[ModelProcessor]", self.base_model)

    @classmethod
    def _default_processor(cls, config: Any) -> ModelProcessor:
        """The processor of a model that came from no repo."""
        return cls.processor_class()

    def save_pretrained(  # type: ignore[override]  # options by keyword alone, and no others
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: "dict[str, Tensor] | None" = None,
        push_to_hub: bool = False,
        **options: Unpack[SaveOptions],
    ) -> None:
        """Save the weights as transformers does, and the processor beside them where the model has one."""
        if push_to_hub and self._push is not None:
            folder = Path(save_directory)
            repo_id, tags = options.pop("repo_id", folder.name), options.pop("tags", None)
            pushing = cast(PushOptions, _chosen(options, PushOptions.__annotations__.keys()))
            # The token serves both: weights may be merged with those of a private repo.
            saving = cast(SaveOptions, _chosen(options, options.keys() - pushing.keys() | {"token"}))

            def save() -> None:
                self.save_pretrained(save_directory, is_main_process, state_dict, **saving)

            if is_main_process:
                self._push_saved(save, folder, repo_id, tags, **pushing)
            else:
                save()
            return
        try:
            processor = self.processor
        except (OSError, ValueError) as error:  # loaded from a repo that has none, or that is out of reach now
            logger.warning("no processor is saved beside the weights: %s", error)
        else:
            self._settle_remote_code(processor)
            processor.save_pretrained(save_directory)
        super().save_pretrained(save_directory, is_main_process, state_dict, push_to_hub, **options)

    def push_to_hub(  # type: ignore[override]  # the options of transformers that a model has a use for
        self,
        repo_id: str,
        *,
        max_shard_size: int | str = "50GB",
        tags: str | list[str] | None = None,
        **options: Unpack[PushOptions],
    ) -> "CommitInfo":
        """Push to the Hub in one commit; the arguments are those of transformers."""
        if self._push is None:
            push = cast("Callable[..., CommitInfo]", super().push_to_hub)
            return push(repo_id, max_shard_size=max_shard_size, tags=tags, **options)
        with TemporaryDirectory() as folder:

            def save() -> None:
                self.save_pretrained(folder, max_shard_size=max_shard_size)

            return self._push_saved(save, Path(folder), repo_id, tags, **options)

    def _push_saved(
        self,
        save: Callable[[], None],
        folder: Path,
        repo_id: str,
        tags: str | list[str] | None,
        **options: Unpack[PushOptions],
    ) -> "CommitInfo":
        assert self._push is not None
        given = [tags] if isinstance(tags, str) else tags or []
        unique = dict.fromkeys([*(self.model_tags or []), *given])  # as transformers orders them
        return self._push(save, folder, repo_id, tags=list(unique), **options)

    def _settle_remote_code(self, processor: ModelProcessor) -> None:
        """Let the saved files name code only if the model is remote code itself, which is saved beside them."""
        if self._auto_class is not None:
            processor.register_for_auto_class()
            return
        settings: tuple[object, object] = (self.config, processor)
        for part in settings:  # they may name the code of the repo that they came from
            vars(part).pop("auto_map", None)


def _chosen(options: Mapping[str, object], names: Collection[str]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name in names}
