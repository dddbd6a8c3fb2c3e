"""The processor that belongs to a model's weights: found beside them, saved beside them."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

logger = logging.get_logger(__name__)


class SavedProcessor:
    """A processor that is loaded when it is first asked for. It knows a configuration and no model.

    Args:
        processor_class: what reads and saves it.
        config: of the model, which says which repo the weights came from.
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
        """Use another one."""
        self._processor = processor

    def __getstate__(self) -> dict[str, Any]:
        """With the processor, asked for before or not: `datasets` takes a pickle for what a function depends on."""
        with suppress(OSError, ValueError):  # a model without a processor
            self.get()
        return self.__dict__


class ProcessorPart:
    """A part of a model's processor: that of one of its towers.

    Args:
        whole: the model's.
        name: of the part.
    """

    def __init__(self, whole: "SavedProcessor | ProcessorPart", name: str):
        self._whole, self._name = whole, name

    def get(self) -> Any:
        """The part; ValueError if it is absent."""
        return self._whole.get().part(self._name)

    def set(self, processor: Any) -> None:
        """Use another one, in the whole too."""
        setattr(self._whole.get(), self._name, processor)


class SavedProcessorMixin(PreTrainedModel):
    """Adds `processor`; a model that uses it sets `processor_class`."""

    processor_class: type[Any]

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
        return self.base_model.saved_processor.get()

    @processor.setter
    def processor(self, processor: Any) -> None:
        self.base_model.saved_processor.set(processor)

    @classmethod
    def _default_processor(cls, config: Any) -> Any:
        """The processor of a model that came from no repo."""
        return cls.processor_class()

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Save the weights as transformers does, and the processor beside them where the model has one."""
        try:
            processor = self.processor
        except (OSError, ValueError) as error:  # loaded from a repo that has none, or that is out of reach now
            logger.warning("no processor is saved beside the weights: %s", error)
        else:
            self._settle_remote_code(processor)
            processor.save_pretrained(save_directory)
        return super().save_pretrained(save_directory, *args, **kwargs)

    def _settle_remote_code(self, processor: Any) -> None:
        """Make what is saved name the code that is saved with it: all if the model is remote code itself, or none."""
        if self._auto_class is not None:
            processor.register_for_auto_class()
            return
        settings: Any
        for settings in (self.config, processor):  # of the repo that they came from
            vars(settings).pop("auto_map", None)
