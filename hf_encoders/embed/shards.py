"""Shards of embeddings on disk: each a parquet file that is whole, and a record that says what is in it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from transformers.utils import logging

from ..fingerprint import sha256
from ..outputs import new_file
from .folder import DATA, EMBEDDING
from .rows import LISTED, EmbeddedRows

logger = logging.get_logger(__name__)

_RECORDS = "records"


@dataclass(frozen=True)
class ShardRecord:
    """What is in a finished shard.

    Args:
        part: the part of the collection whose rows they are.
        number: its place in that part.
        is_last: whether the part ends with it.
        rows: rows written.
        bad_count: rows that could not be embedded.
        bad: ids and reasons of the first of these.
        size: of the file, in bytes.
        sha256: of the file.
    """

    part: int
    number: int
    is_last: bool
    rows: int
    bad_count: int
    bad: list[tuple[str, str]]
    size: int
    sha256: str

    @property
    def file(self) -> str:
        """Its path in the output folder. In alphabetical order of these paths the rows are in their order."""
        return _file(self.part, self.number)


def write_shard(
    output: Path,
    schema: pa.Schema,
    part: int,
    number: int,
    content: Iterable[EmbeddedRows],
    is_last: Callable[[], bool],
) -> ShardRecord:
    """Write a shard, whole or not at all, then its record: after a kill between the two it is written again.

    Embeddings are stored as they are: numbers like these do not compress.

    Args:
        output: the folder.
        schema: of its rows.
        part: see `ShardRecord`.
        number: see `ShardRecord`.
        content: its rows as they are made.
        is_last: asked after the last of them.
    """
    path = output / _file(part, number)
    rows = bad_count = 0
    bad: list[tuple[str, str]] = []
    others = [name for name in schema.names if name != EMBEDDING]
    codecs = {name: "zstd" if name in others else "none" for name in schema.names}
    with new_file(path, overwrite=True) as partial:
        with pq.ParquetWriter(partial, schema, compression=codecs, use_dictionary=others) as writer:
            for block in content:
                writer.write_table(block.table)
                rows, bad_count, bad = rows + len(block.table), bad_count + block.bad_count, [*bad, *block.bad][:LISTED]
        size, digest = partial.stat().st_size, sha256(partial)
    record = ShardRecord(part, number, is_last(), rows, bad_count, bad, size, digest)
    with new_file(_record_file(output, part, number), overwrite=True) as partial:
        partial.write_text(json.dumps(asdict(record), ensure_ascii=False), encoding="utf-8")
    return record


def read_records(output: Path) -> list[ShardRecord]:
    """Those of all shards that were finished, in the order of the rows."""
    records = []
    for path in sorted((output / _RECORDS).glob("*.json")):
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            records.append(ShardRecord(**fields | {"bad": [(name, reason) for name, reason in fields["bad"]]}))
        except (ValueError, TypeError, KeyError) as error:
            logger.warning("%s: damaged (%s); its shard is written again", path, error)
    return records


def is_whole(output: Path, record: ShardRecord) -> bool:
    """Whether a shard is the file that was written; reads it once."""
    path = output / record.file
    if not path.is_file():
        found = "missing"
    elif path.stat().st_size != record.size or sha256(path) != record.sha256:
        found = "not the file that was written"
    else:
        return True
    logger.warning("%s: %s; it is written again", path, found)
    return False


def _file(part: int, number: int) -> str:
    return f"{DATA}/{part:07}-{number:05}.parquet"


def _record_file(output: Path, part: int, number: int) -> Path:
    return output / _RECORDS / f"{part:07}-{number:05}.json"
