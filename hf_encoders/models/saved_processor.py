"""The processor that belongs to a model's weights: found beside them, saved beside them."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar, cast

from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import logging

if TYPE_CHECKING:  # the mixin stands before PreTrainedModel, whose methods it extends
    from transformers.modeling_utils import PreTrainedModel as _Base
else:
    _Base = object

logger = logging.get_logger(__name__)


class SavedProcessor:
    """A processor that is loaded when it is first asked for; it depends on a configuration, not on a model.

    Args:
        processor_class: its class.
        config: the model's configuration, which knows the repo of the weights.
        make_default: makes the processor of a model that came from no repo.
    """

    def __init__(self, processor_class: type[Any], config: PreTrainedConfig, make_default: Callable[[], Any]):
        self._class, self._config, self._make_default = processor_class, config, make_default
        self._processor: Any = None

    def get(self) -> Any:
        """The processor; OSError if the weights came from a repo that has none."""
        if self._processor is None:
            source = self._config.name_or_path
            if source:
                revision = getattr(self._config, "_commit_hash", None) or "main"
                self._processor = self._class.from_pretrained(source, revision=revision)
            else:
                self._processor = self._make_default()
        return self._processor

    def set(self, processor: Any) -> None:
        """Use another processor."""
        self._processor = processor

    def __getstate__(self) -> dict[str, Any]:
        """Load the processor before pickling, because `datasets` compares functions by their pickles."""
        with suppress(OSError, ValueError):  # a model without a processor
            self.get()
        return self.__dict__


class ProcessorPart:
    """One tower's part of a model's processor.

    Args:
        whole: the processor of the model.
        name: the name of the part.
    """

    def __init__(self, whole: "SavedProcessor | ProcessorPart", name: str):
        self._whole, self._name = whole, name

    def get(self) -> Any:
        """The part; ValueError if it is absent."""
        return self._whole.get().part(self._name)

    def set(self, processor: Any) -> None:
        """Use another part, in the whole too."""
        setattr(self._whole.get(), self._name, processor)


# Options of a push that `save_pretrained` takes beside its own.
_PUSH_OPTIONS = ("repo_id", "private", "commit_message", "commit_description", "revision", "create_pr", "tags")


class SavedProcessorMixin(_Base):
    """Adds `processor`; a model that uses it sets `processor_class`.

    A push uploads the weights and the processor. The package registers a function that pushes more: see `push_with`.
    """

    processor_class: type[Any]
    # Takes a function that saves, its folder, the repo's id and the options of a push.
    _push: ClassVar[Callable[..., Any] | None] = None

    @staticmethod
    def push_with(push: Callable[..., Any]) -> None:
        """Let all models push with a function: this file travels with the weights and cannot import the package."""
        SavedProcessorMixin._push = staticmethod(push)

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any):
        super().__init__(config, *args, **kwargs)
        self.saved_processor: SavedProcessor | ProcessorPart = SavedProcessor(
            self.processor_class, config, partial(self._default_processor, config)
        )

    @property
    def processor(self) -> Any:
        """The processor that was saved beside the weights; a model that came from no repo gets the default one.

        Raises:
            OSError: if the weights came from a repo that has no processor.
            ValueError: if the model is the tower of one whose processor has no part for it.
        """
        return self._owner.saved_processor.get()

    @processor.setter
    def processor(self, processor: Any) -> None:
        self._owner.saved_processor.set(processor)

    @property
    def _owner(self) -> "SavedProcessorMixin":
        return cast(SavedProcessorMixin, self.base_model)

    @classmethod
    def _default_processor(cls, config: Any) -> Any:
        """The processor of a model that came from no repo."""
        return cls.processor_class()

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        is_main_process: bool = True,
        state_dict: dict[str, Any] | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the weights as transformers does, and the processor beside them where the model has one."""
        if push_to_hub and self._push is not None:
            options = {name: kwargs.pop(name) for name in _PUSH_OPTIONS if name in kwargs}
            save = partial(self.save_pretrained, save_directory, is_main_process, state_dict, **kwargs)
            if is_main_process:
                repo_id = options.pop("repo_id", Path(save_directory).name)
                self._push_saved(save, Path(save_directory), repo_id, token=kwargs.get("token"), **options)
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
        super().save_pretrained(save_directory, is_main_process, state_dict, push_to_hub, **kwargs)

    def push_to_hub(self, repo_id: str, *, max_shard_size: int | str = "50GB", **options: Any) -> Any:
        """Push to the Hub in one commit; the arguments are those of transformers."""
        if self._push is None:
            return super().push_to_hub(repo_id, max_shard_size=max_shard_size, **options)
        with TemporaryDirectory() as folder:
            save = partial(self.save_pretrained, folder, max_shard_size=max_shard_size)
            return self._push_saved(save, Path(folder), repo_id, **options)

    def _push_saved(
        self, save: Callable[[], None], folder: Path, repo_id: str, tags: str | list[str] | None = None, **options: Any
    ) -> Any:
        assert self._push is not None
        given = [tags] if isinstance(tags, str) else tags or []
        unique = dict.fromkeys([*(self.model_tags or []), *given])  # as transformers orders them
        return self._push(save, folder, repo_id, tags=list(unique), **options)

    def _settle_remote_code(self, processor: Any) -> None:
        """Let the saved files name code only if the model is remote code itself, which is saved beside them."""
        if self._auto_class is not None:
            processor.register_for_auto_class()
            return
        settings: Any
        for settings in (self.config, processor):  # they may name the code of the repo that they came from
            vars(settings).pop("auto_map", None)
