"""Results of `search` and `classify`: printed as a table or JSON lines, or written as JSON lines or a picture."""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from .options import TABLE
from .runner import Result, to_json

if TYPE_CHECKING:
    import PIL.Image

    from ..models.encoding import BackendName, DtypeName

STDOUT = Path("-")


class EncodingOptions(TypedDict):
    """The arguments of `encode` that a command line gives."""

    batch_size: int
    dtype: "DtypeName | None"
    backend: "BackendName"


def encoding_options(args: argparse.Namespace) -> EncodingOptions:
    """The options of a command that `encode` takes."""
    return {"batch_size": args.batch_size, "dtype": args.dtype, "backend": args.backend}


def check_output(args: argparse.Namespace) -> None:
    """Refuse an output that cannot be written, before anything is computed.

    Raises:
        ValueError: if it is another kind of file.
        OSError: if it exists already or cannot be written.
    """
    if args.output != STDOUT:
        if args.output.suffix not in (".jsonl", ".png"):
            raise ValueError(f"{args.output}: the output is a .jsonl or .png file, or - for stdout")
        from ..outputs import check_file

        check_file(args.output, args.overwrite)


def check_sheet(args: argparse.Namespace, modality: str, tiles: int) -> None:
    """Refuse a contact sheet of texts, or of too many tiles.

    Raises:
        ValueError: if the command asks for one.
    """
    if args.output.suffix == ".png":
        if modality == "text":
            raise ValueError(f"{args.output}: a contact sheet shows images or depth maps; write texts to .jsonl")
        from .contact_sheet import check_size

        check_size(tiles)


def write(
    args: argparse.Namespace,
    records: Sequence[Mapping[str, object]],
    *,
    table: Callable[[], list[str]],
    sheet: "Callable[[], PIL.Image.Image]",
) -> Result:
    """Write the kind of file that the output's suffix names; returns the records, or how many were written."""
    from ..outputs import new_file

    output: Path = args.output
    if output == STDOUT:
        return Result(table() if args.format == TABLE else [], list(records))
    with new_file(output, args.overwrite) as partial:
        if output.suffix == ".png":
            sheet().save(partial, format="PNG")
        else:
            lines = "".join(f"{to_json(record, ensure_ascii=False)}\n" for record in records)
            # The name of a file that is not text has lone surrogates, which UTF-8 cannot encode but JSON can escape.
            partial.write_bytes(lines.encode(errors="backslashreplace"))
    return Result([f"{len(records)} results → {output}"], {"output": str(output), "results": len(records)})


def plain_row(row: Mapping[str, object], column: str) -> dict[str, object]:
    """A row without its pictures, for JSON.

    Args:
        row: as `datasets` gives it.
        column: the one that was embedded, whose lists are pictures too.
    """
    return {
        name: value
        for name, value in row.items()
        if _is_plain(value) and not (name == column and isinstance(value, list))
    }


def _is_plain(value: object) -> bool:
    import PIL.Image

    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, (bytes, PIL.Image.Image)) and not (isinstance(value, float) and math.isnan(value))
