"""One object of settings, as constructors of research code take it. hf-encoders copied this file."""

from collections.abc import Mapping


class Settings(dict[str, object]):
    """A dictionary whose items are attributes too, at any depth: `settings.model.dim` is `settings["model"]["dim"]`."""

    def __init__(self, items: Mapping[str, object]):
        super().__init__({name: settings_of(value) for name, value in items.items()})
        self.__dict__ = self


def settings_of(value: object) -> object:
    """A value of JSON with all of its dictionaries as `Settings`."""
    if isinstance(value, Mapping):
        return Settings(value)
    return [settings_of(item) for item in value] if isinstance(value, (list, tuple)) else value
