"""What is raised for a file that cannot be used."""

from ..models.input_errors import InputError


class CheckpointError(InputError):
    """A checkpoint that cannot be used. The message is one line: which file, what is wrong, what to do."""


class LayoutError(CheckpointError):
    """A checkpoint that is none of the legacy layouts, or not a whole one."""


class NoSuchWeightsError(LayoutError):
    """A path that was asked for, and that leads to no weights of the file, or to several."""


class AmbiguousWeightsError(LayoutError):
    """A file holds several networks, and nothing tells which is meant. The message lists them."""
