"""The processor that belongs to a model's weights: found beside them, saved beside them."""

from typing import Any

from transformers.modeling_utils import PreTrainedModel
from transformers.utils import logging

logger = logging.get_logger(__name__)


class SavedProcessorMixin(PreTrainedModel):
    """Adds `processor`; a model that uses it sets `processor_class`."""

    processor_class: type[Any]
    _processor: Any = None

    @property
    def processor(self) -> Any:
        """The processor that was saved beside the weights; a model that came from no repo gets the default one.

        Raises:
            OSError: if the weights came from a repo that has no processor.
        """
        owner = self.base_model
        if owner._processor is None:
            source = owner.config.name_or_path
            if source:
                revision = getattr(owner.config, "_commit_hash", None) or "main"
                owner._processor = owner.processor_class.from_pretrained(source, revision=revision)
            else:
                owner._processor = owner._default_processor()
        return owner._processor

    @processor.setter
    def processor(self, processor: Any) -> None:
        self.base_model._processor = processor

    def _default_processor(self) -> Any:
        """The processor of a model that came from no repo."""
        return self.processor_class()

    def save_pretrained(self, save_directory: Any, *args: Any, **kwargs: Any) -> Any:
        """Save the weights as transformers does, and the processor beside them where the model has one."""
        try:
            processor = self.processor
        except OSError as error:  # loaded from a repo that has none, or that is out of reach now
            logger.warning("no processor is saved beside the weights: %s", error)
        else:
            processor.save_pretrained(save_directory)
        return super().save_pretrained(save_directory, *args, **kwargs)
