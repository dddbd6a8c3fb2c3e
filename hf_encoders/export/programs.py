"""Towers as files, written by the exporters of transformers, in the layout that other libraries load by themselves.

    onnx/export.json          transformers: ExportedModel.from_pretrained(repo, subfolder="onnx")
    onnx/text_model.onnx      transformers.js: AutoModel.from_pretrained(repo, { model_file_name: "text_model" })
    onnx/vision_model.onnx    its output: image_embeds [B, D]
    onnx/depth_model.onnx
    onnx/model.onnx           of an encoder with one tower
    onnx/model_quantized.onnx in 8 bits

The exporters swap functions of PyTorch while they trace. A command may do so; a program that is compiled by `encode`
while other threads compute may not, and has a way of its own in `backends/programs.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import transformers
from torch import Tensor, nn
from torch.export import Dim
from transformers.modeling_utils import PreTrainedModel

from ..backends.programs import dynamic_shapes, for_export
from ..modalities import Modality
from ..models.concurrency import evaluating
from ..models.tower import Tower
from ..progress import quiet_tracing

if TYPE_CHECKING:
    from transformers.exporters import ExportedComponent

_LEAST_TRANSFORMERS = "5.23"
_FILES: Mapping[Modality, str] = {"text": "text_model", "image": "vision_model", "depth": "depth_model"}
_ONLY = "model"
_INT8 = "_quantized"  # what transformers.js calls 8 bits
# What one file of protobuf can hold, less some room for the graph.
_LARGEST_FILE = (2 << 30) - (64 << 20)


class TowerProgram(nn.Module):
    """A tower as a network: the tensors of a batch → its embeddings by the name that CLIP gives them.

    Args:
        tower: of the network.
        with_tokens: return the hidden state of each token too, which pipelines of other libraries pool by themselves.
    """

    def __init__(self, tower: Tower, with_tokens: bool):
        super().__init__()
        self.model, self._tower, self._with_tokens = tower.model, tower, with_tokens

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """`text_embeds`, `image_embeds` or `depth_embeds` [B, D], and `last_hidden_state` [B, L, C] if there is one."""
        outputs = self._tower.outputs(batch)
        tensors = {f"{self._tower.name}_embeds": self._tower.pooled(outputs, batch)}
        tokens = outputs.last_hidden_state
        return tensors | ({"last_hidden_state": tokens} if self._with_tokens and tokens is not None else {})


def check_exporters() -> None:
    """Raise ImportError if this transformers has no exporters, or not those that are needed."""
    try:
        from transformers.exporters import ExportedModel  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"export needs transformers >= {_LEAST_TRANSFORMERS}, here is {transformers.__version__}; what was exported"
            " is read with any"
        ) from error


def program_name(tower: Modality, precision: str, is_only: bool) -> str:
    """What the program of a tower is called, such as "text_model" or "model_quantized"."""
    return (_ONLY if is_only else _FILES[tower]) + (_INT8 if precision == "int8" else "")


@dataclass(frozen=True)
class Traced:
    """A program and what it was traced from.

    Args:
        component: the program, with what the exporter says of it.
        network: OpenVINO's constants lie in the memory of its weights, until they are written.
    """

    component: "ExportedComponent"
    network: nn.Module


def trace(tower: Tower, backend: str, is_only: bool) -> Traced:
    """Trace a tower in float32, for batches of any size and texts of any length.

    Args:
        tower: the tower.
        backend: "onnx" or "openvino".
        is_only: whether its encoder has no other.
    """
    from transformers.exporters.auto import get_exporter_class

    tower = for_export(tower)
    batch = tower.example()
    batch = {name: batch[name] for name in tower.input_names}
    program = TowerProgram(tower, with_tokens=is_only and tower.name == "text")
    shapes = dynamic_shapes(tower)
    # The exporters take networks that are none of transformers' too: a part of a model that generates is one.
    network = cast(PreTrainedModel, program)
    with evaluating(program), quiet_tracing():
        exporter = get_exporter_class(backend)()
        exported = exporter.export(network, dict(batch), {"dynamic_shapes": dict.fromkeys(batch, shapes)})
    (component,) = exported.components.values()
    if backend == "openvino":
        # OpenVINO would take pictures of any size, and the numbers in a graph may depend on the size.
        component.program.reshape({name: _sizes(tensor, shapes) for name, tensor in batch.items()})
    return Traced(component, program)


def save_programs(programs: Mapping[str, Traced], backend: str, folder: Path) -> dict[str, Path]:
    """Write programs into a folder of a repo.

    Args:
        programs: by the names that they will have.
        backend: "onnx" or "openvino".
        folder: `onnx/` or `openvino/` of the repo.

    Returns:
        Name → the file of the program.
    """
    from transformers.exporters import ExportedModel
    from transformers.exporters.auto import get_exporter_class

    exporter = get_exporter_class(backend)
    ExportedModel({name: program.component for name, program in programs.items()}, backend).save_pretrained(folder)
    paths = {name: folder / f"{exporter.program_prefix}{name}{exporter.program_suffix}" for name in programs}
    if backend == "onnx":
        for path in paths.values():
            _in_one_file(path)
    return paths


def _sizes(tensor: Tensor, shapes: Mapping[int, Dim]) -> list[int]:
    """The sizes of an input; -1 for any."""
    return [-1 if dimension in shapes else size for dimension, size in enumerate(tensor.shape)]


def _in_one_file(path: Path) -> None:
    """Move the weights into the file of their graph: a browser reads one file. Larger ones stay as they are.

    transformers asks for the file of weights beside the graph, whatever the graph says. So it stays, empty.
    """
    import onnx

    weights = path.with_name(f"{path.name}.data")
    if weights.stat().st_size <= _LARGEST_FILE:
        onnx.save(onnx.load(path), path)
        weights.write_bytes(b"")
