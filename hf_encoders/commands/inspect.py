"""`hf-encoders inspect`: what is in a file of weights, of any family.

    hf-encoders inspect best_model.pth
    hf-encoders inspect checkpoint.pt --json

Nothing in the file is executed, and no values of tensors are read: many gigabytes take no longer than a small file
does. The path of a set of weights is what `hf-encoders convert --weights` takes.
"""

import argparse
from typing import TYPE_CHECKING

from ..models.input_errors import printable
from ..plurals import counted
from .options import JSON, add_format, path
from .runner import Result

if TYPE_CHECKING:
    from ..conversion.inspection import Inspection, WeightsFound

_MOST_NAMES, _MOST_NEAR = 6, 3
_MOST_LINES = 40  # of one kind
_WIDEST = 160  # letters of a value


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", type=path, help="file or folder of weights")
    add_format(parser, "one document: container, classes, weights, optimizer, training, metadata")
    parser.add_argument("--json", action="store_const", const=JSON, dest="format", help="the same as --format json")


def run(args: argparse.Namespace) -> Result:
    """Look into the file.

    Raises:
        ValueError: if it cannot be read.
    """
    from ..conversion.inspection import inspect_checkpoint

    found = inspect_checkpoint(args.file)
    return Result([printable(line) for line in _lines(found)], found)


def _lines(found: "Inspection") -> list[str]:
    import json

    lines = [f"{found['file']}: {found['container']}, {_size(found['bytes'])}"]
    weights = [line for weights in found["weights"] for line in (_weights_line(weights), *_names_lines(weights))]
    lines += _part("weights", weights or ["none"])
    for kind, states in (("optimizer", found["optimizer"]), ("other states of training", found["training"])):
        lines += _part(
            kind,
            [
                f"{state['path']}: {counted(state['tensors'], 'tensor')}, {_size(state['bytes'])}"
                for state in states
                if state["tensors"]
            ],
        )
    lines += _part("classes, none of them imported", found["classes"])
    metadata = [
        f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in found["metadata"].items()
    ]
    return lines + _part("metadata", [line if len(line) <= _WIDEST else f"{line[:_WIDEST]}…" for line in metadata])


def _part(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"  … {len(lines) - _MOST_LINES:,} more"] if len(lines) > _MOST_LINES else []
    return [f"{title}:", *(f"  {line}" for line in lines[:_MOST_LINES]), *more]


def _weights_line(weights: "WeightsFound") -> str:
    what = [weights["family"] or "of no known family", *(["an average"] if weights["average"] else [])]
    if weights["stored_as"]:
        what.append(weights["stored_as"])
    dtypes = ", ".join(
        f"{dtype}" if len(weights["dtypes"]) == 1 else f"{count} {dtype}" for dtype, count in weights["dtypes"].items()
    )
    prefix = [f"prefix {weights['prefix']}"] if weights["prefix"] else []
    figures = [counted(weights["tensors"], "tensor"), counted(weights["parameters"], "parameter"), dtypes]
    parts = [*what, *figures, _size(weights["bytes"]), *prefix]
    if weights["left_overs"]:
        more = f" and {len(weights['left_overs']) - 1} more" if len(weights["left_overs"]) > 1 else ""
        parts.append(f"left-overs {weights['left_overs'][0]}{more}")
    return f"{weights['path']}: {', '.join(parts)}" + (f"; {weights['note']}" if weights["note"] else "")


def _names_lines(weights: "WeightsFound") -> list[str]:
    """The first names of weights of no known family, and the families that have such names."""
    if weights["family"]:
        return []
    names = weights["names"][:_MOST_NAMES]
    more = f" and {weights['tensors'] - len(names):,} more" if weights["tensors"] > len(names) else ""
    lines = [f"  names: {', '.join(names)}{more}"]
    near = [f"{name} ({count} names match)" for name, count in list(weights["nearest"].items())[:_MOST_NEAR]]
    return [*lines, f"  nearest: {', '.join(near)}"] if near else lines


def _size(count: int) -> str:
    """Bytes for people."""
    size, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{count} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"
