"""A legacy file → a repo that AutoModel.from_pretrained loads, proved to be the same.

The layout, the wrapping and all sizes are read off the file.
"""

import dataclasses
from pathlib import Path

from ..checkpoints.files import CheckpointError, read_checkpoint
from ..outputs import check_folder
from .depth import DepthConversion, DepthOptions
from .families.depth_layouts import LAYOUTS, read_depth_checkpoint
from .families.multimodal_layouts import MULTIMODAL, is_multimodal
from .multimodal import MultimodalConversion, MultimodalOptions
from .write_repo import Conversion, write_repo


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
