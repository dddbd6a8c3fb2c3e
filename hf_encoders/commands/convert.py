"""Turn a checkpoint into a repo that AutoModel.from_pretrained loads, and prove that it is the same.

    hf-encoders convert best_model.pth
    hf-encoders convert best_model.pth --output depth-semantic-encoder --include-decoder --dtype float16
    hf-encoders convert checkpoint.pt --text-model bert-base-uncased --with-training-state
    hf-encoders convert checkpoint.pt --tokenizer vocab.txt --attention-heads 12 --depth-encoder depth-semantic-encoder
    hf-encoders convert last.ckpt --weights ema_state_dict --ignore 'head.*'
    hf-encoders convert dino_vitbase16.pth --weights teacher --license apache-2.0
    hf-encoders convert ViT-B-32.pt --hidden-act quick_gelu --tokenizer openai/clip-vit-base-patch32
    hf-encoders convert vit.pth --original net.py:ViT --original-kwargs '{"depth": 12}'
    hf-encoders convert best_model.pth --with-remote-code
    hf-encoders convert best_model.pth --push-to-hub org/depth-semantic-encoder

The weights are looked for in the whole file, and the output says what was taken and what else is there. All sizes come
from the file. Bad input ends in one line and exit status 2. The output appears whole or not at all. In a clone, `python
conversion/convert_ckpt.py` does the same.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from .. import command_line
from ..models.input_errors import printable
from ..plurals import counted
from .encoder_options import add_encoder_options, input_options
from .options import add_destination, add_format, add_overwrite, check_destination, path
from .runner import Result, perform_alone

if TYPE_CHECKING:
    from pathlib import Path

    from ..adopt.witness import OwnNetwork
    from ..conversion.depth import DepthOptions
    from ..conversion.families.family import EncoderOptions
    from ..conversion.multimodal import MultimodalOptions

_Options = TypeVar("_Options", "DepthOptions", "MultimodalOptions", "EncoderOptions")

_DTYPES = ("float32", "float16", "bfloat16")
_MULTIMODAL, _AUTOENCODER = "multimodal-encoder", "DepthAutoencoderModel"
_FAMILIES = ("bert", "clip", "convnext", "convnextv2", "dinov2", "resnet", "roberta", "swin", "vit")
_LAYOUTS = ("auto", "depth-autoencoder", "depth-encoder", _MULTIMODAL, *_FAMILIES)


def main() -> None:
    """Run the command by itself; bad input ends in one line on stderr and exit status 2."""
    command_line.run(lambda: command(sys.argv[1:]))


def command(argv: Sequence[str]) -> None:
    """Parse the arguments and convert."""
    perform_alone("convert_ckpt.py", __doc__, add_options, run, argv)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("checkpoint", nargs="?", type=path, help="file or folder of weights, of any kind")
    parser.add_argument("--output", type=path, help="folder to write (default: CHECKPOINT's name with -hf, beside it)")
    parser.add_argument(
        "--layout", choices=_LAYOUTS, default="auto", help="refuse a file of another layout (default: any)"
    )
    parser.add_argument("--weights", metavar="PATH", help="the weights to take, of a file with several: a dotted path")
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help="leave out keys such as 'head.*' (repeatable)"
    )
    parser.add_argument("--dtype", choices=_DTYPES, help="precision to write (default: the file's own)")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the result with the legacy network")
    add_overwrite(parser)
    add_format(parser, "one document: output, report (conversion_report.json), notes, pushed_to")
    depth = parser.add_argument_group("depth checkpoints")
    depth.add_argument("--include-decoder", action="store_true", help="write the autoencoder, not the encoder alone")
    depth.add_argument("--input-channels", type=int, metavar="N", help="channels that the file must have")
    depth.add_argument("--latent-dim", type=int, metavar="N", help="embedding dimension that the file must have")
    multimodal = parser.add_argument_group("multimodal checkpoints", "DIR_OR_ID is a folder or a Hub id")
    multimodal.add_argument("--text-model", metavar="DIR_OR_ID", help="BERT's configuration and tokenizer")
    multimodal.add_argument("--vision-model", metavar="DIR_OR_ID", help="ViT's configuration and image processor")
    multimodal.add_argument("--allow-no-tokenizer", action="store_true", help="write a repo that cannot read texts yet")
    multimodal.add_argument("--depth-encoder", metavar="REPO", help="a depth semantic encoder to add as depth tower")
    parser.add_argument(
        "--with-training-state",
        action="store_true",
        help="write the optimizer's state too, for `hf-encoders train ... --resume_from_checkpoint`; of a depth"
        " checkpoint with --include-decoder",
    )
    add_encoder_options(parser)
    own = parser.add_argument_group(
        "your own network", "computes what an encoder's repo is compared with; it runs in a process of its own"
    )
    own.add_argument("--original", metavar="FILE.py:CLASS", help="the class, instead of our reference")
    own.add_argument("--original-kwargs", metavar="JSON", help="its arguments: JSON, YAML, or a file of it")
    own.add_argument("--original-kwargs-from", metavar="PATH", help="take them from the checkpoint, such as from args")
    own.add_argument(
        "--original-output",
        action="append",
        default=[],
        metavar="NAME=EXPRESSION",
        help="what its output is, such as pooler_output='output[:, 0]' (repeatable)",
    )
    hub = parser.add_argument_group("the Hub")
    hub.add_argument("--license", metavar="NAME", help="the licence for the card, such as apache-2.0; no file tells it")
    hub.add_argument("--push-to-hub", metavar="ID", help="push the result, such as to org/depth-semantic-encoder")
    add_destination(hub)
    again = parser.add_argument_group("checking again")
    again.add_argument("--verify", metavar="REPO", help="check a converted repo again")
    again.add_argument(
        "--against", type=path, metavar="CHECKPOINT", help="with --verify: the legacy file to compare with"
    )


def run(args: argparse.Namespace) -> Result:
    """Convert, and push if asked to. The result says what was found and proved.

    Raises:
        ValueError: if the options contradict each other or the file, or the file cannot be used.
        OSError: if the output exists already or cannot be written.
    """
    _check(args)
    from ..conversion.weights_taken import several_weights, weights_lines
    from . import verify

    if args.verify is not None:
        return verify.verify(args.verify, args.against)  # --revision is an option of the push here: it names the branch
    from ..checkpoints.finding.choice import WeightsWanted
    from ..conversion.assumptions import from_report, warnings
    from ..conversion.convert import convert
    from ..conversion.depth import DepthOptions
    from ..conversion.families.family import EncoderOptions
    from ..conversion.multimodal import MultimodalOptions
    from ..conversion.notes import conversion_notes
    from ..conversion.report import read_report
    from ..hub.push import Destination, push_model
    from ..progress import quiet_libraries

    quiet_libraries()
    output = convert(
        args.checkpoint,
        args.output,
        layout=args.layout,
        weights=WeightsWanted(args.weights, tuple(args.ignore)),
        dtype=args.dtype,
        verified=not args.no_verify,
        overwrite=args.overwrite,
        remote_code=bool(args.with_remote_code),
        depth=_options(DepthOptions, args),
        multimodal=_options(MultimodalOptions, args),
        encoder=_options(EncoderOptions, args),
        inputs=input_options(args),
        license=args.license,
        witness=_own_network(args),
    )
    report = read_report(output)
    notes = conversion_notes(report, args.license)
    assumed = from_report(report)
    on_top = [*warnings(assumed), *several_weights(report["source"], args.weights)]
    lines = [
        *on_top,
        printable(f"{args.checkpoint}: {report['source']['wrapping']}, {report['source']['layout']}"),
        *weights_lines(report),
        f"{counted(report['parameters']['total'], 'parameter')} in {report['dtype']} → {output}",
        *verify.verification_lines(report["verification"], assumed),
        *notes,
        *loading_lines(report["architecture"], output, bool(args.with_remote_code)),
    ]
    pushed_to = None
    if args.push_to_hub:
        pushing = args.private, args.revision, args.create_pr, args.with_handler
        destination = Destination(args.push_to_hub, *pushing)
        pushed_to = push_model(output, destination, remote_code=args.with_remote_code is not False)
        lines.append(f"pushed to {pushed_to}")
    notes = [*on_top, *weights_lines(report), *notes]
    return Result(lines, {"output": str(output), "report": report, "notes": notes, "pushed_to": pushed_to})


def loading_lines(architecture: str, output: "Path", has_code: bool) -> list[str]:
    """Say which class loads a whole converted repo.

    Args:
        architecture: the class that was written.
        output: the repo.
        has_code: whether the model files of this package lie in it.
    """
    loader, aside = "AutoModel", ""
    if architecture == _AUTOENCODER:
        loader, aside = f"hf_encoders.{architecture}", "; AutoModel loads its encoder alone"
    elif "ForImageClassification" in architecture:
        loader, aside = "AutoModelForImageClassification", "; AutoModel loads it without the classifier"
    elif architecture.endswith("WithProjection"):
        loader, aside = f"transformers.{architecture}", "; AutoModel loads it without the projection"
    lines = [f'load it: {loader}.from_pretrained("{output}"){aside}']
    if has_code:
        what = "the encoder alone" if architecture == _AUTOENCODER else "the same"
        lines.append(
            f'without hf_encoders: AutoModel.from_pretrained("{output}", trust_remote_code=True) loads {what} by the'
            " code in the folder; read it first"
        )
    return lines


def _check(args: argparse.Namespace) -> None:
    if (args.checkpoint is None) == (args.verify is None):
        raise ValueError("give either a CHECKPOINT to convert or --verify REPO")
    if args.against and not args.verify:
        raise ValueError("--against goes with --verify")
    if not args.original and (args.original_kwargs or args.original_kwargs_from or args.original_output):
        raise ValueError("--original-kwargs, --original-kwargs-from and --original-output go with --original")
    if args.verify and args.original:
        raise ValueError("--original compares while a checkpoint is converted; leave --verify out")
    if (args.private or args.revision or args.create_pr or args.with_handler) and not args.push_to_hub:
        raise ValueError("--private, --revision, --create-pr and --with-handler go with --push-to-hub")
    check_destination(args)


def _own_network(args: argparse.Namespace) -> "OwnNetwork | None":
    if not args.original:
        return None
    from ..adopt.arguments import given_arguments
    from ..adopt.code.target import parse_target
    from ..adopt.prepared import Arguments
    from ..adopt.witness import OwnNetwork, parse_outputs
    from ..checkpoints.finding.choice import WeightsWanted

    given = given_arguments(args.original_kwargs, "--original-kwargs") if args.original_kwargs else {}
    return OwnNetwork(
        parse_target(args.original),
        Arguments(given, args.original_kwargs_from),
        parse_outputs(args.original_output),
        WeightsWanted(args.weights, tuple(args.ignore)),
    )


def _options(kind: type[_Options], args: argparse.Namespace) -> _Options:
    """The options of one layout, by the names of its dataclass."""
    from dataclasses import fields

    return kind(**{field.name: getattr(args, field.name) for field in fields(kind)})
