"""Which part of a processor an option is for. Each option is obeyed or refused: none is dropped."""

import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, cast

from transformers.image_processing_utils import BaseImageProcessor
from transformers.processing_utils import TextKwargs
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from .image_processing_depth import DepthImageProcessor

Options = Mapping[str, object]
Part: TypeAlias = PreTrainedTokenizerBase | BaseImageProcessor

# The modalities of the processor, as its arguments are called.
_MODALITIES = ("text", "images", "depth")
_DICTIONARIES = tuple(f"{modality}_kwargs" for modality in (*_MODALITIES, "audio", "videos"))
# sentence-transformers gives these for every modality in every call, also for those that a processor does not have.
_GIVEN_IN_EVERY_CALL = {"padding", "truncation", "max_length"}
_TENSORS = "return_tensors"
# Arguments that are not options.
_ARGUMENTS = {"self", "text", "images", "args", "kwargs", "tokenizer_kwargs"}
# Transformers' processors take these options, and this one cannot obey them: no text of it stands for images; images
# are read before their processor sees them; results are channels first.
_WITHOUT_EFFECT = {
    "return_mm_token_type_ids", "return_text_replacement_offsets", "sanitize_control_tokens", "image_seq_length",
    "input_data_format", "data_format",
}  # fmt: skip
# Options that have an effect only if another one, by the call or as it was saved, is on.
_SWITCHES = {
    "size": "do_resize", "resample": "do_resize", "crop_size": "do_center_crop", "pad_size": "do_pad",
    "rescale_factor": "do_rescale", "image_mean": "do_normalize", "image_std": "do_normalize",
    "unit_scale": "do_rescale", "normalization": "do_normalize", "value_range": "do_normalize",
    "pad_to_multiple_of": "padding", "padding_side": "padding", "stride": "return_overflowing_tokens",
}  # fmt: skip


def option_names(part: Part) -> set[str]:
    """The options that a tokenizer, an image processor or a depth processor takes in a call."""
    if isinstance(part, DepthImageProcessor):
        return part.option_names()
    if isinstance(part, PreTrainedTokenizerBase):
        names = {*TextKwargs.__annotations__, *inspect.signature(part.__call__).parameters}
    else:
        declared = getattr(part, "valid_kwargs", None)  # processors of before 5.0 name their options in `preprocess`
        names = {*getattr(declared, "__annotations__", ()), *inspect.signature(part.preprocess).parameters}
    return names - _ARGUMENTS - _WITHOUT_EFFECT


def options_by_modality(
    options: Options, known: Mapping[str, set[str]], given: Iterable[str]
) -> dict[str, dict[str, object]]:
    """Tell which modality each option is for.

    Args:
        options: those of a call: `text_kwargs`, `images_kwargs` and `depth_kwargs` for one modality each,
            `common_kwargs` for all, and single ones, each for the modality that it fits.
        known: the names of the options of each modality that the processor has a part for.
        given: the modalities of the call's inputs.

    Returns:
        For each modality of `given`, its options.

    Raises:
        TypeError: for an option that there is not.
        ValueError: for an option that is given twice, fits several modalities, or fits none of those that are given.
    """
    given = list(given)
    dictionaries = {name: _mapping(name, options.get(name)) for name in (*_DICTIONARIES, "common_kwargs")}
    for name in _DICTIONARIES:
        _check_dictionary(name, dictionaries[name], known, given)
    by_modality = {modality: dict(dictionaries[f"{modality}_kwargs"]) for modality in given}
    for name, value in options.items():
        if name not in dictionaries:
            twice = [place for place in _DICTIONARIES if name in dictionaries[place]]
            for modality in _fitting_alone(name, known, given, twice):
                by_modality[modality][name] = value
    for name, value in dictionaries["common_kwargs"].items():
        for modality in _fitting(name, known, given):
            # Transformers' own callers give the type of tensors in both places.
            if name in by_modality[modality] and not (name == _TENSORS and by_modality[modality][name] == value):
                raise ValueError(f"{name} is given twice: in common_kwargs and for {modality}")
            by_modality[modality][name] = value
    return by_modality


def check_switches(part: Part, of_call: Iterable[str], options: Options) -> None:
    """Refuse an option that is without effect because of another one, and a length below 1.

    Args:
        part: the tokenizer or processor that the options are for.
        of_call: the options that the call gives.
        options: these and the saved ones.

    Raises:
        ValueError: if there is one.
    """
    for name in of_call:
        switch = _SWITCHES.get(name)
        if switch is None or options[name] is None or switch not in option_names(part):
            continue
        if not (options[switch] if switch in options else getattr(part, switch, None)):
            raise ValueError(f"{name} has no effect without {switch}, which is off")
    limit = options.get("max_length")
    if "max_length" in of_call and isinstance(limit, int):
        if limit < 1:
            raise ValueError(f"max_length is {limit}, expected at least 1")
        cuts = options.get("truncation") not in (None, False, "do_not_truncate")
        if not cuts and options.get("padding") != "max_length":
            raise ValueError("max_length has no effect without truncation or padding='max_length'")


def _mapping(name: str, value: object) -> Options:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a dictionary of options")
    return cast(Options, value)


def _check_dictionary(name: str, options: Options, known: Mapping[str, set[str]], given: Iterable[str]) -> None:
    """Refuse the options of one modality that its part does not have."""
    modality = name.removesuffix("_kwargs")
    special = [option for option in options if option not in _GIVEN_IN_EVERY_CALL]
    if modality not in known:
        if special:
            raise ValueError(f"{name}: this processor has no part for {modality} that takes {', '.join(special)}")
        return
    unknown = [option for option in options if option not in known[modality]]
    if unknown:
        raise TypeError(f"{name}: there is no option {', '.join(map(str, unknown))}")
    if modality not in given and special:
        without = f"{name} without {modality}: {', '.join(special)} would have no effect"
        if modality == "depth":
            raise ValueError(without)
        warnings.warn(without, stacklevel=5)  # sentence-transformers gives the options of images with texts too


def _fitting_alone(name: str, known: Mapping[str, set[str]], given: Iterable[str], twice: Sequence[str]) -> list[str]:
    """The modality that an option by itself is for; the type of tensors is for all."""
    modalities = _fitting(name, known, given)
    if twice:
        raise ValueError(f"{name} is given twice: by itself and in {' and '.join(twice)}")
    if len(modalities) > 1 and name != _TENSORS:
        places = " or ".join(f"{modality}_kwargs" for modality in modalities)
        raise ValueError(f"{name} fits {' and '.join(modalities)}: give it in {places}, or common_kwargs for both")
    return modalities


def _fitting(name: str, known: Mapping[str, set[str]], given: Iterable[str]) -> list[str]:
    """The given modalities that have an option; at least one."""
    having = [modality for modality, names in known.items() if name in names]
    if not having:
        raise TypeError(f"this processor has no option {name} (it has parts for {', '.join(known) or 'nothing'})")
    fitting = [modality for modality in given if modality in having]
    if not fitting:
        raise ValueError(f"{name} is an option of {' and '.join(having)}, and the call has no {' or '.join(having)}")
    return fitting
