"""Converts a legacy file to a repo that AutoModel.from_pretrained loads, and proves that both are the same.

The layout, the wrapping and all sizes come from the file.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..checkpoints.errors import CheckpointError, LayoutError
from ..checkpoints.files import open_checkpoint
from ..checkpoints.finding.choice import ChosenWeights, WeightsWanted, choose
from ..outputs import check_folder
from .depth import DepthConversion, DepthOptions
from .encoders.conversion import EncoderConversion, InputOptions
from .encoders.source import EncoderSource, recognise_encoder
from .encoders.verification import Witness
from .families.encoders import ENCODERS
from .families.family import EncoderOptions, Family
from .families.legacy.depth_layouts import LAYOUTS, recognise_depth
from .families.legacy.multimodal_layouts import MULTIMODAL, is_multimodal
from .families.names import DEPTH, FAMILIES
from .families.strangers import stranger
from .multimodal import MultimodalConversion, MultimodalOptions
from .source_files import with_config_beside
from .write_repo import Conversion, write_repo

_Options = DepthOptions | MultimodalOptions | EncoderOptions | InputOptions
_Kind = TypeVar("_Kind", DepthOptions, MultimodalOptions, EncoderOptions, InputOptions)

_MOST_NEAR = 3
_OURS = (DEPTH, MULTIMODAL)
_FAMILIES_OF_LAYOUT = {
    **dict.fromkeys(LAYOUTS, (DEPTH,)),
    MULTIMODAL: (MULTIMODAL,),
    **{name: (name,) for name in ENCODERS},
}


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
    inputs: InputOptions | None = None,
    license: str | None = None,
    witness: Witness | None = None,
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
        encoder: options for the network of an encoder of another family; other files refuse them.
        inputs: options for such an encoder's inputs; other files refuse them.
        license: the Hub's identifier of the licence, for the card.
        witness: computes what the repo of an encoder is compared with; by default our reference does.

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
    wanted = (depth, multimodal, encoder, inputs)
    conversion = _recognise(
        checkpoint, layout, weights, [options for options in wanted if options is not None], witness
    )
    if witness is not None and (dtype is not None or not verified):
        option = "--dtype" if dtype is not None else "--no-verify"
        raise CheckpointError(f"{checkpoint}: --original compares the file's own numbers; leave {option} out")
    if remote_code and isinstance(conversion, EncoderConversion):
        raise CheckpointError(f"{checkpoint}: transformers loads its repo without further code; leave remote code out")
    write_repo(
        conversion,
        output,
        dtype=dtype,
        verified=verified,
        overwrite=overwrite,
        remote_code=remote_code,
        license=license,
    )
    return output


def _recognise(
    checkpoint: Path,
    layout: str,
    weights: WeightsWanted | None,
    given: Sequence[_Options],
    witness: Witness | None = None,
) -> Conversion:
    chosen = choose(open_checkpoint(checkpoint), FAMILIES, weights, _FAMILIES_OF_LAYOUT.get(layout, _OURS), ENCODERS)
    if chosen.unused_patterns:
        raise CheckpointError(f"{checkpoint}: --ignore {chosen.unused_patterns[0]} matches no key of the weights")
    if layout == "auto":
        _refuse_unknown(chosen)
    family = ENCODERS.get(chosen.network.family)
    if family:
        chosen = with_config_beside(chosen)
        _refuse(given, (EncoderOptions, InputOptions), f"{checkpoint}: a checkpoint of the family {family.name}")
        encoder = _with_layout(_of_kind(given, EncoderOptions), layout)
        recognised = _recognise_encoder(chosen, family, encoder)
        if layout not in ("auto", recognised.layout):
            raise CheckpointError(
                f"{checkpoint}: its layout is {recognised.layout}, not {layout} (leave --layout out, or correct it)"
            )
        return EncoderConversion(recognised, encoder, _of_kind(given, InputOptions), witness)
    if witness is not None:
        raise CheckpointError(f"{checkpoint}: --original is for encoders, and this is a {chosen.network.family} file")
    if layout in (*ENCODERS, MULTIMODAL) and layout != chosen.network.family:
        raise CheckpointError(f"{checkpoint}: its layout is not {layout} (leave --layout out, or correct it)")
    if layout not in LAYOUTS and is_multimodal(chosen):
        _refuse(given, (MultimodalOptions,), f"{checkpoint}: a multimodal checkpoint")
        return MultimodalConversion(chosen, _of_kind(given, MultimodalOptions))
    source = recognise_depth(chosen, layout)
    _refuse(given, (DepthOptions,), f"{checkpoint}: a depth checkpoint")
    return DepthConversion(source, _of_kind(given, DepthOptions))


def _with_layout(options: EncoderOptions, layout: str) -> EncoderOptions:
    """The options of an encoder, with the family that a person names."""
    return dataclasses.replace(options, layout=layout if layout in ENCODERS else None)


def _refuse_unknown(chosen: ChosenWeights) -> None:
    """Refuse a network of no known family, of which less than half of the names are as in files of one."""
    members = chosen.network.members
    is_unknown = chosen.near or not chosen.network.family
    if is_unknown and (what := stranger(member.key for member in members)):
        raise LayoutError(f"{chosen.path}: {what}, which is no network of a known family")
    known = sum(member.matches for member in members) if chosen.network.family else 0
    if is_unknown and 2 * known < len(members):
        near = _nearest(chosen, f" of {len(members)}") or "no name matches one of theirs"
        what = f"a {chosen.wrapping}, which is " if chosen.wrapping.startswith("pickled") else ""
        raise LayoutError(
            f"{chosen.path}: {what}no network of a known family; {near}; `hf-encoders inspect` shows what it holds"
        )


def _nearest(chosen: ChosenWeights, of_all: str = "") -> str:
    near = [f"{name} ({count}{of_all} names match)" for name, count in list(chosen.near.items())[:_MOST_NEAR]]
    return f"the nearest {'is' if len(near) == 1 else 'are'} {', '.join(near)}" if near else ""


def _recognise_encoder(chosen: ChosenWeights, family: Family, options: EncoderOptions) -> EncoderSource:
    """Recognise an encoder; one that lacks what tells its family from others is only near to it."""
    try:
        return recognise_encoder(chosen, family, options)
    except LayoutError as error:
        if not chosen.near:
            raise
        raise LayoutError(
            f"{chosen.path}: no whole network of a known family; {_nearest(chosen)}; as {family.name}:"
            f" {error.reason.removeprefix(f'{chosen.path}: ')}; `hf-encoders inspect` shows the names"
        ) from error


def _of_kind(given: Sequence[_Options], kind: type[_Kind]) -> _Kind:
    """The options of a kind; its defaults if none are given."""
    return next((options for options in given if isinstance(options, kind)), kind())


def _refuse(given: Sequence[_Options], kinds: tuple[type, ...], found: str) -> None:
    """Refuse options of other layouts, unless these have such an option too."""
    shared = {"layout", *(field.name for kind in kinds for field in dataclasses.fields(kind))}
    for options in given:
        for field in dataclasses.fields(options) if not isinstance(options, kinds) else ():
            default = field.default_factory() if callable(field.default_factory) else field.default
            if getattr(options, field.name) != default and field.name not in shared:
                raise CheckpointError(f"{found}; leave --{field.name.replace('_', '-')} out")
