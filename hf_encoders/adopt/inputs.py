"""The inputs of a network: as a person says them, and as the network and transformers call them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from .errors import AdoptError
from .generation import Input

_FORM = re.compile(r"(?:(~?[A-Za-z_]\w*)=)?(\d+(?:x\d+)*)(?::(float32|int64|int32|uint8|bool))?")
_MAIN = {"image": "pixel_values", "depth": "pixel_values", "text": "input_ids"}
_MOST = 1 << 30  # values


@dataclass(frozen=True)
class WantedInput:
    """An input as a person says it.

    Args:
        name: of the parameter of `forward`; empty for the next one.
        shape: with the batch first.
        dtype: of its values; empty for the usual one.
        is_inverted: whether it is a mask that is true where nothing is to be read.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_inverted: bool = False


def parse_input(text: str) -> WantedInput:
    """Read `--input`: SHAPE, NAME=SHAPE or either with a type, such as `mask=1x16:int64`.

    `~mask=1x16:bool` is a mask that is true where nothing is to be read, as PyTorch's `key_padding_mask`.

    Raises:
        AdoptError: if it has another form.
    """
    match = _FORM.fullmatch(text)
    shape = tuple(map(int, match[2].split("x"))) if match else ()
    count = 1
    for side in shape:
        count *= side
    if match is None or not 0 < count < _MOST:
        raise AdoptError(name=f"--input {text}", reason="expected a shape such as 1x3x224x224, or mask=1x16:int64")
    name = match[1] or ""
    return WantedInput(name.removeprefix("~"), shape, match[3] or "", name.startswith("~"))


def name_inputs(wanted: Sequence[WantedInput], takes: Sequence[str], modality: str | None) -> list[Input]:
    """Give inputs their names.

    Args:
        wanted: as a person says them, the main one first.
        takes: the parameters of the network's `forward`.
        modality: "image", "depth" or "text", whose main input transformers has a name for.

    Raises:
        AdoptError: if `forward` takes no such input.
    """
    found: list[Input] = []
    for number, one in enumerate(wanted):
        if one.name and one.name not in takes:
            raise AdoptError(name=f"--input {one.name}", reason=f"forward takes {', '.join(takes) or 'no such input'}")
        if not one.name and number >= len(takes):
            raise AdoptError(name="--input", reason=f"{len(wanted)} are given, and forward takes {len(takes)}")
        own = one.name or takes[number]
        if number == 0 and own != takes[0]:
            raise AdoptError(name=f"--input {own}", reason=f"the first input of forward is {takes[0]}; say it first")
        name = _MAIN.get(modality or "", own) if number == 0 else own
        if modality == "text" and number and own.endswith("mask"):
            name = "attention_mask"
        if one.is_inverted and name != "attention_mask":
            raise AdoptError(name=f"--input ~{own}", reason="only the mask of a text is turned round")
        usual = "int64" if modality == "text" else "float32"
        found.append(Input(name, own, one.shape, one.dtype or usual, is_inverted=one.is_inverted))
    if len({one.name for one in found}) < len(found):
        raise AdoptError(name="--input", reason="an input is given twice")
    if len({one.shape[0] for one in found}) > 1:
        raise AdoptError(name="--input", reason="the inputs have batches of different sizes")
    return found
