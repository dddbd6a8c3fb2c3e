"""Writes a conversion of any layout: precision, verification, report, card, and an output that appears whole."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..checkpoints.errors import LayoutError
from ..hub.complete import complete_repo
from ..hub.reports import ConversionReport, Figures, PartsReport, Verification
from ..outputs import new_folder
from .compare import EMBEDDINGS, compare
from .encoders.source import EncoderSource
from .families.legacy.depth_layouts import LegacyDepthCheckpoint
from .families.legacy.multimodal_layouts import LegacyMultimodalCheckpoint
from .plain_data import harmless, plain_metadata, plain_text
from .report import (
    plain,
    report_versions,
    source_digest,
    taken_weights,
    weight_digests,
    write_report,
)
from .source_files import source_size

DTYPES = ("float32", "float16", "bfloat16")


class Conversion(Protocol):
    """A recognised checkpoint on its way to a repo.

    Args:
        wanted: the tensors of the repo, by canonical legacy name, in the precision of the file.
    """

    wanted: Mapping[str, Tensor]

    @property
    def source(self) -> LegacyDepthCheckpoint | LegacyMultimodalCheckpoint | EncoderSource:
        """The recognised file."""

    def check(self) -> None:
        """Refuse tensors with values that no network can hold."""

    def write(self, repo: Path, tensors: dict[str, Tensor]) -> PreTrainedModel:
        """Write the model and its parts; `tensors` are the wanted ones in the precision to write."""

    def expected(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the verification's inputs through the legacy network."""

    def verify(self, repo: Path, expected: Mapping[str, Tensor]) -> Verification:
        """Compare a repo's outputs with the expected ones."""

    def report(self, model: PreTrainedModel) -> PartsReport:
        """The entries of the report that only this layout has."""

    def keys(self) -> dict[str, str | None]:
        """Key in the file → name in the repo, or None for a key that is not carried over."""

    def release(self) -> None:
        """Let go of all tensors; the conversion cannot be used afterwards."""


def write_repo(
    conversion: Conversion,
    output: Path,
    *,
    dtype: str | None = None,
    verified: bool = True,
    overwrite: bool = False,
    remote_code: bool = False,
    license: str | None = None,
) -> None:
    """Write a repo with report and card.

    Args:
        conversion: the recognised checkpoint. It is released before the repo is verified, so that the file's tensors
            and the model that is verified are not in memory together.
        output: the folder to write.
        dtype: precision of the written weights; the file's own by default.
        verified: compare the written repo with the legacy tensors before it appears.
        overwrite: replace an existing output.
        remote_code: write the model files of the package beside the weights.
        license: the Hub's identifier of the licence, for the card.

    Raises:
        CheckpointError: if the file cannot be used.
        VerificationError: if the repo does not give the file's numbers.
        OSError: if the output exists already or cannot be written.
    """
    with ThreadPoolExecutor(1) as background:  # the digest takes as long as the rest, and runs beside it
        digest = background.submit(source_digest, conversion.source.path)
        conversion.check()
        dtype = dtype or _common_dtype(conversion.wanted)
        tensors = _cast(conversion.wanted, dtype)
        with new_folder(output, overwrite) as repo:
            report = _write(conversion, repo, tensors, dtype)
            expected = conversion.expected(tensors) if verified else {}
            rounded = any(tensor.dtype != conversion.wanted[name].dtype for name, tensor in tensors.items())
            rounding = _rounding(conversion, expected) if verified and rounded else None
            conversion.release()
            del tensors
            if verified:
                report["verification"] = verification = conversion.verify(repo, expected)
                if rounding:
                    verification["rounding"] = {"to": dtype, **rounding}
            report["source"]["sha256"] = digest.result()
            report["weights_sha256"] = weight_digests(repo)
            report["versions"] = report_versions()
            write_report(repo, report)
            complete_repo(repo, remote_code=remote_code, name=plain(output.name), license=license)


def _write(conversion: Conversion, repo: Path, tensors: dict[str, Tensor], dtype: str) -> ConversionReport:
    """Write the model; returns the report about it and its source, which still lacks the verification and digests."""
    source = conversion.source
    model = conversion.write(repo, tensors)
    return {
        "source": {
            "name": plain(source.path.resolve().name),
            "size": source_size(source.path),
            "layout": source.layout,
            "wrapping": plain_text(source.wrapping),
            "container": source.chosen.container,
            "classes": [harmless(name) for name in source.chosen.classes],
            "weights": taken_weights(source.chosen, source.notes),
            "metadata": plain_metadata(source.metadata),
            "sha256": "",
        },
        "architecture": type(model).__name__,
        **conversion.report(model),
        "keys": {harmless(key): name for key, name in conversion.keys().items()},
        "dtype": dtype,
        "verification": None,
        "weights_sha256": {},
        "versions": {},
    }


def _common_dtype(tensors: Mapping[str, Tensor]) -> str:
    found = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.is_floating_point()}
    return found.pop() if len(found) == 1 and found <= set(DTYPES) else "float32"


def _cast(tensors: Mapping[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Cast floating-point tensors to another precision; those that have it stay mapped from their file."""
    target = getattr(torch, dtype)
    converted = {name: t.to(target) if t.is_floating_point() else t.to(torch.int64) for name, t in tensors.items()}
    for name, tensor in converted.items():
        if tensor.dtype != tensors[name].dtype and not tensor.isfinite().all():
            raise LayoutError(f"{name} does not fit into {dtype}; choose bfloat16 or float32")
    return converted


def _rounding(conversion: Conversion, after: dict[str, Tensor]) -> dict[str, Figures]:
    """Measure how storing the weights in another precision changes the embeddings."""
    before = conversion.expected(dict(conversion.wanted))
    rounding: dict[str, Figures] = {}
    for name in EMBEDDINGS:
        if name in before:
            rounding[name] = compare(before[name], after[name])
            rounding[name]["least_cosine"] = torch.cosine_similarity(before[name], after[name]).min().item()
    return rounding
