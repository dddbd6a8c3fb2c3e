"""`hf-encoders search`: what is nearest to each query, among a folder, parquet file or data set."""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from .options import MODALITY_HELP, add_collection, add_format, count, depth_units, load_model, say_source, say_units
from .runner import Result
from .skipping import on_error, say_skipped, skipped_rows

if TYPE_CHECKING:
    from ..data.source import Source
    from ..modalities import Modality
    from ..models.depth_units import DepthEncodeOptions
    from ..models.tower import Encoder
    from ..search.index import SearchResult
    from .contact_sheet import Section


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_collection(parser)
    parser.add_argument("queries", nargs="+", metavar="query", help="a text, or a file")
    parser.add_argument(
        "--by",
        choices=("text", "image", "depth"),
        help="the kind of the queries (default: files are pictures, others texts)",
    )
    parser.add_argument(
        "--modality", choices=("image", "depth", "text"), help=f"the modality that is searched; {MODALITY_HELP}"
    )
    parser.add_argument("-k", type=count, default=5, help="results per query (default: %(default)s)")
    add_format(parser, "JSON lines, one per result: query, rank, score, index, row")


def run(args: argparse.Namespace) -> Result:
    """Embed the collection and the queries, and show the nearest rows.

    Raises:
        ValueError: if the model, the collection and the queries do not fit together, or a file cannot be read.
        OSError: if the output exists already or cannot be written.
    """
    from .results import check_output

    check_output(args)  # the imports below take seconds
    from ..data.source import open_pictures
    from ..modalities import encoder
    from ..search.index import EmbeddingIndex
    from .contact_sheet import draw
    from .results import check_sheet, encoding_options, named_output, plain_row, skipped_records, write

    model = load_model(args)
    source = open_pictures(model, args.source, args.modality, args.column, args.split)
    modality = source.modality
    by = args.by or _kind_of_queries(model, args.queries, modality)
    units = depth_units(args, modality, by)
    options = encoding_options(args)
    # batch_size is one of them
    index_options = cast(
        "DepthEncodeOptions", {**options, "on_error": on_error(args), **(units if modality == "depth" else {})}
    )
    # Queries come first: one that cannot be read is then known before the collection is embedded.
    queries = encoder(model, by, units, task="query")(args.queries, **options, convert_to="numpy")
    check_sheet(args, modality, len(args.queries) * (min(args.k, len(source.dataset)) + (by != "text")))
    with source.named():
        index = EmbeddingIndex.from_dataset(model, source.dataset, source.column, modality, **index_options)
    encode = partial(encoder(model, modality, units, task="document"), **options)
    skipped = skipped_rows(source, encode, index.skipped)
    say_source(model, args.source, modality, args.modality, source.left_out)
    say_skipped(skipped, len(skipped), "row", named_output(args))
    if "depth" in (modality, by):
        say_units(model, units)
    hits_of_all = cast("list[list[SearchResult]]", index.search(queries, args.k, modality="embedding"))
    found = list(zip(args.queries, hits_of_all, strict=True))
    features = source.dataset.features
    records = [
        {"query": query, "rank": rank, "score": hit.score, "index": hit.index, "row": plain_row(hit.row, features)}
        for query, hits in found
        for rank, hit in enumerate(hits, start=1)
    ]
    return write(
        args,
        records,
        table=lambda: _table(source, found),
        sheet=lambda: draw([_section(source, by, query, hits) for query, hits in found]),
        skipped=skipped_records(source, skipped),
    )


def _kind_of_queries(model: "Encoder", queries: Sequence[str], modality: "Modality") -> "Modality":
    """What the queries are, where --by does not say it: files, or else texts where the model embeds them.

    Raises:
        ValueError: if some are files and some are not.
    """
    from ..modalities import check_queries, files_modality, is_file, modalities

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


def _section(source: "Source", by: str, query: str, hits: "list[SearchResult]") -> "Section":
    """A query's part of a contact sheet."""
    from .contact_sheet import TILE_LINES, Section, Tile, wrap

    tiles = [
        Tile(
            hit.row[source.column],
            source.modality,
            f"{rank} · {hit.score:.3f}",
            wrap(source.caption(hit.index, hit.row), TILE_LINES),
        )
        for rank, hit in enumerate(hits, start=1)
    ]
    if by != "text":
        tiles.insert(0, Tile(query, by, "query", is_query=True))
    return Section(query, tiles)
