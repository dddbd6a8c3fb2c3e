"""A repo whose towers are compiled: `encode(backend="onnx" | "openvino")` reads them in place of compiling its own."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from torch.export import ExportedProgram
from transformers import AutoModel

from ..backends.compiled import Engine
from ..backends.exported_files import EXPORT_REPORT, tower_file
from ..backends.onnx_backend import OnnxEngine, save_onnx
from ..backends.openvino_backend import OpenVinoEngine, save_openvino
from ..backends.programs import example_batch, export_tower, input_names
from ..fingerprint import fingerprint
from ..hub.push import BESIDE_THE_MODEL
from ..modalities import encoder, modalities
from ..outputs import new_folder
from ..versions import library_versions
from .int8 import calibration_inputs, save_int8, with_even_channels

_TOLERANCE = 1e-5  # of the largest number
_CHECKED = 8  # inputs
_LIBRARIES = {"onnx": ("torch", "onnx", "onnxruntime"), "openvino": ("torch", "openvino")}
_SAVE = {"onnx": save_onnx, "openvino": save_openvino}
_ENGINES: dict[str, Any] = {"onnx": OnnxEngine, "openvino": OpenVinoEngine}


class ExportError(ValueError):
    """A compiled tower does not give the model's embeddings."""


def export(
    model: str,
    output: Path,
    backend: str,
    *,
    towers: Sequence[str] = (),
    calibration: str | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the repo of a model with its towers compiled, each by itself, for any batch.

    Beside what the repo holds it gets `onnx/` or `openvino/`: a file a tower, and `export_report.json` with the parity
    of each: the largest difference from PyTorch's embeddings of the same inputs, and for int8 the cosines to them.

    Args:
        model: folder or Hub id of an encoder.
        output: folder of the new repo.
        backend: "onnx" or "openvino".
        towers: "text", "image", "depth"; by default all of the model.
        calibration: a folder of files, a parquet file or a data set on the Hub: for int8 beside float32, for the towers
            that it has inputs for.
        overwrite: replace an existing output.

    Returns:
        The report.

    Raises:
        ExportError: if a tower in float32 differs by more than 1e-5 of the largest number.
        ValueError: if the model has no such tower, or the calibration data no inputs for any.
        OSError: if the model is not there, or the output is there already or cannot be written.
    """
    encoding = AutoModel.from_pretrained(model, dtype=torch.float32)
    for tower in towers:
        encoder(encoding, tower)  # ValueError
    towers = towers or modalities(encoding)
    batches = calibration_inputs(encoding, towers, calibration) if calibration else {}
    folder = Path(model) if Path(model).is_dir() else Path(snapshot_download(model))
    with new_folder(output, overwrite) as repo:
        shutil.copytree(folder, repo, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*BESIDE_THE_MODEL))
        (repo / backend).mkdir(exist_ok=True)
        report: dict[str, Any] = {
            "fingerprint": fingerprint(encoding),
            "towers": {tower: _export_tower(encoding, tower, backend, repo, batches.get(tower)) for tower in towers},
            "versions": library_versions(_LIBRARIES[backend]),
        }
        text = json.dumps(report, indent=2) + "\n"
        (repo / backend / EXPORT_REPORT).write_text(text, encoding="utf-8")
    return report


def _export_tower(
    model: Any, tower: str, backend: str, repo: Path, calibration: list[dict[str, Tensor]] | None
) -> dict[str, Any]:
    embed = encoder_method(model, tower)
    names = input_names(tower)
    half = max(len(calibration or ()) // 2, 1)  # the rest is what it is judged by
    even = with_even_channels(model, calibration[:half]) if calibration and tower == "depth" else model
    program: ExportedProgram = export_tower(even, tower, embed.__name__)
    exact = _SAVE[backend](program, names, repo / tower_file(backend, tower, "float32"))
    model.eval()
    report = {"float32": _differences(embed, _ENGINES[backend](exact, names, "float32"), [_random(model, tower)])}
    if not report["float32"]["relative_difference"] <= _TOLERANCE:
        raise ExportError(f"{tower}: the {backend} tower differs from PyTorch by {report['float32']}")
    if calibration:
        small = save_int8(backend, tower, exact, repo / tower_file(backend, tower, "int8"), calibration[:half])
        held_out = calibration[half:] or calibration
        report["int8"] = _differences(embed, _ENGINES[backend](small, names, "int8"), held_out)
    return report


def encoder_method(model: Any, tower: str) -> Any:
    """The model's method: a batch as `input_names` says → [B, D]."""
    return getattr(model, f"_embed_{tower}", None) or model._embed


@torch.no_grad()
def _differences(embed: Any, engine: Engine, batches: list[dict[str, Tensor]]) -> dict[str, float]:
    expected = torch.cat([embed(batch) for batch in batches])
    numbered = ((range(len(next(iter(batch.values())))), batch) for batch in batches)
    found = torch.cat([rows for _, rows in engine.embed(numbered)])
    cosines = torch.cosine_similarity(expected, found)
    largest = (found - expected).abs().max().item()
    return {
        "largest_difference": largest,
        "relative_difference": largest / max(expected.abs().max().item(), 1e-12),
        "least_cosine": cosines.min().item(),
        "mean_cosine": cosines.mean().item(),
    }


def _random(model: Any, tower: str) -> dict[str, Tensor]:
    """The same inputs each time."""
    generator = torch.Generator().manual_seed(0)
    batch = {}
    for name, tensor in example_batch(model, tower).items():
        shape = (_CHECKED, *tensor.shape[1:])
        if tensor.is_floating_point():
            batch[name] = torch.rand(shape, generator=generator) * 2 - 1
        elif name == "attention_mask":
            batch[name] = torch.ones(shape, dtype=torch.long)
        else:
            known = model.text_encoder.get_input_embeddings().num_embeddings
            batch[name] = torch.randint(known, shape, generator=generator)
    return batch
