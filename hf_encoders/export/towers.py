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
from ..backends.exported_files import EXPORT_REPORT, random_batch, tower_file
from ..backends.onnx_backend import save_onnx
from ..backends.openvino_backend import save_openvino
from ..backends.programs import export_tower
from ..fingerprint import fingerprint
from ..hub.contents import copy_contents
from ..modalities import Modality
from ..models.backend import Backend
from ..models.depth_units import DepthUnits
from ..models.tower import Tower, check_weights
from ..outputs import new_folder
from ..sentence_encoder import SentenceEncoder
from ..versions import library_versions
from .int8 import calibration_inputs, save_int8, with_even_channels

_TOLERANCE = 1e-5  # of the largest number
_CHECKED = 8  # inputs
# Below it, the noise of 8 bits is three quarters of what tells inputs apart, and more.
LEAST_COSINE = 0.8
_LIBRARIES = {"onnx": ("torch", "onnx", "onnxruntime"), "openvino": ("torch", "openvino")}
_SAVE = {"onnx": save_onnx, "openvino": save_openvino}


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
        versions: library → its version.
    """

    fingerprint: str
    pooling: dict[str, str | None]
    interpolate: dict[str, int | None]
    towers: dict[str, dict[str, dict[str, float]]]
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

    The new repo holds all that the old one holds, and a folder `onnx/` or `openvino/`. In it are one file per tower and
    `export_report.json`. The report has the largest difference of each tower from PyTorch's embeddings of the same
    inputs, and the cosines to them.

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
    """
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
    with new_folder(output, overwrite) as repo:
        copy_contents(folder, repo)
        (repo / backend).mkdir(exist_ok=True)
        report: ExportReport = {
            "fingerprint": fingerprint(loaded),
            "pooling": {name: encoding.tower(name).pooling for name in towers},
            "interpolate": {name: encoding.tower(name).interpolate for name in towers},
            "towers": {
                name: _export_tower(encoding.tower(name), backend, repo, batches.get(name), least_cosine)
                for name in towers
            },
            "versions": library_versions(_LIBRARIES[backend]),
        }
        text = json.dumps(report, indent=2) + "\n"
        (repo / backend / EXPORT_REPORT).write_text(text, encoding="utf-8")
    return report


def _export_tower(
    tower: Tower, backend: str, repo: Path, calibration: list[dict[str, Tensor]] | None, least_cosine: float
) -> dict[str, dict[str, float]]:
    name, names = tower.name, tower.input_names
    half = max(len(calibration or ()) // 2, 1)  # the other half judges the result
    even = with_even_channels(tower, calibration[:half]) if calibration and name == "depth" else tower
    exact = _SAVE[backend](export_tower(even), names, repo / tower_file(backend, name, "float32"))
    tower.model.eval()
    report = {
        "float32": _differences(tower, BACKENDS[backend](exact, names, "float32"), [random_batch(tower, _CHECKED)])
    }
    if not report["float32"]["relative_difference"] <= _TOLERANCE:
        raise ExportError(f"{name}: the {backend} tower differs from PyTorch by {report['float32']}")
    if calibration:
        small = save_int8(backend, name, exact, repo / tower_file(backend, name, "int8"), calibration[:half])
        held_out = calibration[half:] or calibration
        report["int8"] = _differences(tower, BACKENDS[backend](small, names, "int8"), held_out)
        if not report["int8"]["centred_cosine"] >= least_cosine:
            raise ExportError(
                f"{name}: int8 ruins its embeddings: {report['int8']['centred_cosine']:.3f} of the cosine is left of"
                f" what tells {len(held_out)} inputs apart, expected {least_cosine} (--least-cosine); give more and"
                " other calibration data, or stay with bfloat16"
            )
    return report


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
