"""OpenVINO behind `encode`: a tower compiled for the CPU, several requests in flight."""

import functools
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from ..models.input_batches import Batch
from .immortal import make_immortal
from .openvino_threads import forget_idle_threads, take_idle_threads, use_threads
from .program_checks import Owner, check_sizes

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest, Model

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
# While the process forks: small programs that hold idle threads.
_HELD: "list[CompiledModel]" = []


class OpenVinoBackend:
    """A compiled tower. Several threads may use it: each call has requests of its own.

    Args:
        source: the tower: an exported program, or the .xml of an exported repo.
        names: of its inputs, in order.
        precision: "float32", "bfloat16" or "int8".
    """

    max_batch: int | None = None  # batches of any size

    def __init__(self, source: ExportedProgram | Path, names: tuple[str, ...], precision: str):
        self._owner = Owner(self)
        core = _core()
        graph = core.read_model(source) if isinstance(source, Path) else convert(source, names)
        settings = {
            # Several requests at a time, each on few threads, do more than one on all.
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _HINTS.get(precision) or _beside_int8(core),
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._compiled = core.compile_model(graph, "CPU", settings)
        use_threads(self, self._compiled)
        self._count: int = self._compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._names = names
        self._sizes = {
            name: [size.get_length() if size.is_static else None for size in self._compiled.input(name).partial_shape]
            for name in names
        }
        self._lock = threading.Lock()
        self._idle: list[list[InferRequest]] = []

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """Batches → their indices and embeddings [B, D], in order; reads as far ahead as there are requests."""
        self._owner.check()
        with self._requests() as requests:
            running: deque[tuple[InferRequest, list[int]]] = deque()
            free = list(requests)
            try:
                for indices, batch in _pieces(self._checked(batches), len(requests)):
                    if not free:
                        request, finished = running.popleft()
                        free.append(request)
                        yield finished, _result(request)
                    request = free.pop()
                    request.start_async({name: _array(batch[name]) for name in self._names}, share_inputs=False)
                    running.append((request, indices))
                while running:
                    request, finished = running.popleft()
                    yield finished, _result(request)
            finally:
                for request, _ in running:  # where the caller stops early
                    request.wait()

    def _checked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        for indices, batch in batches:
            check_sizes(batch, self._sizes)
            yield indices, batch

    @contextmanager
    def _requests(self) -> "Iterator[list[InferRequest]]":
        """Requests that nobody else uses meanwhile; a call that finds none idle makes its own."""
        with self._lock:
            requests = self._idle.pop() if self._idle else None
        if requests is None:
            requests = [self._compiled.create_infer_request() for _ in range(self._count)]
        try:
            yield requests
        finally:
            with self._lock:
                self._idle.append(requests)


@functools.cache
def _core() -> "Core":
    """The one `openvino.Core` of this process, which stays until its end; a forked process makes its own.

    Each Core installs an alternate signal stack (sigaltstack) and restores the previous one when it is freed. If
    several are freed out of order, a dangling stack is left, and the next signal crashes the process.
    """
    import openvino

    return openvino.Core()


def before_fork() -> None:
    """Let no threads be idle that the child would wait for."""
    _HELD.extend(take_idle_threads(_core))


def after_fork_in_parent() -> None:
    """Give the idle threads back."""
    _HELD.clear()


def after_fork_in_child() -> None:
    """Leave the parent's Core alone, whose threads are not there, and make another when asked."""
    make_immortal(list(_HELD))
    _HELD.clear()
    forget_idle_threads()
    if _core.cache_info().currsize:
        make_immortal(_core())
        _core.cache_clear()


def _beside_int8(core: "Core") -> str:
    """The precision of what an int8 file leaves in floating point: the fastest that the processor has."""
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def convert(program: ExportedProgram, names: tuple[str, ...]) -> "Model":
    """Turn a program into an `openvino.Model` whose inputs have these names, and the sizes that it was exported for."""
    import openvino

    graph = openvino.convert_model(program)
    for port, name in zip(graph.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    # OpenVINO would take pictures of any size, also for a network whose graph holds numbers that depend on the size.
    graph.reshape({name: openvino.PartialShape(sizes) for name, sizes in zip(names, _sizes(program), strict=True)})
    return graph


def _sizes(program: ExportedProgram) -> list[list[int]]:
    """The sizes of each input; -1 for any."""
    inputs = program.graph_signature.user_inputs
    shapes = [
        node.meta["val"].shape for node in program.graph.nodes if node.op == "placeholder" and node.name in inputs
    ]
    return [[size if isinstance(size, int) else -1 for size in shape] for shape in shapes]


def _pieces(batches: Iterator[Batch], count: int) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
    """Each batch in as many pieces as there are requests, so that a single batch keeps all of them busy."""
    for indices, batch in batches:
        size = -(-len(indices) // count)
        for start in range(0, len(indices), size):
            part = slice(start, start + size)
            yield list(indices[part]), {name: tensor[part] for name, tensor in batch.items()}


def _array(tensor: Tensor) -> NDArray[np.generic]:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()


def _result(request: "InferRequest") -> Tensor:
    request.wait()
    return torch.from_numpy(request.get_output_tensor(0).data.copy())
