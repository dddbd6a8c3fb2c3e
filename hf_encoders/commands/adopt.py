"""Turn a network of your own into a repo that AutoModel.from_pretrained loads, and prove that it is the same.

    hf-encoders adopt net.py:Encoder --weights last.ckpt --kwargs '{"dim": 64, "depth": 4}' --input 1x3x224x224
        --embedding 'output[0].mean(1)' --modality image --mean 0.5,0.5,0.5 --std 0.5,0.5,0.5 --output repo
    hf-encoders adopt lit.py:Lit.encoder --weights last.ckpt --kwargs-from hyper_parameters --input 1x3x64x64
        --output repo
    hf-encoders adopt chars.py:TextNet --weights net.pt --input 1x64 --modality text --tokenizer vocab.json
        --output repo
    hf-encoders adopt range.py:Range --weights range.pt --input 1x1x128x128 --example map.png --modality depth
        --unit-scale 0.001 --value-range 0 10 --output repo

The class's code runs in processes of its own, and nowhere else; nothing in the checkpoint is executed.
"""

import argparse
from typing import TYPE_CHECKING

from ..models.input_errors import printable
from ..plurals import counted
from .encoder_options import numbers
from .options import add_depth_units, add_format, add_overwrite, depth_units, path
from .runner import Result

if TYPE_CHECKING:
    from pathlib import Path

    from ..hub.reports import ConversionReport


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("network", metavar="FILE.py:CLASS", help="the class, or FILE.py:CLASS.ATTRIBUTE for its part")
    parser.add_argument("--weights", dest="checkpoint", type=path, required=True, metavar="FILE", help="its weights")
    parser.add_argument("--output", type=path, required=True, help="folder to write")
    parser.add_argument("--kwargs", metavar="JSON", help="arguments of the class: JSON, YAML, or a file of it")
    parser.add_argument(
        "--kwargs-from", metavar="PATH", help="take them from the weights' file, such as from hyper_parameters or args"
    )
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="SHAPE",
        help="shape of an input, such as 1x3x224x224, or mask=1x16:int64 (repeatable, as forward takes them)",
    )
    parser.add_argument(
        "--example", type=path, metavar="FILE", help="an input for the proof: .pt or .npy, or a picture with --modality"
    )
    parser.add_argument(
        "--embedding", metavar="EXPRESSION", help="the embedding [B, D], such as 'output[0].mean(1)' (default: output)"
    )
    parser.add_argument("--weights-path", metavar="PATH", help="the weights to take, of a file with several")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help="leave out keys such as 'head.*' (repeatable)"
    )
    raw = parser.add_argument_group("raw inputs", "what reads them; DIR_OR_ID is a folder or a Hub id")
    raw.add_argument("--modality", choices=("image", "depth", "text"), help="what the network embeds")
    raw.add_argument("--mean", type=numbers, metavar="X,X,X", help="of the channels, of values from 0 to 1")
    raw.add_argument("--std", type=numbers, metavar="X,X,X", help="standard deviation of the channels")
    raw.add_argument("--image-processor", metavar="DIR_OR_ID", help="an image processor, instead of these two")
    raw.add_argument("--tokenizer", metavar="DIR_OR_ID", help="a tokenizer, or a JSON file of characters and numbers")
    depth = parser.add_argument_group(
        "depth maps", "which become [-1, 1], each from its minimum to its maximum if no range is given"
    )
    add_depth_units(depth)
    depth.add_argument("--metres", action="store_true", help="the network takes metres as they are, not [-1, 1]")
    parser.add_argument("--license", metavar="NAME", help="the licence for the card, such as apache-2.0")
    add_overwrite(parser)
    add_format(parser, "one document: output, report (conversion_report.json), notes")


def run(args: argparse.Namespace) -> Result:
    """Adopt a network.

    Raises:
        ValueError: if the code, the weights or an option cannot be used.
        OSError: if the output exists already or cannot be written.
    """
    from ..adopt.code.target import parse_target

    target = parse_target(args.network)  # before anything heavy is imported
    from ..adopt.adopt import AdoptOptions, adopt
    from ..adopt.arguments import given_arguments
    from ..adopt.inputs import parse_input
    from ..adopt.processors import ProcessorOptions
    from ..checkpoints.finding.choice import WeightsWanted
    from ..conversion.weights_taken import several_weights, weights_lines
    from ..progress import quiet_libraries

    quiet_libraries()
    options = AdoptOptions(
        inputs=[parse_input(text) for text in args.input],
        arguments=given_arguments(args.kwargs) if args.kwargs is not None else {},
        arguments_from=args.kwargs_from,
        example=args.example,
        embedding=args.embedding,
        weights=WeightsWanted(args.weights_path, tuple(args.ignore)),
        processor=ProcessorOptions(
            args.modality,
            args.mean,
            args.std,
            args.image_processor,
            args.tokenizer,
            depth_units(args, *([args.modality] if args.modality else [])),
            args.metres,
        ),
        license=args.license,
        overwrite=args.overwrite,
    )
    report = adopt(target, args.checkpoint, args.output, options)
    on_top = several_weights(report["source"], args.weights_path)
    notes = [*weights_lines(report), *_notes(args)]
    source = report["source"]
    lines = [
        *on_top,
        printable(f"{args.checkpoint}: {source['wrapping']}, of {source['layout']} in {target.file}"),
        *notes,
        f"{counted(report['parameters']['total'], 'parameter')} in {report['dtype']} → {args.output}",
        *_proof(report),
        *_loading(report, args.output),
    ]
    return Result(lines, {"output": str(args.output), "report": report, "notes": [*on_top, *notes]})


def _proof(report: "ConversionReport") -> list[str]:
    verification, adopted = report["verification"], report.get("adopted")
    if verification is None or adopted is None:
        return []
    sizes = sorted({shape[0] for shape in verification["inputs"].get("shapes", {}).values()})
    return [
        f"verified: the same bits as {adopted['class']} of {adopted['file']} in float32, for batches of"
        f" {' and '.join(map(str, sizes))}; embedding: {adopted['embedding']}"
    ]


def _loading(report: "ConversionReport", output: "Path") -> list[str]:
    adopted = report.get("adopted")
    libraries = [name for name in (adopted["libraries"] if adopted else ()) if name not in ("torch", "transformers")]
    needs = f" (it needs {', '.join(libraries)})" if libraries else ""
    return [f'load it: AutoModel.from_pretrained("{output}", trust_remote_code=True){needs}']


def _notes(args: argparse.Namespace) -> list[str]:
    notes = []
    if args.modality is None:
        notes.append("note: without --modality the repo has no processor, so our commands do not take it")
    if args.modality == "image" and not args.image_processor:
        notes.append("note: images are resized (bicubic) and cropped in their centre; --image-processor says otherwise")
    if args.modality == "depth" and not args.metres and args.value_range is None:
        notes.append("note: each depth map is stretched from its minimum to its maximum; --value-range says otherwise")
    if args.license is None:
        notes.append("note: nothing tells its licence; --license NAME writes it on the card")
    return notes
