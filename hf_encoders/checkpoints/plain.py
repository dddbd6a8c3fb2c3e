"""Reads all tensors of what a file holds, for callers that take tensors in dictionaries and lists."""

from .checkpoint import TensorHandle


def plain(content: object) -> object:
    """The content with tensors in place of their handles, each read once. Containers are changed in place.

    Args:
        content: of a checkpoint. Tuples are made anew, and the depth is one that `open_checkpoint` allows.

    Returns:
        The same structure; stubs stay, with their handles.
    """
    done: dict[int, object] = {}

    def read(value: object) -> object:
        if id(value) in done:
            return done[id(value)]
        if isinstance(value, TensorHandle):
            done[id(value)] = value.read()
        elif isinstance(value, dict):
            done[id(value)] = value
            value.update({key: read(item) for key, item in value.items()})
        elif isinstance(value, list):
            done[id(value)] = value
            value[:] = [read(item) for item in value]
        elif type(value) is tuple:
            done[id(value)] = tuple(read(item) for item in value)
        else:
            return value
        return done[id(value)]

    return read(content)
