"""Adopts a network: code, weights, configuration, processor, proof and card, in a repo that appears whole or not."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.files import open_checkpoint
from ..checkpoints.finding.choice import WeightsWanted
from ..conversion.compare import ABSOLUTE, compare
from ..conversion.report import report_versions, weight_digests, write_report
from ..hub.complete import complete_repo
from ..hub.reports import ConversionReport, Figures, Verification
from ..outputs import check_folder, new_folder
from .arguments import arguments_in
from .attributes import Part, part_of
from .embedding import beginnings
from .errors import AdoptError
from .flattening import FlatCode, flatten
from .generation import BASE, SETTINGS, Network, configuration_file, modeling_file, requirements_file
from .inputs import WantedInput, name_inputs
from .processes import OriginalProcess, run_loaded
from .processors import ProcessorOptions, reader_of
from .reporting import adoption_report
from .source_tree import SourceTree, class_of
from .target import Target
from .weights import FoundWeights, NetworkNames, common_dtype, find_weights, shapes_of

_HERE = Path(__file__).parent
_COPY = "adopted_copy"
_MORE = 2  # rows that the second batch has beyond the first


@dataclass(frozen=True)
class AdoptOptions:
    """What a person says about a network.

    Args:
        arguments: of its constructor, by name.
        arguments_from: a dotted path into the checkpoint, to what it says of them.
        inputs: the main one first.
        embedding: an expression over `output`; None where the output is the embedding.
        weights: which weights of the file.
        processor: what reads raw inputs.
        license: the Hub's identifier of the licence.
        overwrite: replace an existing output.
    """

    inputs: Sequence[WantedInput]
    arguments: dict[str, object] = field(default_factory=dict)
    arguments_from: str | None = None
    embedding: str | None = None
    weights: WeightsWanted = field(default_factory=WeightsWanted)
    processor: ProcessorOptions = field(default_factory=ProcessorOptions)
    license: str | None = None
    overwrite: bool = False


def adopt(target: Target, checkpoint: Path, output: Path, options: AdoptOptions) -> ConversionReport:
    """Make a repo of a network, and prove that it gives the same bits.

    Args:
        target: the class.
        checkpoint: the file of weights; nothing in it is executed.
        output: the folder to write.
        options: what a person says.

    Returns:
        The report, which lies in the repo too.

    Raises:
        InputError: if the code, the file or an option cannot be used, or the repo does not give the same bits.
        OSError: if the output exists already or cannot be written.
    """
    check_folder(output, options.overwrite)
    expressions = None if options.embedding is None else beginnings(options.embedding)
    tree = SourceTree(target.file)
    class_of(tree.main, target.name)
    file = open_checkpoint(checkpoint)
    arguments, loose, notes = _arguments(file, options)
    part = part_of(tree, target, arguments)
    draft = Network(part.name, "", "", {}, (), (), "", "", 0, False, False)
    taken = (BASE, SETTINGS, f"configuration_{draft.snake}", f"modeling_{draft.snake}")
    code = flatten(tree, part.name, part.source, taken)
    with tempfile.TemporaryDirectory(prefix="adopt-") as name:
        work = Path(name)
        _write_request(work, tree, part, code, loose)
        with OriginalProcess(work) as original:
            described = original.answer()
            names = NetworkNames(shapes_of(described["weights"]), described["tied"])
            inputs = name_inputs(options.inputs, described["takes"], options.processor.modality)
            reader = reader_of(options.processor, inputs[0])
            inputs[0] = replace(inputs[0], below=reader.words)
            found = find_weights(file, part.name, names, options.weights)
            save_file(found.tensors, work / "weights.safetensors")
            first = inputs[0].shape[0]
            ran = original.answer(
                {
                    "inputs": [vars(one) for one in inputs],
                    "batches": [first, first + _MORE],
                    "embedding": expressions,
                }
            )
        network = Network(
            part.name, code.main, part.source.path.name, described["arguments"], described["order"], inputs,
            ran["embedding"], ran["state"], ran["size"], bool(described["tied"]), described["is_lazy"],
        )  # fmt: skip
        with new_folder(output, options.overwrite) as repo:
            _write_model(repo, network, code, found)
            reader.write(repo)
            loaded = run_loaded(work, repo, tree.roots)
            report = adoption_report(repo, network, code, found, checkpoint, loaded, notes)
            report["parts"] = reader.parts or {}
            report["verification"] = _verify(work, network, checkpoint)
            report["weights_sha256"] = weight_digests(repo)
            report["versions"] = report_versions()
            write_report(repo, report)
            complete_repo(repo, remote_code=False, name=output.name, license=options.license)
    return report


def _arguments(file: Checkpoint, options: AdoptOptions) -> tuple[dict[str, object], list[str], list[str]]:
    """The arguments, those of them that the class need not take, and what a person should know of them."""
    if options.arguments_from is None:
        return options.arguments, [], []
    stated, others = arguments_in(file, options.arguments_from)
    loose = [name for name in stated if name not in options.arguments]
    left_out = f"{options.arguments_from}: {', '.join(others)} left out: JSON does not hold them"
    return stated | options.arguments, loose, [left_out] if others else []


def _write_request(work: Path, tree: SourceTree, part: Part, code: FlatCode, loose: Sequence[str]) -> None:
    copies = work / "copies" / _COPY
    copies.mkdir(parents=True)
    (copies / "__init__.py").touch()
    for module, text in code.files.items():
        (copies / f"{module}.py").write_text(text, encoding="utf-8")
    request: dict[str, Any] = {
        "roots": [str(root) for root in tree.roots],
        "file": str(part.source.path),
        "module": part.source.module,
        "class": part.name,
        "copies": str(copies.parent),
        "copy": f"{_COPY}.{code.main}",
        "libraries": code.libraries,
        "settings": str(_HERE / f"{SETTINGS}.py"),
        "arguments": part.arguments,
        "loose": list(loose),
    }
    (work / "request.json").write_text(json.dumps(request), encoding="utf-8")


def _write_model(repo: Path, network: Network, code: FlatCode, found: FoundWeights) -> None:
    save_file(found.tensors, repo / "model.safetensors", {"format": "pt"})
    settings = network.settings() | {"dtype": common_dtype(found.tensors)}
    texts = {f"{module}.py": text for module, text in code.files.items()} | {
        f"configuration_{network.snake}.py": configuration_file(network),
        f"modeling_{network.snake}.py": modeling_file(network),
        "config.json": json.dumps(settings, indent=2, ensure_ascii=False) + "\n",
        "requirements.txt": requirements_file(code.libraries),
    }
    for name, text in texts.items():
        (repo / name).write_text(text, encoding="utf-8")
    shutil.copyfile(_HERE / f"{BASE}.py", repo / f"{BASE}.py")
    if "Settings(" in texts[f"modeling_{network.snake}.py"]:
        shutil.copyfile(_HERE / f"{SETTINGS}.py", repo / f"{SETTINGS}.py")


def _verify(work: Path, network: Network, checkpoint: Path) -> Verification:
    """Compare what the repo gives with what the class gives, bit for bit.

    Raises:
        AdoptError: if a bit differs.
    """
    expected, actual = load_file(work / "expected.safetensors"), load_file(work / "actual.safetensors")
    figures: dict[str, Figures] = {}
    for name in expected:
        output = name.partition(".")[2]
        one = compare(expected[name], actual[name])
        if not torch.equal(expected[name], actual[name]):
            raise AdoptError(
                f"the repo's {output} differs from that of {network.name} by {one['largest_difference']:.1e}; does the"
                " code do something at its import, or keep values outside of its weights?"
            )
        before = figures.get(output)
        if before is None or one["largest_magnitude"] > before["largest_magnitude"]:
            figures[output] = one
    shapes = {name: list(tensor.shape) for name, tensor in load_file(work / "inputs.safetensors").items()}
    against = f"{network.name} of {network.file} with the weights of {checkpoint.name}, float32, CPU: the same bits"
    limits = {"inputs": {"shapes": shapes, "seed": 0}, "against": against, "tolerance": 0.0, "measure": ABSOLUTE}
    return cast(Verification, limits | figures)  # the outputs are keys beside those of the type
