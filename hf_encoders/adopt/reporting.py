"""The report of an adoption: that of a conversion, and where the code came from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ..conversion.plain_data import harmless, plain_metadata, plain_text
from ..conversion.report import plain, source_digest, taken_weights
from ..conversion.source_files import source_size
from ..fingerprint import sha256
from ..hub.reports import AdoptedReport, ConversionReport, Json
from .code.flattening import FlatCode
from .errors import AdoptError
from .generation import Network
from .weights import FoundWeights, common_dtype


def adoption_report(
    repo: Path,
    network: Network,
    code: FlatCode,
    found: FoundWeights,
    checkpoint: Path,
    loaded: Mapping[str, Any],
    notes: Sequence[str],
) -> ConversionReport:
    """The report, which still lacks the verification and the digests of the weights.

    Args:
        repo: with the code.
        network: what was adopted.
        code: its files.
        found: its weights.
        checkpoint: the file that they came from.
        loaded: what the process says that loaded the repo.
        notes: what a person should know, one line each.
    """
    chosen = found.chosen
    adopted: AdoptedReport = {
        "class": network.name,
        "file": plain(network.file),
        "arguments": cast(Mapping[str, Json], network.arguments),
        "inputs": {
            one.name: {
                "takes": one.takes,
                "shape": list(one.shape),
                "dtype": one.dtype,
                "below": one.below,
                "is_inverted": one.is_inverted,
            }
            for one in network.inputs
        },
        "embedding": network.embedding,
        "tied": dict(found.tied),
        "libraries": code.libraries,
        "code_sha256": {path.name: sha256(path) for path in sorted(repo.glob("*.py"))},
    }
    dropped = [harmless(key) for key in chosen.dropped]
    return {
        "source": {
            "name": plain(checkpoint.resolve().name),
            "size": source_size(checkpoint),
            "layout": network.name,
            "wrapping": plain_text(chosen.wrapping),
            "container": chosen.container,
            "classes": [harmless(name) for name in chosen.classes],
            "weights": taken_weights(chosen, [*found.notes, *notes]),
            "metadata": plain_metadata(chosen.metadata),
            "sha256": source_digest(checkpoint),
        },
        "architecture": str(loaded["class"]),
        "parameters": {"total": int(loaded["parameters"])},
        "parts": {},
        "container": [harmless(key) for key in chosen.network.container],
        "dropped": dropped,
        "adopted": adopted,
        "keys": {harmless(key): name for name, key in found.keys.items()} | dict.fromkeys(dropped),
        "dtype": common_dtype(found.tensors),
        "verification": None,
        "weights_sha256": {},
        "versions": {},
    }


def adopted_report(repo: Path, report: ConversionReport) -> AdoptedReport:
    """The part of a report that tells where an adopted network came from.

    Raises:
        AdoptError: if it has none.
    """
    adopted = report.get("adopted")
    if adopted is None:
        raise AdoptError(path=repo, reason="holds no adopted network")
    return adopted
