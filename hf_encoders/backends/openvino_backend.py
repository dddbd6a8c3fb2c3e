"""OpenVINO behind `encode`: a tower compiled for the CPU, several requests in flight."""

import functools
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..models.encoding_batches import Batch

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoEngine:
    """A compiled tower.

    Args:
        source: the tower: an exported program, or the .xml of an exported repo.
        names: of its inputs, in order.
        precision: "float32", "bfloat16" or "int8".
    """

    most: int | None = None  # batches of any size

    def __init__(self, source: ExportedProgram | Path, names: tuple[str, ...], precision: str):
        core = _core()
        graph = core.read_model(source) if isinstance(source, Path) else convert(source, names)
        settings = {
            # Several requests at a time, each on few threads, do more than one on all.
            "PERFORMANCE_HINT": "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": _HINTS.get(precision) or _beside_int8(core),
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = core.compile_model(graph, "CPU", settings)
        count = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._requests = [compiled.create_infer_request() for _ in range(count)]
        self._names = names

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """Batches → their indices and embeddings [B, D], in order; reads as far ahead as there are requests."""
        running: deque[tuple[Any, list[int]]] = deque()
        free = list(self._requests)
        for indices, batch in _pieces(batches, len(free)):
            if not free:
                request, finished = running.popleft()
                yield finished, _result(request)
                free.append(request)
            request = free.pop()
            request.start_async({name: _array(batch[name]) for name in self._names}, share_inputs=False)
            running.append((request, indices))
        for request, finished in running:
            yield finished, _result(request)


@functools.cache
def _core() -> Any:
    """The one `openvino.Core` of this process, which stays until its end.

    Each Core that compiles gives this thread a stack for signals, and takes it away with itself, setting the stack that
    it found: several, freed in another order, leave one that is no more, and the next signal kills the process.
    """
    import openvino

    return openvino.Core()


def _beside_int8(core: Any) -> str:
    """The precision of what an int8 file leaves in floating point: the fastest that the processor has by itself."""
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def convert(program: ExportedProgram, names: tuple[str, ...]) -> Any:
    """An `openvino.Model` whose inputs have these names."""
    import openvino

    graph = openvino.convert_model(program)
    for port, name in zip(graph.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    return graph


def save_openvino(program: ExportedProgram, names: tuple[str, ...], path: Path) -> Path:
    """Write the .xml of a graph whose inputs have these names, and its .bin; returns the path of the first."""
    import openvino

    openvino.save_model(convert(program, names), path, compress_to_fp16=False)
    return path


def _pieces(batches: Iterator[Batch], count: int) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
    """Each batch in as many pieces as there are requests, so that a single batch keeps all of them busy."""
    for indices, batch in batches:
        size = -(-len(indices) // count)
        for start in range(0, len(indices), size):
            part = slice(start, start + size)
            yield list(indices[part]), {name: tensor[part] for name, tensor in batch.items()}


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()


def _result(request: Any) -> Tensor:
    request.wait()
    return torch.from_numpy(request.get_output_tensor(0).data.copy())
