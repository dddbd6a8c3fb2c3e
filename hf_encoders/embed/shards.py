"""Shards of embeddings on disk: each is a whole parquet file and a record that says what is in it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from transformers.utils import logging

from ..data.remote_path import Place
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
        part: the part of the collection that the rows are from.
        number: its place in that part.
        is_last: whether the part ends with it.
        rows: the number of rows written.
        bad_count: the number of rows that could not be embedded.
        bad: ids and reasons of the first of these.
        size: the size of the file, in bytes.
        time_ns: when it was written last, in nanoseconds.
        sha256: the hash of the file.
        inputs: the state of what its rows were read from, see `Collection.state`.
    """

    part: int
    number: int
    is_last: bool
    rows: int
    bad_count: int
    bad: list[tuple[str, str]]
    size: int
    time_ns: int
    sha256: str
    inputs: str

    @property
    def file(self) -> str:
        """The path in the output folder. In alphabetical order of these paths the rows are in order."""
        return _file(self.part, self.number)


def write_shard(
    output: Place,
    schema: pa.Schema,
    part: int,
    number: int,
    content: Iterable[EmbeddedRows],
    is_last: Callable[[], bool],
    inputs: str,
) -> ShardRecord:
    """Write a shard, whole or not at all, then its record. After a kill between the two it is written again.

    Embeddings are stored uncompressed: numbers like these do not compress.

    Args:
        output: the folder.
        schema: the columns.
        part: see `ShardRecord`.
        number: see `ShardRecord`.
        content: the rows, block by block as they are made.
        is_last: called after the last block.
        inputs: see `ShardRecord`.
    """
    path = output / _file(part, number)
    rows, bad_count = 0, 0
    bad: list[tuple[str, str]] = []
    others = [name for name in schema.names if name != EMBEDDING]
    codecs = {name: "zstd" if name in others else "none" for name in schema.names}
    with new_file(path, overwrite=True) as partial:
        with pq.ParquetWriter(partial, schema, compression=codecs, use_dictionary=others) as writer:
            for block in content:
                writer.write_table(block.table)
                rows += len(block.table)
                bad_count += block.bad_count
                bad = [*bad, *block.bad][:LISTED]
        digest = sha256(partial)
    status = path.stat()
    size, time_ns = status.st_size, status.st_mtime_ns
    record = ShardRecord(part, number, is_last(), rows, bad_count, bad, size, time_ns, digest, inputs)
    with new_file(_record_file(output, part, number), overwrite=True) as partial:
        partial.write_text(json.dumps(asdict(record), ensure_ascii=False), encoding="utf-8")
    return record


def read_records(output: Place) -> list[ShardRecord]:
    """Read the records of all finished shards, in the order of the rows."""
    records = []
    paths: Iterable[Place] = (output / _RECORDS).glob("*.json")
    for path in sorted(paths, key=str):
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            records.append(ShardRecord(**fields | {"bad": [(name, reason) for name, reason in fields["bad"]]}))
        except (ValueError, TypeError, KeyError) as error:
            logger.warning("%s: damaged (%s); its shard is written again", path, error)
    return records


def is_whole(output: Place, record: ShardRecord) -> bool:
    """Whether a shard is the file that was written: by its size and time, or else by its hash."""
    path = output / record.file
    if not path.is_file():
        found = "missing"
    elif (status := path.stat()).st_size != record.size:
        found = "not the file that was written"
    elif status.st_mtime_ns == record.time_ns != 0 or sha256(path) == record.sha256:  # some stores tell no time
        return True
    else:
        found = "not the file that was written"
    logger.warning("%s: %s; it is written again", path, found)
    return False


def remove_shard(output: Place, record: ShardRecord) -> None:
    """Remove a shard that the collection has no rows for any more; its record first."""
    _record_file(output, record.part, record.number).unlink(missing_ok=True)
    (output / record.file).unlink(missing_ok=True)


def _file(part: int, number: int) -> str:
    return f"{DATA}/{part:07}-{number:05}.parquet"


def _record_file(output: Place, part: int, number: int) -> Place:
    return output / _RECORDS / f"{part:07}-{number:05}.json"
