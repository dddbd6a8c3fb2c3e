"""`hf-encoders export`: a model's towers, compiled for the CPU and compared with PyTorch there."""

import argparse

from ..progress import hide_library_bars
from .options import (
    DATA_HELP,
    add_depth_units,
    add_encoder,
    add_format,
    add_overwrite,
    depth_units,
    encoder_loading,
    path,
)
from .runner import Result


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_encoder(parser)
    parser.add_argument(
        "--to", required=True, choices=("onnx", "openvino"), help="the library that will run the towers"
    )
    parser.add_argument("--output", type=path, help="folder of the new repo (default: MODEL's name with -onnx, ...)")
    parser.add_argument("--tower", action="append", choices=("text", "image", "depth"), help="default: all of them")
    parser.add_argument("--int8", action="store_true", help="write 8-bit towers too; needs --calibration")
    parser.add_argument(
        "--calibration",
        action="append",
        metavar="DATA",
        help="some dozens to 300 real inputs for --int8, and of each modality of the model; a second --calibration adds"
        f" what the first lacks: {DATA_HELP}",
    )
    parser.add_argument(
        "--least-cosine",
        type=float,
        metavar="C",
        help="refuse 8 bits that keep less than this of what tells inputs apart, from -1 to 1 (default: 0.8)",
    )
    add_depth_units(parser)
    add_overwrite(parser)
    add_format(parser, "one document: output, and the report beside the towers")


def run(args: argparse.Namespace) -> Result:
    """Export, and say how far each compiled tower is from the original.

    Raises:
        ValueError: if --int8 comes without --calibration, or a tower differs too much in float32 or in int8.
        OSError: if the output exists already or cannot be written.
    """
    if args.int8 != bool(args.calibration):
        raise ValueError("--int8 and --calibration go together: 8 bits need the ranges of real inputs")
    from pathlib import Path

    from ..export.towers import LEAST_COSINE, export

    hide_library_bars()
    output = args.output or Path(f"{Path(args.model).name}-{args.to}")
    units = depth_units(args, *(["depth"] if args.calibration else []))
    report = export(
        args.model,
        output,
        args.to,
        towers=args.tower or (),
        calibration=args.calibration,
        least_cosine=LEAST_COSINE if args.least_cosine is None else args.least_cosine,
        depth_units=units,
        overwrite=args.overwrite,
        revision=args.revision,
        **encoder_loading(args),
    )
    lines = []
    for tower, precisions in report["towers"].items():
        for precision, measured in precisions.items():
            difference, cosine = measured["relative_difference"], measured["least_cosine"]
            figures = f"differs by {difference:.1e} of the largest number, cosine ≥ {cosine:.5f}"
            if precision == "int8":
                figures += f", of what tells inputs apart {measured['centred_cosine']:.3f}"
            lines.append(f"{tower} in {precision}: {figures}")
    side = report["interpolate"].get("image")
    options = ", trust_remote_code=True" if args.trust_remote_code else ""
    if side is not None:
        lines.append(f"image: for {side} x {side} pixels, so it is loaded with --interpolate {side}")
        options += f", interpolate={side}"
    method = f"encode_{next(iter(report['towers']))}"
    lines.append(f'use it: hf_encoders.load_encoder("{output}"{options}).{method}(..., backend="{args.to}")')
    return Result(lines, {"output": str(output), **report})
