"""Parts of networks as plain function calls, for the references of the families.

They share no code with transformers: a verification compares two independent paths. Tensors may be mapped from a file
and in half precision; each is converted to the precision of the input only while it is used.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

Tensors = Mapping[str, Tensor]

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # the exact one, by the error function
    "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
    "gelu_pytorch_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "silu": F.silu,
    "swish": F.silu,
}


PARTS = ("query", "key", "value")  # of an attention whose layers are three


def tensor(tensors: Tensors, name: str, like: Tensor) -> Tensor:
    """A tensor in the precision of another."""
    return tensors[name].to(like.dtype)


def maybe(tensors: Tensors, name: str, like: Tensor) -> Tensor | None:
    """A tensor in the precision of another; None where the file has none."""
    return tensors[name].to(like.dtype) if name in tensors else None


def linear(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """`name.weight` [out, in], and `name.bias` where there is one."""
    return F.linear(x, tensor(tensors, f"{name}.weight", x), maybe(tensors, f"{name}.bias", x))


def query_key_value(tensors: Tensors, name: str, x: Tensor) -> tuple[Tensor, ...]:
    """Query, key and value of one layer `name.qkv`, or of three."""
    if f"{name}.qkv.weight" in tensors:
        return linear(tensors, f"{name}.qkv", x).chunk(3, dim=-1)
    return tuple(linear(tensors, f"{name}.{part}", x) for part in PARTS)


def layer_norm(tensors: Tensors, name: str, x: Tensor, eps: float) -> Tensor:
    """LayerNorm over the last dimension."""
    weight, bias = (tensor(tensors, f"{name}.{kind}", x) for kind in ("weight", "bias"))
    return F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def conv(tensors: Tensors, name: str, x: Tensor, stride: int = 1, padding: int = 0, groups: int = 1) -> Tensor:
    """A convolution [out, in / groups, h, w], with a bias where there is one."""
    weight, bias = tensor(tensors, f"{name}.weight", x), maybe(tensors, f"{name}.bias", x)
    return F.conv2d(x, weight, bias, stride, padding, 1, groups)


def batch_norm(tensors: Tensors, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    """BatchNorm with the statistics of the file."""
    mean, var, weight, bias = (
        tensor(tensors, f"{name}.{kind}", x) for kind in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=eps)


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Attention of several heads, by its formula.

    Args:
        query: [B, T, D], as are key and value.
        key: likewise.
        value: likewise.
        heads: divides D.
        mask: added to the scores [B, heads, T, T] before the softmax, or broadcast to them.

    Returns:
        [B, T, D], before the output's projection.
    """
    batch, _, width = query.shape
    of_heads = [x.reshape(batch, -1, heads, width // heads).transpose(1, 2) for x in (query, key, value)]
    scores = of_heads[0] @ of_heads[1].transpose(2, 3) * (width // heads) ** -0.5
    scores = scores if mask is None else scores + mask
    return (scores.softmax(-1) @ of_heads[2]).transpose(1, 2).reshape(batch, -1, width)
