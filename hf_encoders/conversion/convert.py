"""Turn a legacy checkpoint into a repo that AutoModel.from_pretrained loads, and prove that it is the same.

    python conversion/convert_ckpt.py best_model.pth
    python conversion/convert_ckpt.py best_model.pth --output depth-semantic-encoder --include-decoder --dtype float16
    python conversion/convert_ckpt.py checkpoint.pt --text-model bert-base-uncased --with-training-state
    python conversion/convert_ckpt.py checkpoint.pt --tokenizer vocab.txt --depth-encoder depth-semantic-encoder
    python conversion/convert_ckpt.py best_model.pth --push-to-hub org/depth-semantic-encoder
    python conversion/convert_ckpt.py --verify depth-semantic-encoder --against best_model.pth

The layout, the wrapping and all sizes are read off the file. Bad input ends in one line and exit status 2, and the
output appears whole or not at all.
"""

import dataclasses
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from transformers.utils import logging

from ..checkpoints.files import CheckpointError, read_checkpoint
from ..command_line import OneLineArgumentParser, add_destination, run
from ..hub.push import Destination, push_model
from ..outputs import check_folder
from .depth import DepthConversion, DepthOptions
from .families.depth_layouts import LAYOUTS, read_depth_checkpoint
from .families.multimodal_layouts import MULTIMODAL, is_multimodal
from .multimodal import MultimodalConversion, MultimodalOptions
from .report import read_report
from .verify_depth import ABSOLUTE, MEASURES
from .verify_repo import verify_repo
from .write_repo import DTYPES, EMBEDDINGS, Conversion, write_repo

Options = TypeVar("Options", DepthOptions, MultimodalOptions)

_OUTPUTS = (*EMBEDDINGS, "reconstruction", "cosine")


def convert(
    checkpoint: Path,
    output: Path | None = None,
    *,
    layout: str = "auto",
    dtype: str | None = None,
    verified: bool = True,
    overwrite: bool = False,
    remote_code: bool = False,
    depth: DepthOptions | None = None,
    multimodal: MultimodalOptions | None = None,
) -> Path:
    """Convert one file.

    Args:
        checkpoint: the legacy file.
        output: the folder to write; `<stem>-hf` beside the checkpoint by default.
        layout: "auto", or the layout that the file must have.
        dtype: precision of the written weights; the file's own by default.
        verified: compare the written repo with the legacy tensors before it appears.
        overwrite: replace an existing output.
        remote_code: write the model files of the package beside the weights.
        depth: options for a depth checkpoint; only such a file takes them.
        multimodal: options for a multimodal checkpoint, likewise.

    Returns:
        The output folder.

    Raises:
        CheckpointError: if the file cannot be used, or contradicts an argument.
        VerificationError: if the repo does not give the file's numbers.
        ValueError: if something else that is named cannot be used.
        OSError: if the output exists already or cannot be written.
    """
    output = output or checkpoint.parent / f"{checkpoint.stem}-hf"
    check_folder(output, overwrite)
    if output.resolve() in checkpoint.resolve().parents:
        raise CheckpointError(f"{checkpoint}: lies in {output}, which would be replaced; choose another --output")
    write_repo(
        lambda: _recognise(checkpoint, layout, depth, multimodal),
        output,
        dtype=dtype,
        verified=verified,
        overwrite=overwrite,
        remote_code=remote_code,
    )
    return output


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = _parse(argv)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if args.verify is not None:
        _print_verification(verify_repo(args.verify, args.against))
        return
    output = convert(
        args.checkpoint,
        args.output,
        layout=args.layout,
        dtype=args.dtype,
        verified=not args.no_verify,
        overwrite=args.overwrite,
        remote_code=bool(args.with_remote_code),
        depth=_options(DepthOptions, args),
        multimodal=_options(MultimodalOptions, args),
    )
    _print_report(args.checkpoint, output, read_report(output))
    if args.push_to_hub:
        destination = Destination(args.push_to_hub, args.private, args.revision, args.create_pr)
        print(f"pushed to {push_model(output, destination, remote_code=args.with_remote_code is not False)}")


def _parse(argv: Sequence[str] | None) -> Namespace:
    parser = OneLineArgumentParser(prog="convert_ckpt.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, help="legacy .pth or .pt file")
    parser.add_argument("--output", type=Path, help="folder to write (default: CHECKPOINT's name with -hf, beside it)")
    parser.add_argument(
        "--layout", choices=("auto", *LAYOUTS, MULTIMODAL), default="auto", help="what the file must be"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="precision to write (default: the file's own)")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the result with the legacy network")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    depth = parser.add_argument_group("depth checkpoints")
    depth.add_argument("--include-decoder", action="store_true", help="write the autoencoder, not the encoder alone")
    depth.add_argument("--input-channels", type=int, metavar="N", help="channels that the file must have")
    depth.add_argument("--latent-dim", type=int, metavar="N", help="embedding dimension that the file must have")
    multimodal = parser.add_argument_group("multimodal checkpoints", "DIR_OR_ID is a folder or a Hub id")
    multimodal.add_argument("--text-model", metavar="DIR_OR_ID", help="BERT's configuration and tokenizer")
    multimodal.add_argument("--vision-model", metavar="DIR_OR_ID", help="ViT's configuration and image processor")
    multimodal.add_argument("--tokenizer", metavar="DIR_OR_ID", help="a tokenizer, or BERT's vocab.txt")
    multimodal.add_argument("--allow-no-tokenizer", action="store_true", help="write a repo that cannot read texts yet")
    multimodal.add_argument("--depth-encoder", metavar="REPO", help="a depth semantic encoder to add as depth tower")
    multimodal.add_argument("--with-training-state", action="store_true", help="write the optimizer's state too")
    hub = parser.add_argument_group("the Hub")
    hub.add_argument("--push-to-hub", metavar="ID", help="push the result, such as to org/depth-semantic-encoder")
    add_destination(hub)
    again = parser.add_argument_group("checking again")
    again.add_argument("--verify", metavar="REPO", help="check a converted repo again")
    again.add_argument("--against", type=Path, metavar="CHECKPOINT", help="with --verify: the legacy file")
    args = parser.parse_args(argv)
    if (args.checkpoint is None) == (args.verify is None):
        parser.error("give either a CHECKPOINT to convert or --verify REPO")
    if args.against and not args.verify:
        parser.error("--against goes with --verify")
    if (args.private or args.revision or args.create_pr) and not args.push_to_hub:
        parser.error("--private, --revision and --create-pr go with --push-to-hub")
    return args


def _options(kind: type[Options], args: Namespace) -> Options:
    return kind(**{field.name: getattr(args, field.name) for field in dataclasses.fields(kind)})


def _recognise(
    checkpoint: Path, layout: str, depth: DepthOptions | None, multimodal: MultimodalOptions | None
) -> Conversion:
    if layout not in LAYOUTS and is_multimodal(read_checkpoint(checkpoint)):
        _refuse(depth, f"{checkpoint}: a multimodal checkpoint")
        return MultimodalConversion(checkpoint, multimodal or MultimodalOptions())
    if layout == MULTIMODAL:
        raise CheckpointError(f"{checkpoint}: its layout is not {layout} (leave --layout out, or correct it)")
    source = read_depth_checkpoint(checkpoint, layout)
    _refuse(multimodal, f"{checkpoint}: a depth checkpoint")
    return DepthConversion(source, depth or DepthOptions())


def _refuse(options: DepthOptions | MultimodalOptions | None, found: str) -> None:
    """Refuse options that are for the other layout."""
    for field in dataclasses.fields(options) if options else ():
        if getattr(options, field.name) != field.default:
            raise CheckpointError(f"{found}; leave --{field.name.replace('_', '-')} out")


def _print_report(checkpoint: Path, output: Path, report: dict[str, Any]) -> None:
    print(f"{checkpoint}: {report['source']['wrapping']}, {report['source']['layout']}")
    print(f"{report['parameters']['total']:,} parameters in {report['dtype']} → {output}")
    _print_verification(report["verification"])
    if report["source"]["layout"] == MULTIMODAL:
        _print_multimodal(report)
    stated = report["source"]["metadata"].get("config")
    if isinstance(stated, dict) and "height_range" in stated:
        print(
            "note: the processor stretches each map from its minimum to its maximum, as legacy inference did; the file"
            f" names a height range of ±{stated['height_range']} (README.md there says how to use it)"
        )
    print(f'load it: AutoModel.from_pretrained("{output}")')


def _print_multimodal(report: dict[str, Any]) -> None:
    if report["dropped"]:
        print(f"dropped: {', '.join(report['dropped'])} (nothing uses them)")
    if report["training_state"]:
        state = report["training_state"]
        print(f"training state: epoch {state['epoch']}, step {state['global_step']}, AdamW's moments")
    for option, part in (("--text-model", "text_config"), ("--vision-model", "vision_config")):
        if report["parts"][part] is None:
            heads = report["attention_heads"][part]
            print(f"note: {part}: {heads} attention heads of 64 channels assumed, no shape tells them; {option} does")
    for name in report["untrained"]:
        print(f"warning: {name} is untrained: depth embeddings mean nothing until it is trained")
    if report["parts"]["tokenizer"] is None:
        print("warning: there is no tokenizer: set model.processor.tokenizer before texts are embedded")


def _print_verification(verification: dict[str, Any] | None) -> None:
    if verification is None:
        print("not verified (--no-verify)")
        return
    measure = verification["measure"]
    for name in (name for name in _OUTPUTS if name in verification):
        result, limit = verification[name], f"at most {verification['tolerance']:.0e} allowed"
        if measure != ABSOLUTE:
            limit = f"{result['largest_difference']:.1e} of {result['largest_magnitude']:.3g}; {limit}"
        print(f"verified: {name} differ by {result[measure]:.1e}{MEASURES[measure]} ({limit})")
    if "rounding" in verification:
        rounding = dict(verification["rounding"])
        target = rounding.pop("to")
        for name, result in rounding.items():
            print(f"rounding to {target}: cosine of the {name} at least {result['least_cosine']:.6f}")


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
