"""Verifies an adopted repo again: that its files are those of the report, and that they give what the class gives."""

import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.errors import NoSuchWeightsError
from ..checkpoints.files import open_checkpoint
from ..checkpoints.finding.choice import WeightsWanted
from ..conversion.report import read_report
from ..fingerprint import sha256
from ..hub.remote_code import depth_processor_modules
from ..hub.reports import ConversionReport, Verification
from .adopted_network import file_name
from .code.target import Target
from .embedding import beginnings
from .errors import AdoptError
from .generation import Input, Network
from .prepared import Arguments, prepare
from .processes import OriginalProcess, run_loaded
from .proof import judge_bits, run_request
from .reporting import adopted_report
from .weights import FoundWeights, NetworkNames, find_weights, shapes_of
from .writing import network_of, python_files


def check_files(repo: Path) -> dict[str, str]:
    """Compare the weights and the code of a repo with its report. None of the code is run.

    Args:
        repo: its folder.

    Returns:
        File → its digest.

    Raises:
        AdoptError: if one is missing, or another one; if code is there that was not verified.
    """
    report = read_report(repo)
    stated = {**report["weights_sha256"], **adopted_report(repo, report)["code_sha256"]}
    for name, digest in stated.items():
        file = repo / name
        if not file.is_file() or sha256(file) != digest:
            what = "is not the file that was verified" if file.is_file() else "is missing"
            raise AdoptError(path=repo, reason=f"{name} {what}", hint="adopt the network again")
    if others := sorted({path.name for path in repo.glob("*.py")} - stated.keys()):
        raise AdoptError(path=repo, reason=f"{others[0]} is code that was not verified")
    return stated


def prove_again(repo: Path, target: Target, checkpoint: Path) -> Verification:
    """Run the class and the repo on the inputs of the report, each in a process of its own.

    Args:
        repo: its folder; its code is run once it is known to be what the class gives.
        target: the class that was adopted, as it is now.
        checkpoint: the file of weights that it was adopted with.

    Raises:
        InputError: if the file holds other weights, the repo other code, or a bit differs.
    """
    check_files(repo)
    report = read_report(repo)
    adopted = adopted_report(repo, report)
    file = open_checkpoint(checkpoint)
    modality = json.loads((repo / "config.json").read_text(encoding="utf-8")).get("embeds")
    taken = depth_processor_modules() if modality == "depth" else ()
    prepared = prepare(target, file, Arguments(adopted["arguments"], are_final=True), taken)
    inputs = [
        Input(name, one["takes"], tuple(one["shape"]), one["dtype"], one["below"], one["is_inverted"])
        for name, one in adopted["inputs"].items()
    ]
    name = prepared.part.name
    with tempfile.TemporaryDirectory(prefix="adopt-") as folder:
        work = Path(folder)
        prepared.write_request(work)
        with OriginalProcess(work) as original:
            described = original.answer()
            names = NetworkNames(shapes_of(described["weights"]), described["tied"])
            found = _find(file, name, names, report)
            stored = load_file(repo / "model.safetensors")
            for own, tensor in found.tensors.items():
                name_there = file_name(own)
                if name_there not in stored or not torch.equal(tensor, stored[name_there]):
                    raise AdoptError(path=checkpoint, reason=f"{found.keys[own]!r} is not what {repo} holds")
            save_file(found.tensors, work / "weights.safetensors")
            ran = original.answer(run_request(work, inputs, beginnings(adopted["embedding"]), {}))
        network, code = network_of(prepared, described, inputs, ran, modality)
        _check_code(repo, network, python_files(network, code), taken)
        run_loaded(work, repo, prepared.tree.roots)
        return judge_bits(work, name, prepared.part.source.path.name, checkpoint)


def _check_code(repo: Path, network: Network, files: Mapping[str, str], of_processor: Collection[str]) -> None:
    """Refuse to run code of a repo that is not that of the class which a person named.

    Args:
        repo: its folder.
        network: the class.
        files: name → text, as the class gives them now.
        of_processor: modules of this package that are beside them, and are not run.
    """
    for path in sorted(repo.glob("*.py")):
        if path.stem in of_processor:
            continue
        if files.get(path.name) != path.read_text(encoding="utf-8"):
            reason = f"{path.name} is not what {network.name} of {network.file} gives now, so it is not run"
            raise AdoptError(path=repo, reason=reason, hint="adopt the network again")


def _find(file: Checkpoint, name: str, names: NetworkNames, report: ConversionReport) -> FoundWeights:
    """The weights that were adopted; of another file with the same weights, those that it would give."""
    taken = report["source"].get("weights")
    path, ignored = (taken["path"], tuple(taken["ignored"])) if taken else (None, ())
    try:
        return find_weights(file, name, names, WeightsWanted(path, ignored))
    except NoSuchWeightsError:
        return find_weights(file, name, names, WeightsWanted(ignore=ignored))
