"""Adopts a network: code, weights, configuration, processor, proof and card, in a repo that appears whole or not."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors.torch import save_file

from ..checkpoints.files import open_checkpoint
from ..checkpoints.finding.choice import WeightsWanted
from ..conversion.report import report_versions, weight_digests, write_report
from ..hub.complete import complete_repo
from ..hub.remote_code import depth_processor_modules
from ..hub.reports import ConversionReport
from ..outputs import check_folder, new_folder
from .code.target import Target
from .embedding import beginnings
from .errors import AdoptError
from .example import read_example
from .generation import Network
from .inputs import WantedInput, name_inputs
from .prepared import Arguments, argument_notes, prepare
from .processes import OriginalProcess, run_loaded
from .processors import ProcessorOptions, check_words, reader_of
from .proof import judge_bits, run_request
from .reporting import adoption_report
from .weights import NetworkNames, find_weights, shapes_of
from .writing import network_of, write_model


@dataclass(frozen=True)
class AdoptOptions:
    """What a person says about a network.

    Args:
        inputs: the main one first; none where the example tells them.
        arguments: of its constructor, by name.
        arguments_from: a dotted path into the checkpoint, to what it says of them.
        example: a file with an input of the proof.
        embedding: an expression over `output`; None where the output is the embedding.
        weights: which weights of the file.
        processor: what reads raw inputs.
        license: the Hub's identifier of the licence.
        overwrite: replace an existing output.
    """

    inputs: Sequence[WantedInput] = ()
    arguments: dict[str, object] = field(default_factory=dict)
    arguments_from: str | None = None
    example: Path | None = None
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
    example = None if options.example is None else read_example(options.example)
    if not (wanted := options.inputs or (example.wanted() if example else [])):
        raise AdoptError("give --input, such as 1x3x224x224, or --example")
    file = open_checkpoint(checkpoint)
    taken = depth_processor_modules() if options.processor.modality == "depth" else ()
    prepared = prepare(target, file, Arguments(options.arguments, options.arguments_from), taken)
    part = prepared.part
    with tempfile.TemporaryDirectory(prefix="adopt-") as name:
        work = Path(name)
        prepared.write_request(work)
        with OriginalProcess(work) as original:
            described = original.answer()
            names = NetworkNames(shapes_of(described["weights"]), described["tied"])
            inputs = name_inputs(wanted, described["takes"], options.processor.modality)
            reader = reader_of(options.processor, inputs[0])
            inputs[0] = replace(inputs[0], below=reader.words)
            given = example.given(inputs, reader) if example else {}
            found = find_weights(file, part.name, names, options.weights, target.attributes)
            save_file(found.tensors, work / "weights.safetensors")
            check_words(reader, inputs, described["tables"])
            ran = original.answer(run_request(work, inputs, expressions, given))
        network, code = network_of(prepared, described, inputs, ran, options.processor.modality)
        notes = [
            *prepared.notes,
            *argument_notes(prepared, options.arguments_from, network.arguments),
            *_notes(network, described["takes"], ran["neighbours"]),
        ]
        with new_folder(output, options.overwrite) as repo:
            write_model(repo, network, code, found)
            reader.write(repo)
            loaded = run_loaded(work, repo, prepared.tree.roots)
            report = adoption_report(repo, network, code, found, checkpoint, loaded, notes)
            report["parts"] = reader.parts or {}
            report["verification"] = judge_bits(work, network.name, network.file, checkpoint)
            if options.example is not None:
                report["adopted"]["example"] = options.example.name
            report["weights_sha256"] = weight_digests(repo)
            report["versions"] = report_versions()
            write_report(repo, report)
            complete_repo(repo, remote_code=False, name=output.name, license=options.license)
    return report


def _notes(network: Network, takes: Sequence[str], neighbours: float | None) -> list[str]:
    """What a person should know of the network."""
    found = []
    if neighbours is not None:
        found.append(
            f"warning: an embedding changes by {neighbours:.1e} with the inputs beside it in a batch; does a BatchNorm"
            " use the statistics of the batch?"
        )
    if network.reads_padding or network.pads_to_limit:
        masks = [name for name in takes if name.endswith("mask")]
        why = "the network gets no mask"
        if masks:
            why += f"; forward takes {masks[0]}: --input {masks[0]}=SHAPE"
        if network.padding is not None:
            why = f"the embedding changes by {network.padding:.1e} with words that the mask hides"
        found.append(f"texts are padded to {network.inputs[0].shape[1]} words: {why}")
    return found
