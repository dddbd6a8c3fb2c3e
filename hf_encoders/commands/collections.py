"""`hf-encoders search` and `classify`: over a folder, parquet file or data set, to a table, JSON lines or a picture."""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
from transformers import AutoModel

from ..data.source import Source, open_source
from ..modalities import default_modality, encoder, modalities
from ..outputs import check_file, new_file
from ..search.index import EmbeddingIndex, SearchResult
from ..zero_shot import ZeroShotClassifier
from .contact_sheet import TILE_LINES, Section, Tile, check_size, draw, wrap

TABLE = Path("-")


def search(args: argparse.Namespace) -> str:
    """Find what is nearest to each query; the arguments are the command's, the result is what it prints."""
    _check_output(args)
    model = AutoModel.from_pretrained(args.model)
    modality = args.modality or default_modality(model)
    by = args.by or ("text" if "text" in modalities(model) else modality)
    # First, so that a query that cannot be read is known before the collection is embedded.
    queries = encoder(model, by)(args.queries, **_options(args), convert_to="numpy")
    source = open_source(args.source, modality, args.column, args.split)
    _check_sheet(args, modality, len(args.queries) * (min(args.k, len(source.dataset)) + (by != "text")))
    with source.named():
        index = EmbeddingIndex.from_dataset(
            model, source.dataset, source.column, modality, on_error=args.on_error, **_options(args)
        )
    found = list(zip(args.queries, index.search(queries, args.k, modality="embedding"), strict=True))
    records = [
        {"query": query, "rank": rank, "score": hit.score, "index": hit.index, "row": _plain(hit.row)}
        for query, hits in found
        for rank, hit in enumerate(hits, start=1)
    ]
    return _write(
        args.output,
        args.overwrite,
        records,
        lambda: _search_lines(source, found),
        lambda: draw([_search_section(source, by, query, hits) for query, hits in found]),
    )


def classify(args: argparse.Namespace) -> str:
    """Label each image or depth map of a collection; the arguments are the command's."""
    _check_output(args)
    labels = read_labels(args.labels)
    model = AutoModel.from_pretrained(args.model)
    modality = args.modality or default_modality(model)
    encoder(model, "text")  # a depth encoder has none: said before anything is read
    templates = {"templates": args.template} if args.template else {}
    classifier = ZeroShotClassifier(model, labels, **templates)
    source = open_source(args.source, modality, args.column, args.split)
    _check_sheet(args, modality, len(source.dataset))
    embeddings, kept = _embed(model, source, args)
    rows = source.rows.select(kept)
    results = classifier.classify_embeddings(embeddings, top_k=args.top_k)
    records = [
        {"index": index, "row": _plain(row), "labels": best}
        for index, row, best in zip(kept, rows, results, strict=True)
    ]
    return _write(
        args.output,
        args.overwrite,
        records,
        lambda: _classify_lines(source, records),
        lambda: draw([_classify_section(source, records)]),
    )


def _embed(model: Any, source: Source, args: argparse.Namespace) -> tuple[Any, Sequence[int]]:
    """Embeddings of the rows that can be read, and their positions."""
    encode = encoder(model, source.modality)
    with source.named():
        embeddings = encode(source.dataset[source.column], on_error=args.on_error, **_options(args))
    if args.on_error == "raise":
        return embeddings, range(len(embeddings))
    embeddings, kept = embeddings
    return embeddings, kept.nonzero().flatten().tolist()


def _search_lines(source: Source, found: Sequence[tuple[str, list[SearchResult]]]) -> list[str]:
    lines = []
    for query, hits in found:
        ranks = [f"{rank:3}  {hit.score:.3f}  {source.label(hit.index, hit.row)}" for rank, hit in enumerate(hits, 1)]
        lines += [query, *(ranks or ["     nothing found"])]
    return lines


def _search_section(source: Source, by: str, query: str, hits: list[SearchResult]) -> Section:
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


def _classify_lines(source: Source, records: Sequence[dict[str, Any]]) -> list[str]:
    names = [source.label(record["index"], record["row"]) for record in records]
    width = max(map(len, names), default=0)
    return [
        f"{name:<{width}}  {'  '.join(_score(best) for best in record['labels'])}"
        for name, record in zip(names, records, strict=True)
    ]


def _classify_section(source: Source, records: Sequence[dict[str, Any]]) -> Section:
    return Section(
        "",
        [
            Tile(
                source.dataset[record["index"]][source.column],
                source.modality,
                source.caption(record["index"], record["row"]),
                [_score(best) for best in record["labels"]],
            )
            for record in records
        ],
    )


def _score(best: dict[str, Any]) -> str:
    return f"{best['label']} {best['score']:.2f}"


def read_labels(labels: str) -> list[str]:
    """`a,b,c`, or `@file` with a label a line.

    Raises:
        ValueError: if there is none.
    """
    if labels.startswith("@"):
        parts = Path(labels[1:]).read_text(encoding="utf-8").splitlines()
    else:
        parts = labels.split(",")
    found = [part.strip() for part in parts if part.strip()]
    if not found:
        raise ValueError(f"{labels!r}: no label; give them as a,b,c or as @file with one a line")
    return found


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {"batch_size": args.batch_size, "device": args.device, "dtype": args.dtype, "backend": args.backend}


def _check_output(args: argparse.Namespace) -> None:
    if args.output != TABLE:
        if args.output.suffix not in (".jsonl", ".png"):
            raise ValueError(f"{args.output}: the output is a .jsonl or .png file, or - for a table")
        check_file(args.output, args.overwrite)


def _check_sheet(args: argparse.Namespace, modality: str, tiles: int) -> None:
    if args.output.suffix == ".png":
        if modality == "text":
            raise ValueError(f"{args.output}: a contact sheet shows images or depth maps; write texts to .jsonl")
        check_size(tiles)


def _write(
    output: Path,
    overwrite: bool,
    records: Sequence[dict[str, Any]],
    table: Callable[[], list[str]],
    sheet: Callable[[], PIL.Image.Image],
) -> str:
    """Write what the suffix asks for, and return what is printed."""
    if output == TABLE:
        return "\n".join(table())
    with new_file(output, overwrite) as partial:
        if output.suffix == ".png":
            sheet().save(partial, format="PNG")
        else:
            lines = "".join(f"{json.dumps(record, ensure_ascii=False, default=str)}\n" for record in records)
            # A file's name that is no text has lone surrogates, which JSON escapes and UTF-8 has not.
            partial.write_bytes(lines.encode(errors="backslashreplace"))
    return f"{len(records)} results → {output}"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its pictures, for JSON."""
    return {name: value for name, value in row.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, (bytes, PIL.Image.Image)) and not (isinstance(value, float) and math.isnan(value))
