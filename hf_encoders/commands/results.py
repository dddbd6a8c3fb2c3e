"""Results of `search` and `classify`: printed as a table or JSON lines, or written as JSON lines or a picture."""

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ..plurals import counted
from .options import TABLE
from .runner import Result, to_json
from .skipping import SKIP

if TYPE_CHECKING:
    import PIL.Image

    from ..data.skipped import SkippedInput
    from ..data.source import Source
    from ..models.encoding import BackendName, DtypeName

STDOUT = Path("-")


class SkippedRecord(TypedDict):
    """A row that was left out, among the records of results; `skipped` is the reason."""

    index: int
    row: dict[str, object]
    skipped: str


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
        from .figures.contact_sheet import check_size

        check_size(tiles)


def write(
    args: argparse.Namespace,
    records: Sequence[Mapping[str, object]],
    *,
    table: Callable[[], list[str]],
    sheet: "Callable[[], PIL.Image.Image]",
    skipped: Sequence[SkippedRecord] = (),
) -> Result:
    """Write the kind of file that the output's suffix names; returns the records, or how many were written.

    Args:
        args: the arguments of the command.
        records: its results.
        table: makes the lines for people.
        sheet: draws the contact sheet.
        skipped: the records of rows that were left out, which follow the results.
    """
    from ..outputs import new_file

    output: Path = args.output
    if output == STDOUT:
        return Result(table() if args.format == TABLE else [], [*records, *skipped])
    with new_file(output, args.overwrite) as partial:
        if output.suffix == ".png":
            sheet().save(partial, format="PNG")
        else:
            lines = "".join(f"{to_json(record, ensure_ascii=False)}\n" for record in [*records, *skipped])
            # The name of a file that is not text has lone surrogates, which UTF-8 cannot encode but JSON can escape.
            partial.write_bytes(lines.encode(errors="backslashreplace"))
    line, content = f"{counted(len(records), 'result')} → {output}", {"output": str(output), "results": len(records)}
    if args.on_error == SKIP:
        line += f"; skipped: {len(skipped)}"
        content["skipped"] = len(skipped)
    return Result([line], content)


def named_output(args: argparse.Namespace) -> str:
    """The file that lists every row that was left out; empty where none does: a picture does not."""
    if args.output == STDOUT:
        return "" if args.format == TABLE else "stdout"
    return str(args.output) if args.output.suffix == ".jsonl" else ""


def skipped_records(source: "Source", skipped: "Iterable[SkippedInput]") -> list[SkippedRecord]:
    """The records of rows that were left out, for JSON lines."""
    rows = source.rows
    return [
        {
            "index": one["index"],
            "row": plain_row(rows[one["index"]], rows.features, source.column),
            "skipped": one["reason"],
        }
        for one in skipped
    ]


def plain_row(row: Mapping[str, object], features: Mapping[str, object], column: str) -> dict[str, object]:
    """A row without its pictures, for JSON, with the names of classes.

    Args:
        row: as `datasets` gives it.
        features: of its columns.
        column: the one that was embedded, whose lists are pictures too.
    """
    return {
        name: _named(value, features.get(name))
        for name, value in row.items()
        if _is_plain(value) and not (name == column and isinstance(value, list))
    }


def _named(value: object, feature: object) -> object:
    """A value with the names of its classes, where its data set has them."""
    from datasets import ClassLabel, List

    if isinstance(feature, ClassLabel) and isinstance(value, int) and 0 <= value < len(feature.names or ()):
        return feature.int2str(value)
    if isinstance(feature, List) and isinstance(value, list):
        return [_named(one, feature.feature) for one in value]
    if isinstance(feature, Mapping) and isinstance(value, Mapping):
        return {name: _named(one, feature.get(name)) for name, one in value.items()}
    return value


def _is_plain(value: object) -> bool:
    import PIL.Image

    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, (bytes, PIL.Image.Image)) and not (isinstance(value, float) and math.isnan(value))
