"""Converts a legacy file to a repo that AutoModel.from_pretrained loads, and proves that both are the same.

The layout, the wrapping and all sizes come from the file.
"""

import dataclasses
from pathlib import Path

from ..checkpoints.errors import CheckpointError
from ..checkpoints.files import open_checkpoint
from ..checkpoints.finding.choice import WeightsWanted, choose
from ..outputs import check_folder
from .depth import DepthConversion, DepthOptions
from .encoder import EncoderConversion
from .encoder_source import recognise_encoder
from .families.depth_layouts import LAYOUTS, recognise_depth
from .families.multimodal_layouts import MULTIMODAL, is_multimodal
from .families.encoders import ENCODERS
from .families.family import EncoderOptions
from .families.names import DEPTH, FAMILIES
from .multimodal import MultimodalConversion, MultimodalOptions
from .write_repo import Conversion, write_repo

_OURS = (DEPTH, MULTIMODAL)
_FAMILIES_OF_LAYOUT = {**dict.fromkeys(LAYOUTS, (DEPTH,)), MULTIMODAL: (MULTIMODAL,), **{name: (name,) for name in ENCODERS}}


def convert(
    checkpoint: Path,
    output: Path | None = None,
    *,
    layout: str = "auto",
    weights: WeightsWanted | None = None,
    dtype: str | None = None,
    verified: bool = True,
    overwrite: bool = False,
    remote_code: bool = False,
    depth: DepthOptions | None = None,
    multimodal: MultimodalOptions | None = None,
    encoder: EncoderOptions | None = None,
) -> Path:
    """Convert one file.

    Args:
        checkpoint: the legacy file.
        output: the folder to write; `<stem>-hf` beside the checkpoint by default.
        layout: "auto", or the layout that the file must have.
        weights: the weights to take, of a file with several, and the keys to leave out.
        dtype: precision of the written weights; the file's own by default.
        verified: compare the written repo with the legacy tensors before it appears.
        overwrite: replace an existing output.
        remote_code: write the model files of the package beside the weights.
        depth: options for a depth checkpoint; other files refuse them.
        multimodal: options for a multimodal checkpoint; other files refuse them.
        encoder: options for an encoder of another family.

    Returns:
        The output folder.

    Raises:
        CheckpointError: if the file cannot be used, or contradicts an argument.
        VerificationError: if the repo does not give the file's numbers.
        ValueError: if the source of another part cannot be used.
        OSError: if the output exists already or cannot be written.
    """
    stem = checkpoint.resolve().name if checkpoint.is_dir() else checkpoint.stem
    output = output or checkpoint.parent / f"{stem}-hf"
    check_folder(output, overwrite)
    if output.resolve() in checkpoint.resolve().parents:
        raise CheckpointError(f"{checkpoint}: lies in {output}, which would be replaced; choose another --output")
    write_repo(
        _recognise(checkpoint, layout, weights, depth, multimodal, encoder),
        output,
        dtype=dtype,
        verified=verified,
        overwrite=overwrite,
        remote_code=remote_code,
    )
    return output


def _recognise(
    checkpoint: Path,
    layout: str,
    weights: WeightsWanted | None,
    depth: DepthOptions | None,
    multimodal: MultimodalOptions | None,
    encoder: EncoderOptions | None,
) -> Conversion:
    chosen = choose(open_checkpoint(checkpoint), FAMILIES, weights, _FAMILIES_OF_LAYOUT.get(layout, _OURS))
    if chosen.unused_patterns:
        raise CheckpointError(f"{checkpoint}: --ignore {chosen.unused_patterns[0]} matches no key of the weights")
    if family := ENCODERS.get(chosen.network.family):
        return EncoderConversion(recognise_encoder(chosen, family, _with_layout(encoder, layout)))
    if layout not in LAYOUTS and is_multimodal(chosen):
        _refuse(depth, f"{checkpoint}: a multimodal checkpoint")
        return MultimodalConversion(chosen, multimodal or MultimodalOptions())
    if layout == MULTIMODAL:
        raise CheckpointError(f"{checkpoint}: its layout is not {layout} (leave --layout out, or correct it)")
    source = recognise_depth(chosen, layout)
    _refuse(multimodal, f"{checkpoint}: a depth checkpoint")
    return DepthConversion(source, depth or DepthOptions())


def _with_layout(options: EncoderOptions | None, layout: str) -> EncoderOptions:
    """The options of an encoder, with the family that a person names."""
    return dataclasses.replace(options or EncoderOptions(), layout=layout if layout in ENCODERS else None)


def _refuse(options: DepthOptions | MultimodalOptions | None, found: str) -> None:
    """Refuse options of the other layout."""
    for field in dataclasses.fields(options) if options else ():
        if getattr(options, field.name) != field.default:
            raise CheckpointError(f"{found}; leave --{field.name.replace('_', '-')} out")
