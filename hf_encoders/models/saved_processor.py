"""What belongs to a model's weights: its processor is read and saved beside them, from the very repo of the weights."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypedDict, TypeVar, cast

from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import ProcessorMixin, Unpack
from transformers.utils import logging
from transformers.utils.hub import cached_file, extract_commit_hash

from .concurrency import ProcessLock
from .input_errors import one_line

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
# Options of `from_pretrained` that say where files are; the later ones of a repo are read with the same.
_HUB_OPTIONS = ("cache_dir", "local_files_only", "proxies", "subfolder", "token")


@dataclass(frozen=True)
class RepoSource:
    """Where a model was read from, so that what belongs to it is read from there too, whatever happens to the name.

    Args:
        name: the absolute path of a folder, or a repo's id on the Hub; empty for a model from no repo.
        revision: the commit of the Hub that the weights are from, where it is known.
        options: the options of `from_pretrained` that say where files are, such as `cache_dir` and `subfolder`.
    """

    name: str = ""
    revision: str | None = None
    options: Mapping[str, object] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, object]:
        """A pickled model takes no token along."""
        return {**self.__dict__, "options": {key: value for key, value in self.options.items() if key != "token"}}

    @classmethod
    def named(cls, name: str, revision: str | None = None) -> "RepoSource":
        """What a configuration tells; nothing is looked up, so no revision of the Hub is pinned."""
        return cls(os.path.abspath(name) if name and os.path.isdir(name) else name, revision)

    @classmethod
    def of(cls, name: str | os.PathLike[str] | None, options: Mapping[str, object]) -> "RepoSource":
        """Pin what a model is about to be read from: to an absolute path, or to a commit on the Hub.

        Args:
            name: the argument of `from_pretrained`.
            options: its other arguments.
        """
        text = "" if name is None else str(name)
        kept = {key: value for key, value in options.items() if key in _HUB_OPTIONS and value is not None}
        if not text or os.path.isdir(text):
            return cls(cls.named(text).name, None, kept)
        revision = cast("str | None", options.get("revision"))
        try:
            found = cached_file(text, "config.json", **{**kept, "revision": revision})
        except OSError:  # the weights cannot be read either, and transformers says why; or an adapter's repo
            return cls(text, revision, kept)
        return cls(text, extract_commit_hash(found, None) or revision, kept)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of any `from_pretrained`, and of `cached_file`, beside the name."""
        return {**self.options, "revision": self.revision or "main"}

    def find(self, name: str, **options: bool) -> Path | None:
        """A file of the repo, on this machine; None if it is absent and the options allow that.

        Args:
            name: its path beside the weights, such as "openvino/depth.xml".
            options: of `cached_file`.

        Raises:
            OSError: if it cannot be had.
        """
        inner = Path(str(self.options.get("subfolder") or "")) / Path(name).parent
        arguments = {**self.arguments, "subfolder": "" if inner == Path() else inner.as_posix()}
        path = cached_file(self.name, Path(name).name, **arguments, **options)
        return Path(path) if path else None


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
        save_original_format: name the tensors as the files that the model was loaded from; see transformers.
        save_peft_format, distributed_checkpoint: see transformers.
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
    """The processor of a model: read with the weights, given, or a default one where there is no repo.

    Args:
        processor_class: its class.
        source: where the model comes from, as far as its configuration tells.
        make_default: makes the processor of a model that came from no repo.
    """

    def __init__(
        self,
        processor_class: type[ModelProcessor],
        source: RepoSource,
        make_default: Callable[[], ModelProcessor],
    ):
        self._class, self._source, self._make_default = processor_class, source, make_default
        self._processor: ModelProcessor | None = None
        self._failure = ""

    def get(self) -> ModelProcessor:
        """The processor; OSError if the weights came from a repo that has none."""
        if self._processor is None:
            with _LOADING:
                if self._processor is None:
                    self._processor = self._load()
        return self._processor

    def read(self, source: RepoSource) -> None:
        """Read it now, beside the weights; what goes wrong is kept until it is needed: weights alone have uses too."""
        self._source = source
        try:
            self._processor = self._load()
        except Exception as error:  # the libraries of tokenizers raise what they like
            self._failure = one_line(error)
            logger.warning(
                "%s: has no processor that can be read, so the model takes processed inputs alone, and cannot be saved"
                " until `model.processor` is set (%s)",
                source.name,
                self._failure,
            )

    def _load(self) -> ModelProcessor:
        if self._failure:
            raise OSError(self._failure)
        if not self._source.name:
            return self._make_default()
        return cast(ModelProcessor, self._class.from_pretrained(self._source.name, **self._source.arguments))

    def set(self, processor: ModelProcessor) -> None:
        """Use another processor."""
        self._processor = processor

    def __getstate__(self) -> dict[str, object]:
        """Make the processor before pickling, because `datasets` compares functions by their pickles."""
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
        self.source = RepoSource.named(config.name_or_path or "", getattr(config, "_commit_hash", None))
        make_default = partial(self._default_processor, config)
        self.saved_processor = SavedProcessor(self.processor_class, self.source, make_default)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, **options: Any
    ) -> Any:
        """Load the weights as transformers does, and the processor from the same commit, with the same options."""
        source = RepoSource.of(pretrained_model_name_or_path, options)
        if source.revision:
            options["revision"] = source.revision
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **options)
        model: SavedProcessorMixin[ModelProcessor] = loaded[0] if isinstance(loaded, tuple) else loaded
        model._owner._belongs_to(source, str(pretrained_model_name_or_path), options)
        return loaded

    def _belongs_to(self, source: RepoSource, name: str, options: Mapping[str, object]) -> None:
        actual = self.config.name_or_path
        if actual and actual != name:  # the repo of an adapter names that of its base model
            source = RepoSource.of(actual, {**options, "revision": None})
        self.source = source
        if source.revision:
            self.config._commit_hash = source.revision
        if isinstance(self.saved_processor, SavedProcessor):
            self.saved_processor.read(source)

    @property
    def processor(self) -> ModelProcessor:
        """The processor that was read beside the weights; a model that came from no repo gets the default one.

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
        """Save the weights as transformers does, and the processor beside them.

        Raises:
            OSError: before anything is written, if the model has no processor: without it nobody could use the weights.
        """
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
        except (OSError, ValueError) as error:
            raise OSError(f"not saved, because the model has no processor: set `model.processor` ({error})") from error
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
        if self._auto_class is not None:  # the saved code of the model holds that of its processor
            kind = "AutoImageProcessor" if isinstance(processor, BaseImageProcessor) else "AutoProcessor"
            module = type(processor).__module__.rpartition(".")[2]
            vars(processor)["auto_map"] = {kind: f"{module}.{type(processor).__name__}"}
            return
        for part in (self.config, processor):  # they may name the code of the repo that they came from
            vars(part).pop("auto_map", None)


def _chosen(options: Mapping[str, object], names: Collection[str]) -> dict[str, object]:
    return {name: value for name, value in options.items() if name in names}
