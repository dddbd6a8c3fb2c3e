"""What a person is told."""


class Refused(Exception):
    """A network that cannot be taken; one line."""
