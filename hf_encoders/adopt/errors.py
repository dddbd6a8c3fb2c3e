"""What is raised for a network that cannot be adopted."""

from ..models.input_errors import InputError


class AdoptError(InputError):
    """A network that cannot be adopted. The message is one line: which file and line, what is wrong, what to do."""
