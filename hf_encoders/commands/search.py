"""`hf-encoders search`: what is nearest to each query, among data, a folder of embeddings or a saved index."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from ..plurals import counted
from .options import (
    DATA_HELP,
    MODALITY_HELP,
    add_collection,
    add_format,
    count,
    depth_units,
    load_model,
    path,
    say_backend,
    say_source,
    say_units,
)
from .runner import Result
from .skipping import say_skipped, skipped_rows

if TYPE_CHECKING:
    from ..data.skipped import SkippedInput
    from ..data.source import Source
    from ..modalities import Modality
    from ..models.tower import Encoder
    from ..search.index import SearchResult
    from .figures.contact_sheet import Section
    from .searched import Searched


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_collection(
        parser,
        f"{DATA_HELP}; or what hf-encoders embed (a folder or Lance table) or --save-index wrote, which is not embedded"
        " again",
    )
    parser.add_argument("queries", nargs="+", metavar="query", help="a text, or a file")
    parser.add_argument(
        "--by",
        choices=("text", "image", "depth"),
        help="the kind of the queries (default: files are pictures, others texts)",
    )
    parser.add_argument(
        "--modality", choices=("image", "depth", "text"), help=f"the modality that is searched; {MODALITY_HELP}"
    )
    parser.add_argument(
        "--save-index", type=path, metavar="FOLDER", help="write the embeddings and rows there, to be searched again"
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="COLUMN=VALUE",
        help="find only rows with this value (several times: every column must match, with one of its values)",
    )
    parser.add_argument("-k", type=count, default=5, help="results per query (default: %(default)s)")
    add_format(parser, "JSON lines, one per result: query, rank, score, index, row")


def run(args: argparse.Namespace) -> Result:
    """Embed the collection, unless it is embedded already, and the queries, and show the nearest rows.

    Raises:
        ValueError: if the model, the collection and the queries do not fit together, or a file cannot be read.
        OSError: if an output exists already or cannot be written.
    """
    from .results import check_output

    check_output(args)  # the imports below take seconds
    from ..data.source import open_pictures
    from ..depth_colours import DepthColours
    from ..modalities import encoder
    from ..search.filters import rows_where
    from .figures.contact_sheet import draw
    from .results import encoding_options, named_output, plain_row, skipped_records, write
    from .searched import check_searched, embed_source, open_searched

    where = _condition(args.where)
    is_saved = check_searched(args)
    model = load_model(args)
    found = open_searched(args, model) if is_saved else None
    source = found.source if found else open_pictures(model, args.source, args.modality, args.column, args.split)
    modality = source.modality
    # What it cannot hold is said before anything is embedded.
    found.index.check_where(where) if found else rows_where(where, source.dataset, len(source.dataset))
    by = args.by or _kind_of_queries(model, args.queries, modality)
    units = depth_units(args, by, *([] if found else [modality]))
    _check_sheet(args, modality, by, len(found.index if found else source.dataset))
    if found and found.no_pictures and args.output.suffix == ".png":
        raise ValueError(f"{found.no_pictures}; write .jsonl instead")
    # Queries come first: one that cannot be read is then known before the collection is embedded.
    options = encoding_options(args)
    queries = encoder(model, by, units, task="query")(args.queries, **options, convert_to="numpy")
    skipped: list[SkippedInput] = []
    if found is None:
        found = embed_source(args, model, source, units)
        encode = partial(encoder(model, modality, units, task="document"), **options)
        skipped = skipped_rows(source, encode, found.index.skipped)
    hits_of_all = cast("list[list[SearchResult]]", found.index.search(queries, args.k, "embedding", where=where))
    results = list(zip(args.queries, hits_of_all, strict=True))
    shown = partial(plain_row, features=source.dataset.features, column=source.column)
    records = [
        {"query": query, "rank": rank, "score": hit.score, "index": hit.index, "row": shown(hit.row)}
        for query, hits in results
        for rank, hit in enumerate(hits, start=1)
    ]
    written = write(
        args,
        records,
        table=lambda: _table(source, results),
        sheet=lambda: draw(
            [_section(found, by, query, hits) for query, hits in results], depth=DepthColours.of(model, units)
        ),
        skipped=skipped_records(source, skipped),
    )
    if not is_saved:
        say_source(model, args.source, modality, args.modality, source.left_out)
        say_skipped(skipped, len(skipped), "row", named_output(args))
        say_backend(args, model, modality)
    if by == "depth" or (modality == "depth" and not is_saved):
        say_units(model, units)
    if args.save_index is not None:
        sys.stderr.write(f"index of {counted(len(found.index), 'row')} → {args.save_index}\n")
    return written


def _condition(texts: Sequence[str]) -> dict[str, list[str]]:
    """Column → its values, of `--where`.

    Raises:
        ValueError: for one that says no column.
    """
    condition: dict[str, list[str]] = {}
    for text in texts:
        column, equals, value = text.partition("=")
        if not (column and equals):
            raise ValueError(f"--where {text}: expected COLUMN=VALUE, such as label=chair")
        condition.setdefault(column, []).append(value)
    return condition


def _check_sheet(args: argparse.Namespace, modality: str, by: str, rows: int) -> None:
    """See `check_sheet`; a query that is a picture has a tile too."""
    from .results import check_sheet

    check_sheet(args, modality, len(args.queries) * (min(args.k, rows) + (by != "text")))


def _kind_of_queries(model: "Encoder", queries: Sequence[str], modality: "Modality") -> "Modality":
    """What the queries are, where --by does not say it: files, or else texts where the model embeds them.

    Raises:
        ValueError: if some are files and some are not.
    """
    from ..modalities import check_queries, files_modality, modalities
    from ..models.input_modality import is_file

    check_queries(model, queries)
    files = [query for query in queries if is_file(query)]
    if "text" not in modalities(model):
        return modality
    if not files:
        return "text"
    if len(files) < len(queries):
        others = [query for query in queries if query not in files]
        raise ValueError(f"{files[0]} is a file, {others[0]!r} is none: say --by text, image or depth")
    return files_modality(model, files, "--by")


def _table(source: "Source", found: Sequence[tuple[str, "list[SearchResult]"]]) -> list[str]:
    lines = []
    for query, hits in found:
        ranks = [f"{rank:3}  {hit.score:.3f}  {source.label(hit.index, hit.row)}" for rank, hit in enumerate(hits, 1)]
        lines += [query, *(ranks or ["     nothing found"])]
    return lines


def _section(found: "Searched", by: str, query: str, hits: "list[SearchResult]") -> "Section":
    """A query's part of a contact sheet."""
    from .figures.contact_sheet import TILE_LINES, Section, Tile, wrap

    source, pictures = found.source, found.pictures(hits) if found.pictures else []
    tiles = [
        Tile(
            picture,
            source.modality,
            f"{rank} · {hit.score:.3f}",
            wrap(source.caption(hit.index, hit.row), TILE_LINES),
        )
        for rank, (hit, picture) in enumerate(zip(hits, pictures, strict=True), start=1)
    ]
    if by != "text":
        tiles.insert(0, Tile(query, by, "query", is_query=True))
    return Section(query, tiles)
