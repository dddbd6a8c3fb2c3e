"""All of a checkpoint at once, with tensors in place of their handles."""

from collections.abc import Mapping

from hf_encoders.checkpoints.checkpoint import TensorHandle
from hf_encoders.checkpoints.files import CheckpointError, open_checkpoint


def read_checkpoint(path):
    """What a file holds; CheckpointError if that is no dictionary."""
    content = _with_tensors(open_checkpoint(path).content)
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected a dictionary with a state dict")
    return content


def tensors_by_path(path):
    """Keys on the way to a tensor of a file → the tensor."""
    found, waiting = {}, [((), open_checkpoint(path).content)]
    while waiting:
        keys, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [((*keys, key), part) for key, part in value.items()]
        elif isinstance(value, TensorHandle):
            found[keys] = value.read()
    return found


def _with_tensors(content):
    """The content with tensors in place of their handles, each read once. Containers are changed in place."""
    done = {}

    def read(value):
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
