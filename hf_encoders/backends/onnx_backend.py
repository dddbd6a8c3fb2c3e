"""ONNX Runtime behind `encode`: a tower as an ONNX graph on the CPU."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..models.input_batches import Batch
from .program_checks import Owner, check_sizes


class OnnxBackend:
    """A tower in a session of ONNX Runtime.

    Args:
        source: the tower: an exported program, or the .onnx of an exported repo.
        names: of its inputs, in order.
        precision: "float32" or "int8", which the file says.
    """

    max_batch: int | None = None  # batches of any size

    def __init__(self, source: ExportedProgram | Path, names: tuple[str, ...], precision: str):
        import onnxruntime

        self._owner = Owner(self)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        with tempfile.TemporaryDirectory() as folder:
            if not isinstance(source, Path):
                source = save_onnx(source, names, Path(folder) / "tower.onnx")
            self._session = onnxruntime.InferenceSession(str(source), options, providers=providers())
        self._names = names
        self._embeddings = self._session.get_outputs()[0].name  # the hidden state may come after
        inputs = self._session.get_inputs()
        self._sizes = {each.name: [size if isinstance(size, int) else None for size in each.shape] for each in inputs}

    def embed(self, batches: Iterator[Batch]) -> Iterator[tuple[list[int], Tensor]]:
        """Batches → their indices and embeddings [B, D], in order."""
        self._owner.check()
        for indices, batch in batches:
            check_sizes(batch, self._sizes)
            (embeddings,) = self._session.run(
                [self._embeddings], {name: batch[name].cpu().numpy() for name in self._names}
            )
            yield list(indices), torch.from_numpy(embeddings)


def providers() -> list[tuple[str, dict[str, str]]]:
    """What computes: a GPU where the installed onnxruntime has one, and else the CPU.

    Others that it may have, such as Apple's CoreML, compute in less than float32 without being asked.
    """
    import onnxruntime

    known = {"CUDAExecutionProvider": {"use_tf32": "0"}, "ROCMExecutionProvider": {}, "CPUExecutionProvider": {}}
    available = onnxruntime.get_available_providers()
    return [(name, options) for name, options in known.items() if name in available]


def save_onnx(program: ExportedProgram, names: tuple[str, ...], path: Path) -> Path:
    """Write an ONNX graph whose inputs have these names; returns its path."""
    converted = torch.onnx.export(
        program, dynamo=True, input_names=list(names), output_names=["embeddings"], verbose=False
    )
    assert converted is not None
    converted.save(path)
    return path
