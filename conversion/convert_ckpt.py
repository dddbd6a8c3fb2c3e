"""Turn a legacy depth checkpoint into a repo that AutoModel.from_pretrained loads, and prove that it is the same.

    python conversion/convert_ckpt.py best_model.pth
    python conversion/convert_ckpt.py best_model.pth --output depth-semantic-encoder --include-decoder --dtype float16
    python conversion/convert_ckpt.py --verify depth-semantic-encoder --against best_model.pth

The layout, the wrapping and all sizes are read off the file. Bad input ends in one line and exit status 2, and the
output appears whole or not at all.
"""

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

import functional_depth
from hf_encoders import DepthAutoencoderModel, DepthImageProcessor, DepthSemanticEncoderModel
from hf_encoders.command_line import OneLineArgumentParser, run
from hf_encoders.legacy.checkpoint_files import CheckpointError
from hf_encoders.legacy.depth_layouts import (
    AUTOENCODER,
    LAYOUTS,
    LayoutError,
    LegacyDepthCheckpoint,
    check_values,
    read_depth_checkpoint,
)
from hf_encoders.outputs import check_folder, new_folder
from report import library_versions, plain, read_report, sha256, weight_digests, write_card, write_report
from repos import read_repo, repo_folder
from verification import compare, verification_maps, verify

DTYPES = ("float32", "float16", "bfloat16")


def convert(
    checkpoint: Path,
    output: Path | None = None,
    *,
    layout: str = "auto",
    include_decoder: bool = False,
    input_channels: int | None = None,
    latent_dim: int | None = None,
    dtype: str | None = None,
    verified: bool = True,
    overwrite: bool = False,
) -> Path:
    """Convert one file.

    Args:
        checkpoint: the legacy file.
        output: the folder to write; `<stem>-hf` beside the checkpoint by default.
        layout: "auto", or the layout that the file must have.
        include_decoder: write the autoencoder instead of the encoder alone.
        input_channels: what the file must have.
        latent_dim: what the file must have.
        dtype: precision of the written weights; the file's own by default.
        verified: compare the written repo with the legacy tensors before it appears.
        overwrite: replace an existing output.

    Returns:
        The output folder.

    Raises:
        CheckpointError: if the file cannot be used, or contradicts an argument.
        VerificationError: if the repo does not give the file's numbers.
        OSError: if the output exists already or cannot be written.
    """
    output = output or checkpoint.parent / f"{checkpoint.stem}-hf"
    check_folder(output, overwrite)
    if output.resolve() in checkpoint.resolve().parents:
        raise CheckpointError(f"{checkpoint}: lies in {output}, which would be replaced; choose another --output")
    source = read_depth_checkpoint(checkpoint, layout)
    with ThreadPoolExecutor(1) as background:
        digest = background.submit(sha256, checkpoint)  # takes as long as all the rest, so it runs beside it
        _check_arguments(source, include_decoder, input_channels, latent_dim)
        prefixes = ("encoder.", "decoder.") if include_decoder else ("encoder.",)
        wanted = {name: tensor for name, tensor in source.tensors.items() if name.startswith(prefixes)}
        check_values(checkpoint, wanted)
        dtype = dtype or _common_dtype(wanted)
        tensors = _cast(wanted, dtype)
        with new_folder(output, overwrite) as repo:
            model = _write_model(repo, source, tensors, include_decoder)
            verification = verify(repo, tensors) if verified else None
            if verification and any(tensor.dtype != wanted[name].dtype for name, tensor in tensors.items()):
                verification["rounding"] = {"to": dtype, "embeddings": _rounding(source, wanted, tensors)}
            report = {
                "source": _describe(source) | {"sha256": digest.result()},
                "architecture": type(model).__name__,
                "decoder": include_decoder,
                "dtype": dtype,
                "parameters": {"total": model.num_parameters(), "encoder": model.base_model.num_parameters()},
                "weights_sha256": weight_digests(repo),
                "keys": {
                    key: _target(name, include_decoder) if name in tensors else None
                    for name, key in source.source_keys.items()
                },
                "versions": library_versions(),
                "verification": verification,
            }
            write_report(repo, report)
            write_card(repo, plain(output.name), report)
    return output


def verify_repo(repo: str, checkpoint: Path | None = None) -> dict[str, Any]:
    """Check a converted repo again: that its weights are those of the report, and that they give the same numbers.

    Args:
        repo: a folder or a Hub id.
        checkpoint: the legacy file to compare with; without it, the repo's own tensors run through the legacy network.

    Raises:
        ValueError: if something differs or is missing.
    """
    folder = repo_folder(repo)
    report = read_report(folder)
    if weight_digests(folder) != report["weights_sha256"]:
        raise ValueError(f"{repo}: its weights are not those that the conversion wrote; convert the checkpoint again")
    _, written = read_repo(folder)
    if checkpoint is None:
        return verify(folder, written)
    source = read_depth_checkpoint(checkpoint)
    missing = written.keys() - source.tensors.keys()
    if missing:
        raise LayoutError(f"{checkpoint}: has no {min(missing)!r}, which {repo} has; it is not its source")
    check_values(checkpoint, {name: source.tensors[name] for name in written})
    tensors = {name: source.tensors[name].to(tensor.dtype) for name, tensor in written.items()}
    for name, tensor in tensors.items():
        if tensor.shape != written[name].shape or not torch.equal(tensor, written[name]):
            raise LayoutError(
                f"{checkpoint}: {source.source_keys[name]!r} is not what {repo} holds; it is not its source"
            )
    return verify(folder, tensors)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = OneLineArgumentParser(prog="convert_ckpt.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", nargs="?", type=Path, help="legacy .pth or .pt file")
    parser.add_argument("--output", type=Path, help="folder to write (default: CHECKPOINT's name with -hf, beside it)")
    parser.add_argument("--layout", choices=("auto", *LAYOUTS), default="auto", help="what the file must be")
    parser.add_argument("--include-decoder", action="store_true", help="write the autoencoder, not the encoder alone")
    parser.add_argument("--input-channels", type=int, metavar="N", help="channels that the file must have")
    parser.add_argument("--latent-dim", type=int, metavar="N", help="embedding dimension that the file must have")
    parser.add_argument("--dtype", choices=DTYPES, help="precision to write (default: the file's own)")
    parser.add_argument("--no-verify", action="store_true", help="do not compare the result with the legacy network")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.add_argument("--verify", metavar="REPO", help="check a converted repo again")
    parser.add_argument("--against", type=Path, metavar="CHECKPOINT", help="with --verify: the legacy file")
    args = parser.parse_args(argv)
    if (args.checkpoint is None) == (args.verify is None):
        parser.error("give either a CHECKPOINT to convert or --verify REPO")
    if args.against and not args.verify:
        parser.error("--against goes with --verify")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if args.verify is not None:
        _print_verification(verify_repo(args.verify, args.against))
        return
    output = convert(
        args.checkpoint,
        args.output,
        layout=args.layout,
        include_decoder=args.include_decoder,
        input_channels=args.input_channels,
        latent_dim=args.latent_dim,
        dtype=args.dtype,
        verified=not args.no_verify,
        overwrite=args.overwrite,
    )
    report = read_report(output)
    print(f"{args.checkpoint}: {report['source']['wrapping']}, {report['source']['layout']}")
    print(f"{report['parameters']['total']:,} parameters in {report['dtype']} → {output}")
    _print_verification(report["verification"])
    stated = report["source"]["metadata"].get("config")
    if isinstance(stated, dict) and "height_range" in stated:
        print(
            "note: the processor stretches each map from its minimum to its maximum, as legacy inference did; the file"
            f" names a height range of ±{stated['height_range']} (README.md there says how to use it)"
        )
    print(f'load it: AutoModel.from_pretrained("{output}")')


def _check_arguments(
    source: LegacyDepthCheckpoint, include_decoder: bool, input_channels: int | None, latent_dim: int | None
) -> None:
    for option, stated, found in (
        ("--input-channels", input_channels, source.config.num_channels),
        ("--latent-dim", latent_dim, source.config.hidden_size),
    ):
        if stated not in (None, found):
            raise CheckpointError(f"{source.path}: the file says {found}, not {option} {stated}; leave the option out")
    if include_decoder and source.layout != AUTOENCODER:
        raise CheckpointError(f"{source.path}: holds no decoder; leave --include-decoder out")


def _common_dtype(tensors: dict[str, Tensor]) -> str:
    found = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values() if tensor.is_floating_point()}
    return found.pop() if len(found) == 1 and found <= set(DTYPES) else "float32"


def _cast(tensors: dict[str, Tensor], dtype: str) -> dict[str, Tensor]:
    """Floating-point tensors in another precision; those that have it already stay mapped from their file."""
    target = getattr(torch, dtype)
    cast = {name: t.to(target) if t.is_floating_point() else t.to(torch.int64) for name, t in tensors.items()}
    for name, tensor in cast.items():
        if tensor.dtype != tensors[name].dtype and not tensor.isfinite().all():
            raise LayoutError(f"{name} does not fit into {dtype}; choose bfloat16 or float32")
    return cast


def _write_model(
    repo: Path, source: LegacyDepthCheckpoint, tensors: dict[str, Tensor], include_decoder: bool
) -> PreTrainedModel:
    with torch.device("meta"):
        model = DepthAutoencoderModel(source.config) if include_decoder else DepthSemanticEncoderModel(source.config)
    state_dict = {_target(name, include_decoder): tensor.contiguous() for name, tensor in tensors.items()}
    model.load_state_dict(state_dict, assign=True)
    model.processor = DepthImageProcessor(size=source.config.image_size, num_channels=source.config.num_channels)
    model.save_pretrained(repo)
    return model


def _target(name: str, include_decoder: bool) -> str:
    """The name of a tensor in the repo."""
    return name if include_decoder else name.removeprefix("encoder.")


def _rounding(source: LegacyDepthCheckpoint, before: dict[str, Tensor], after: dict[str, Tensor]) -> dict[str, float]:
    """What storing the weights in another precision does to the embeddings."""
    maps = verification_maps(source.config.num_channels, source.config.image_size)
    with torch.inference_mode():
        expected, actual = functional_depth.encode(before, maps), functional_depth.encode(after, maps)
    return compare(expected, actual) | {"least_cosine": torch.cosine_similarity(expected, actual).min().item()}


def _describe(source: LegacyDepthCheckpoint) -> dict[str, Any]:
    return {
        "name": plain(source.path.name),
        "size": source.path.stat().st_size,
        "layout": source.layout,
        "wrapping": source.wrapping,
        "metadata": plain(source.metadata),
    }


def _print_verification(verification: dict[str, Any] | None) -> None:
    if verification is None:
        print("not verified (--no-verify)")
        return
    for name in ("embeddings", "reconstruction"):
        if name in verification:
            result = verification[name]
            print(
                f"verified: {name} differ by {result['relative_difference']:.1e} relative"
                f" ({result['largest_difference']:.1e} of {result['largest_magnitude']:.3g}; at most"
                f" {verification['tolerance']:.0e} allowed)"
            )
    if "rounding" in verification:
        rounding = verification["rounding"]
        print(
            f"rounding to {rounding['to']}: cosine of the embeddings at least"
            f" {rounding['embeddings']['least_cosine']:.6f}"
        )


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
