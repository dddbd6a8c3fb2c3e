"""Writes a repo with compiled towers, which `encode(backend="onnx" | "openvino")` then reads instead of compiling."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack, cast

import torch
from huggingface_hub import snapshot_download
from torch import Tensor
from transformers import PreTrainedModel

from ..any_encoder import AnyEncoder, EncoderLoading, load_encoder
from ..backends.compiled import BACKENDS
from ..backends.exported_files import EXPORT_REPORT, random_batch
from ..fingerprint import fingerprint
from ..hub.contents import copy_contents
from ..modalities import Modality
from ..models.backend import Backend
from ..models.depth_units import DepthUnits
from ..models.tower import Tower, check_weights
from ..outputs import new_folder
from ..sentence_encoder import SentenceEncoder
from ..versions import library_versions
from .image_settings import save_image_settings
from .int8 import calibration_inputs, in_int8, with_even_channels
from .programs import Traced, check_exporters, program_name, save_programs, trace

_TOLERANCE = 1e-5  # of the largest number
_CHECKED = 8  # inputs
# Below it, the noise of 8 bits is three quarters of what tells inputs apart, and more.
LEAST_COSINE = 0.8
_LIBRARIES = {
    "onnx": ("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "transformers", "openvino"),
}


class ExportError(ValueError):
    """A compiled tower does not give the model's embeddings."""


class ExportReport(TypedDict):
    """The content of `export_report.json`.

    Args:
        fingerprint: the fingerprint of the weights that the towers were compiled from.
        pooling: tower → how its tokens became one vector, where that is a person's choice.
        interpolate: tower → the side of its images, where that is not the model's own.
        towers: tower → precision → how far its embeddings are from PyTorch's: `largest_difference`,
            `relative_difference`, `least_cosine` and `mean_cosine`, and `centred_cosine`, the mean cosine after the
            mean of PyTorch's embeddings is taken from both. Embeddings that are all alike have large cosines, whatever
            is lost; the last one shows how much is left of what tells inputs apart.
        files: tower → precision → its file in the repo.
        versions: library → its version.
    """

    fingerprint: str
    pooling: dict[str, str | None]
    interpolate: dict[str, int | None]
    towers: dict[str, dict[str, dict[str, float]]]
    files: dict[str, dict[str, str]]
    versions: dict[str, str]


def export(
    model: str,
    output: Path,
    backend: str,
    *,
    towers: Sequence[Modality] = (),
    calibration: str | Sequence[str] | None = None,
    least_cosine: float = LEAST_COSINE,
    depth_units: DepthUnits | None = None,
    overwrite: bool = False,
    revision: str = "main",
    **encoder: Unpack[EncoderLoading],
) -> ExportReport:
    """Write the repo of a model with its towers compiled, each by itself, for batches of any size.

    The new repo holds all that the old one holds, and a folder `onnx/` or `openvino/`. In it are one program per tower
    in the layout of `programs`, which other libraries load, and `export_report.json`. The report has the largest
    difference of each tower from PyTorch's embeddings of the same inputs, and the cosines to them.

    Args:
        model: folder or Hub id of an encoder.
        output: folder of the new repo.
        backend: "onnx" or "openvino".
        towers: "text", "image", "depth"; by default all of the model.
        calibration: the name of a data set, or of several, see `data.location.locate`: inputs such as will be embedded,
            some dozens to 300 for each tower. Half of them give the ranges, and the other half the cosines of the
            report. The towers that they have inputs for are also written in int8; a warning names the others.
        least_cosine: refuse int8 with a lower `centred_cosine`, from -1 to 1.
        depth_units: what the raw values of the calibration's depth maps mean.
        overwrite: replace an existing output.
        revision: branch, tag or commit of a model on the Hub.
        encoder: how an encoder of another library is loaded; see `load_encoder`.

    Returns:
        The report.

    Raises:
        ExportError: if a tower in float32 differs by more than 1e-5 of the largest number, or one in int8 has a lower
            cosine than `least_cosine`.
        ValueError: if the model has no such tower, or the calibration data has no inputs for any tower.
        OSError: if the model is not there, or the output is there already or cannot be written.
        ImportError: if transformers has no exporters yet, or a library of the backend is missing.
    """
    check_exporters()
    encoding = load_encoder(model, revision=revision, dtype=torch.float32, **encoder)
    loaded = cast(PreTrainedModel, encoding)
    if isinstance(encoding, (AnyEncoder, SentenceEncoder)):
        loaded = encoding.model
    check_weights(loaded)
    for tower in towers:
        encoding.tower(tower)  # ValueError
    towers = towers or encoding.towers
    sources = [calibration] if isinstance(calibration, str) else list(calibration or ())
    batches = calibration_inputs(encoding, towers, sources, depth_units) if sources else {}
    folder = Path(model) if Path(model).is_dir() else Path(snapshot_download(model, revision=revision))
    report: ExportReport = {
        "fingerprint": fingerprint(loaded),
        "pooling": {name: encoding.tower(name).pooling for name in towers},
        "interpolate": {name: encoding.tower(name).interpolate for name in towers},
        "towers": {name: {} for name in towers},
        "files": {name: {} for name in towers},
        "versions": library_versions(_LIBRARIES[backend]),
    }
    with new_folder(output, overwrite) as repo:
        copy_contents(folder, repo)
        is_only = len(encoding.towers) == 1
        programs: dict[tuple[Modality, str], Traced] = {}
        for name in towers:
            made = _programs(encoding.tower(name), backend, is_only, batches.get(name, []))
            programs.update({(name, precision): program for precision, program in made.items()})
        names = {(name, precision): program_name(name, precision, is_only) for name, precision in programs}
        paths = save_programs({names[key]: program for key, program in programs.items()}, backend, repo / backend)
        for name, precision in programs:
            path = paths[names[name, precision]]
            measured = _compared(encoding.tower(name), backend, precision, path, batches.get(name, []), least_cosine)
            report["towers"][name][precision] = measured
            report["files"][name][precision] = path.relative_to(repo).as_posix()
        text = json.dumps(report, indent=2) + "\n"
        (repo / backend / EXPORT_REPORT).write_text(text, encoding="utf-8")
        save_image_settings(encoding, repo)
    return report


def _programs(tower: Tower, backend: str, is_only: bool, calibration: list[dict[str, Tensor]]) -> dict[str, Traced]:
    """Precision → the program of a tower; that in 8 bits where there is something to calibrate it."""
    half = _calibrating(calibration)
    even = with_even_channels(tower, half) if half and tower.name == "depth" else tower
    exact = trace(even, backend, is_only)
    return {"float32": exact} | ({"int8": in_int8(backend, tower.name, exact, half)} if half else {})


def _calibrating(calibration: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The half of the inputs that gives the ranges; the other half judges the result."""
    return calibration[: max(len(calibration) // 2, 1)]


def _compared(
    tower: Tower,
    backend: str,
    precision: str,
    path: Path,
    calibration: list[dict[str, Tensor]],
    least_cosine: float,
) -> dict[str, float]:
    """How far a program that was written is from its tower.

    Raises:
        ExportError: if it is too far.
    """
    tower.model.eval()
    inputs = [random_batch(tower, _CHECKED)]
    if precision == "int8":
        inputs = calibration[len(_calibrating(calibration)) :] or calibration
    measured = _differences(tower, BACKENDS[backend](path, tower.input_names, precision), inputs)
    if precision == "float32" and not measured["relative_difference"] <= _TOLERANCE:
        raise ExportError(f"{tower.name}: the {backend} tower differs from PyTorch by {measured}")
    if precision == "int8" and not measured["centred_cosine"] >= least_cosine:
        raise ExportError(
            f"{tower.name}: int8 ruins its embeddings: {measured['centred_cosine']:.3f} of the cosine is left of what"
            f" tells {len(inputs)} inputs apart, expected {least_cosine} (--least-cosine); give more and other"
            " calibration data, or stay with bfloat16"
        )
    return measured


@torch.no_grad()
def _differences(tower: Tower, compiled: Backend, batches: list[dict[str, Tensor]]) -> dict[str, float]:
    expected = torch.cat([tower.embed(batch) for batch in batches])
    numbered = ((range(len(next(iter(batch.values())))), batch) for batch in batches)
    found = torch.cat([rows for _, rows in compiled.embed(numbered)])
    cosines = torch.cosine_similarity(expected, found)
    centre = expected.mean(0)
    spread = expected - centre
    # One input, or the same one again: there is nothing to tell apart.
    is_flat = bool(spread.abs().max() <= _TOLERANCE * expected.abs().max())
    centred = cosines if is_flat else torch.cosine_similarity(spread, found - centre)
    largest = (found - expected).abs().max().item()
    return {
        "largest_difference": largest,
        "relative_difference": largest / max(expected.abs().max().item(), 1e-12),
        "least_cosine": cosines.min().item(),
        "mean_cosine": cosines.mean().item(),
        "centred_cosine": centred.mean().item(),
    }
