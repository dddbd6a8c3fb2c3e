"""What pickles of PyTorch call to make tensors, as handles: sizes, offsets and strides are checked, nothing is read.

Source: `torch/_utils.py`, `torch/_tensor.py`, `torch/nn/parameter.py` and `torch/serialization.py`.
"""

import re

import numpy as np
import torch

from ..checkpoint import Stub, TensorHandle, TensorKind
from ..storages import MemoryStorage
from .machine import Arguments, Build, Constructor, Keywords, Pending, PickleMachine

_MOST_DIMENSIONS = 64
_LARGEST = (1 << 63) - 1
_STORAGE_CLASSES = {
    "Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
    "Bool": torch.bool, "ComplexFloat": torch.complex64, "ComplexDouble": torch.complex128, "QInt8": torch.qint8,
    "QUInt8": torch.quint8, "QInt32": torch.qint32, "QUInt4x2": torch.quint4x2, "QUInt2x4": torch.quint2x4,
    "Untyped": torch.uint8,
}  # fmt: skip
_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


class DtypeName(str):
    """A dtype as a file names it, as "torch.float32". `dtype` is what it stands for."""

    __slots__ = ("dtype",)
    dtype: torch.dtype


class StorageClass(Constructor):
    """A class of storages, old or new. `dtype` is that of its values."""

    __slots__ = ("dtype",)

    def __init__(self, name: str, dtype: torch.dtype):
        super().__init__(name, lambda machine, arguments, keywords: NotImplemented)
        self.dtype = dtype


class _PendingParameter(Pending):
    """A parameter of old PyTorch, whose state is `(data, requires_grad, ...)`."""

    __slots__ = ()

    def finish(self, machine: PickleMachine, state: object) -> object:
        if isinstance(state, tuple) and state and isinstance(state[0], TensorHandle):
            return state[0]
        self.state = state
        return self


def find_torch(module: str, name: str) -> Stub | str | None:
    """The constructor or constant of a name of PyTorch, None if it is another."""
    if module in ("torch", "torch.nn") and name in _DTYPES:
        text = DtypeName(f"torch.{name}")
        text.dtype = _DTYPES[name]
        return text
    full = f"{module}.{name}"
    if re.fullmatch(r"torch(_\w+)?(\.\w+)*", module):
        kind = name.removeprefix("_").removesuffix("Storage")
        if name.endswith("Storage") and kind in _STORAGE_CLASSES:
            return StorageClass(full, _STORAGE_CLASSES[kind])
        if module == "torch._utils" and name.startswith("_rebuild") and name[1:] in _REBUILDS:
            return Constructor(full, _REBUILDS[name[1:]])
        if module.startswith("torch_npu") and name == "_rebuild_npu_tensor":
            return Constructor(full, _rebuild_v2)
    if full in _OTHERS:
        return Constructor(full, _OTHERS[full])
    return None


def _rebuild_v1(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_tensor(storage, offset, size, stride)`."""
    if len(arguments) < 4:
        return NotImplemented
    return _view(machine, arguments[:4], None, None)


def _rebuild_v2(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, metadata)`."""
    if len(arguments) < 4:
        return NotImplemented
    return _view(machine, arguments[:4], None, arguments[6] if len(arguments) > 6 else None)


def _rebuild_v3(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, metadata)`."""
    if len(arguments) < 7 or not isinstance(arguments[6], DtypeName):
        return NotImplemented
    return _view(machine, arguments[:4], arguments[6].dtype, arguments[7] if len(arguments) > 7 else None)


def _view(machine: PickleMachine, parts: Arguments, dtype: torch.dtype | None, metadata: object) -> object:
    """A tensor of a storage, which is a handle of one dimension here."""
    base, offset, shape, stride = parts
    if not isinstance(base, TensorHandle) or base.storage is None or len(base.shape) != 1:
        raise machine.source.error("a tensor without a storage")
    size, steps = _sizes(shape), _sizes(stride)
    if size is None or steps is None or len(size) != len(steps) or _sizes((offset,)) is None:
        raise machine.source.error("a tensor with strange sizes")
    dtype = dtype or base.dtype
    start = base.offset * base.dtype.itemsize + offset * dtype.itemsize  # type: ignore[operator]
    last = sum((length - 1) * step for length, step in zip(size, steps, strict=True))
    end = start + (last + 1) * dtype.itemsize if 0 not in size else start
    if end > (base.offset + base.shape[0]) * base.dtype.itemsize or start % dtype.itemsize:
        raise machine.source.error("a tensor reaches beyond its storage")
    bits = metadata if isinstance(metadata, dict) else {}
    return TensorHandle(
        dtype,
        size,
        "quantized" if dtype in _QUANTIZED else "dense",
        base.storage,
        start // dtype.itemsize,
        steps,
        bits.get("conj") is True,
        bits.get("neg") is True,
        str(machine.source.path),
    )


_QUANTIZED = (torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4)


def contiguous(shape: tuple[int, ...], fortran: bool = False) -> tuple[int, ...] | None:
    """The strides of a tensor without gaps, the last dimension fastest, or the first; None for an impossible shape."""
    if _sizes(shape) is None:
        return None
    steps, step = [], 1
    for size in shape if fortran else reversed(shape):
        steps.append(step)
        step *= max(size, 1)
    return tuple(steps if fortran else reversed(steps))


def _sizes(value: object) -> tuple[int, ...] | None:
    """Sizes, strides or offsets that a tensor can have."""
    if not isinstance(value, (tuple, list)) or len(value) > _MOST_DIMENSIONS:
        return None
    if any(type(size) is not int or not 0 <= size <= _LARGEST for size in value):
        return None
    product = 1
    for size in value:
        product *= size or 1
        if product > _LARGEST:
            return None
    return tuple(value)


def _other_kind(machine: PickleMachine, kind: TensorKind, dtype: object, shape: object) -> object:
    """A tensor whose values are not read."""
    size = _sizes(shape)
    plain = dtype.dtype if isinstance(dtype, (DtypeName, TensorHandle)) else None
    if plain is None or size is None:
        return NotImplemented
    return TensorHandle(plain, size, kind, name=str(machine.source.path))


def _rebuild_quantized(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_qtensor(storage, offset, size, stride, parameters, ...)`."""
    return NotImplemented if len(arguments) < 4 else _other_kind(machine, "quantized", arguments[0], arguments[2])


def _rebuild_sparse(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_sparse_tensor(layout, (indices, values, size, ...))`, or with two kinds of indices."""
    data = arguments[1] if len(arguments) == 2 else None
    if not isinstance(data, tuple) or len(data) < 3:
        return NotImplemented
    values = 2 if isinstance(data[2], TensorHandle) else 1
    return _other_kind(machine, "sparse", data[values], data[values + 1] if len(data) > values + 1 else None)


def _rebuild_nested(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_nested_tensor(buffer, sizes, strides, offsets)`."""
    buffer = arguments[0] if arguments else None
    return _other_kind(machine, "nested", buffer, buffer.shape if isinstance(buffer, TensorHandle) else None)


def _rebuild_meta(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)`."""
    return NotImplemented if len(arguments) < 2 else _other_kind(machine, "meta", arguments[0], arguments[1])


def _rebuild_from_array(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_device_tensor_from_numpy(array, dtype, ...)`: a tensor of a device that has no storages."""
    array, dtype = arguments[:2] if len(arguments) >= 2 else (None, None)
    if not isinstance(array, np.ndarray) or not isinstance(dtype, DtypeName) or array.dtype.kind not in "biufc":
        return NotImplemented
    machine.charge(array.size * (dtype.dtype.itemsize + array.itemsize))
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    try:
        values = torch.from_numpy(native).to(dtype.dtype).reshape(array.shape)
    except (TypeError, RuntimeError):  # numbers that PyTorch does not have
        return NotImplemented
    values = values.contiguous()
    storage = MemoryStorage(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return TensorHandle(
        dtype.dtype, tuple(array.shape), "dense", storage, 0, values.stride(), name=str(machine.source.path)
    )


def _first(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """A parameter, which stands for its data."""
    if arguments and isinstance(arguments[0], TensorHandle):
        return arguments[0]
    data = keywords.get("data")
    return data if isinstance(data, TensorHandle) else NotImplemented


def _parameter(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`Parameter(data, requires_grad)`, or a parameter whose data comes with its state."""
    return (
        _first(machine, arguments, keywords)
        if arguments or keywords
        else _PendingParameter("torch.nn.parameter.Parameter")
    )


def _rebuild_from_type(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_from_type_v2(function, type, arguments, state)`: a tensor of a subclass, or with attributes."""
    match arguments:
        case (Constructor() as function, kind, tuple() as inner, state) if function.build in _REBUILDS.values():
            made = function.build(machine, inner, {})  # which calls nothing else
            if made is not NotImplemented:
                return made
            name = kind.name if isinstance(kind, Stub) else function.name
            machine.classes.add(name)
            return Stub(name, inner, state=state)
    return NotImplemented


def _wrapper(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`_rebuild_wrapper_subclass(class, dtype, size, ...)`, whose tensors come with its state: it stays a stub."""
    return NotImplemented


def _size(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`torch.Size`, a tuple."""
    if len(arguments) != 1 or not isinstance(arguments[0], (tuple, list)):
        return NotImplemented
    machine.charge(16 * len(arguments[0]))
    return tuple(arguments[0])


def _device(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """`torch.device`, by its name."""
    kind, index = (*arguments, None, None)[:2]
    if not isinstance(kind, str) or len(arguments) > 2:
        return NotImplemented
    return f"{kind}:{index}" if type(index) is int and 0 <= index < 1 << 16 else kind


def _layout(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """A layout, by its name."""
    return arguments[0] if len(arguments) == 1 and isinstance(arguments[0], str) else NotImplemented


def _jit_list(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """A list of TorchScript, which says the type of its items."""
    return arguments[0] if arguments and isinstance(arguments[0], list) else NotImplemented


def _jit_value(machine: PickleMachine, arguments: Arguments, keywords: Keywords) -> object:
    """A value of TorchScript, with its type."""
    return arguments[0] if len(arguments) == 2 else NotImplemented


# Without the underscore that each name begins with.
_REBUILDS: dict[str, Build] = {
    "rebuild_tensor": _rebuild_v1,
    "rebuild_tensor_v2": _rebuild_v2,
    "rebuild_tensor_v3": _rebuild_v3,
    "rebuild_parameter": _first,
    "rebuild_parameter_with_state": _first,
    "rebuild_qtensor": _rebuild_quantized,
    "rebuild_sparse_tensor": _rebuild_sparse,
    "rebuild_sparse_csr_tensor": _rebuild_sparse,
    "rebuild_nested_tensor": _rebuild_nested,
    "rebuild_meta_tensor_no_storage": _rebuild_meta,
    "rebuild_device_tensor_from_numpy": _rebuild_from_array,
    "rebuild_xla_tensor": _rebuild_from_array,
    "rebuild_device_tensor_from_cpu_tensor": _first,
    "rebuild_wrapper_subclass": _wrapper,
}
_OTHERS: dict[str, Build] = {
    "torch._tensor._rebuild_from_type_v2": _rebuild_from_type,
    "torch._tensor._rebuild_from_type": _rebuild_from_type,
    "torch.tensor._rebuild_from_type": _rebuild_from_type,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.nn.parameter.Buffer": _parameter,
    "torch.nn.Parameter": _parameter,
    "torch.autograd.variable.Variable": _parameter,
    "torch.Tensor": _first,
    "torch._tensor.Tensor": _first,
    "torch.tensor.Tensor": _first,
    "torch.Size": _size,
    "torch.device": _device,
    "torch.serialization._get_layout": _layout,
    "torch.jit._pickle.restore_type_tag": _jit_value,
    **{f"torch.jit._pickle.build_{kind}list": _jit_list for kind in ("int", "tensor", "double", "bool")},
}
