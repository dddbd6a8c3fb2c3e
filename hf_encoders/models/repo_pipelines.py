"""The pipelines that a repo brings beside its model's code, and when they are left alone."""

from typing import Any, ClassVar

_FIELD = "custom_pipelines"


class RepoPipelinesMixin:
    """A configuration that may name pipelines whose code lies in the repo, for those without the package.

    Transformers asks for `trust_remote_code` where a configuration names the task of a pipeline, even where the task
    is registered. The package registers all of them, so with it a configuration forgets the names; see `forget`. No
    configuration saves them: what is saved has the model's code at most.
    """

    _forgets: ClassVar[bool] = False

    @staticmethod
    def forget() -> None:
        """Let configurations that are made from now on name no pipelines."""
        RepoPipelinesMixin._forgets = True

    def __post_init__(self, **kwargs: object) -> None:
        """Take the names from config.json, or leave them."""
        if self._forgets:
            kwargs.pop(_FIELD, None)
        super().__post_init__(**kwargs)  # type: ignore[misc]  # that of PreTrainedConfig

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain data, without the pipelines, in which transformers puts classes."""
        content: dict[str, Any] = super().to_dict()  # type: ignore[misc]  # that of PreTrainedConfig
        content.pop(_FIELD, None)
        return content
