"""Collections of any size, in parts that are read one after the other and each by itself: `open_collection`."""

import glob
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets import Features, IterableDataset, Value, load_dataset_builder

from ..models.input_errors import one_line, printable
from .source import choose_column, list_files

# A stream of fewer files is divided further, where its format allows it.
_PARTS = 64
_ROWS_A_READ = 256
# What tells a record of the data set from the rest of a sample in WebDataset shards.
_KEY = "__key__"


@dataclass(frozen=True)
class Part:
    """Rows that one process reads in order.

    Args:
        index: its place among the parts.
        start: how many rows come before it; 0 in a stream, where nobody knows.
        count: how many rows it has; None in a stream.
    """

    index: int
    start: int = 0
    count: int | None = None


class Collection(ABC):
    """Rows to embed: where they come from decides how they divide.

    Args:
        name: what it was opened by.
        features: the columns.
        column: the one that is embedded.
        default_id: the column that names the rows, if there is one.
        id_type: of the names that it gives to rows otherwise.
        identity: what tells it from other data, as plain JSON.
    """

    name: str
    features: Features
    column: str
    default_id: str | None = None
    id_type: str = "int64"
    identity: dict[str, Any]

    @abstractmethod
    def parts(self, shard_rows: int) -> list[Part]:
        """The parts, of at most `shard_rows` rows where the collection can be read from any row on; at least one."""

    @abstractmethod
    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The rows of a part but its first `skip`, undecoded."""

    def ids(self, part: Part, start: int, count: int) -> pa.Array:
        """Names for rows that have none: their numbers in the collection, int64."""
        return pa.array(range(part.start + start, part.start + start + count), pa.int64())


class FolderFiles(Collection):
    """The images or depth maps below a folder, named by their paths in it.

    All names are in memory, some 0.1 kB a file: beyond some 10^7 files keep them in parquet files or tar shards.
    """

    column = "file"
    features = Features({"file": Value("string")})
    id_type = "string"

    def __init__(self, name: str, modality: str):
        self.name = name
        root = Path(name)
        self._folder = root if root.is_dir() else root.parent
        self._files = [file.relative_to(self._folder).as_posix() for file in list_files([root], modality)]
        try:
            self.identity = {"kind": "files", "digest": _digest(self._files)}
        except UnicodeEncodeError as error:
            raise ValueError(f"{printable(str(error.object))}: its name is no UTF-8; rename it") from error

    def parts(self, shard_rows: int) -> list[Part]:
        """Of any rows."""
        return _ranges(len(self._files), shard_rows)

    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Names only."""
        files = self._files[part.start + skip : part.start + (part.count or 0)]
        for start in range(0, len(files), _ROWS_A_READ):
            yield pa.table({"file": [str(self._folder / name) for name in files[start : start + _ROWS_A_READ]]})

    def ids(self, part: Part, start: int, count: int) -> pa.Array:
        """Paths below the folder."""
        return pa.array(self._files[part.start + start : part.start + start + count], pa.string())


class ParquetFiles(Collection):
    """Local parquet files, read row group by row group from any row on; nothing is copied or converted."""

    def __init__(self, name: str, files: Sequence[Path], modality: str, column: str | None):
        self.name = name
        self._files = files
        # First rows of the row groups of each file.
        self._groups: list[list[int]] = []
        self._schemas = []
        rows, parts = 0, []
        for file in files:
            try:
                metadata = pq.read_metadata(file)
                self._schemas.append(metadata.schema.to_arrow_schema())
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{file}: not a readable parquet file ({error})") from error
            starts = [rows]
            for group in range(metadata.num_row_groups):
                starts.append(starts[-1] + metadata.row_group(group).num_rows)
            rows = starts[-1]
            self._groups.append(starts)
            parts += [file.name, str(file.stat().st_size), str(rows)]
        self._rows = rows
        self.features = Features.from_arrow_schema(self._schemas[0])
        self.column = choose_column(name, self.features, modality, column)
        self.identity = {"kind": "parquet", "digest": _digest(parts)}

    def parts(self, shard_rows: int) -> list[Part]:
        """Of any rows."""
        return _ranges(self._rows, shard_rows)

    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Only of the row groups that hold the rows."""
        first, last = part.start + skip, part.start + (part.count or 0)
        for file, schema, starts in zip(self._files, self._schemas, self._groups, strict=True):
            ends = starts[1:]
            groups = [group for group, end in enumerate(ends) if starts[group] < last and end > first]
            if not groups:
                continue
            if missing := [name for name in columns if name not in schema.names]:
                raise ValueError(f"{file}: no column {missing[0]!r}; it has {', '.join(schema.names)}")
            row = starts[groups[0]]
            try:
                with pq.ParquetFile(file) as content:
                    for batch in content.iter_batches(_ROWS_A_READ, row_groups=groups, columns=list(columns)):
                        low, high = max(first - row, 0), min(last - row, len(batch))
                        row += len(batch)
                        if low < high:
                            yield pa.Table.from_batches([batch]).slice(low, high - low).select(columns)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{file}: damaged ({one_line(error)})") from error


class Stream(Collection):
    """A data set that is read while it arrives: WebDataset shards, or one of the Hub.

    It divides by its files, parquet files by their row groups too: fewer of these than processes leave some without
    work. A row that has no key and no `id` is called PART-ROW.
    """

    id_type = "string"

    def __init__(
        self, name: str, dataset: IterableDataset, identity: dict[str, Any], modality: str, column: str | None
    ):
        self.name = name
        dataset = _with_features(name, dataset)
        if dataset.num_shards < _PARTS and hasattr(dataset, "reshard"):  # not in datasets 4.0
            dataset = dataset.reshard()
        self.features = dataset.features
        self.column = choose_column(name, self.features, modality, column)
        self.default_id = _KEY if _KEY in self.features else None
        self._dataset = dataset.decode(False)  # by whoever embeds it, and never what nobody looks at
        self.identity = {**identity, "parts": dataset.num_shards}

    def parts(self, shard_rows: int) -> list[Part]:
        """Of some files or row groups each."""
        return [Part(index) for index in range(self._dataset.num_shards)] or [Part(0)]

    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The first `skip` rows are read too, but not decoded."""
        if not self._dataset.num_shards:
            return
        own = self._dataset.shard(self._dataset.num_shards, part.index).select_columns(list(columns))
        try:
            for table in own.with_format("arrow").iter(_ROWS_A_READ):
                dropped = min(skip, len(table))
                skip -= dropped
                yield table.slice(dropped).select(columns)
        except Exception as error:  # archives, the network: datasets raises what it likes
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise ValueError(f"{self.name}: its part {part.index} cannot be read ({reason})") from error

    def ids(self, part: Part, start: int, count: int) -> pa.Array:
        """Of nobody knows which row in the whole: the part and the row in it."""
        return pa.array([f"{part.index}-{row}" for row in range(start, start + count)], pa.string())


def open_collection(source: str, modality: str, column: str | None = None, split: str | None = None) -> Collection:
    """Find a collection and open it, reading no more than names, footers and first rows.

    Args:
        source: a folder of parquet files, of WebDataset shards (.tar), or of images or depth maps; such a file; a
            pattern such as `maps/*.parquet`; or the id of a data set on the Hub, which is streamed.
        modality: "text", "image" or "depth": what is embedded.
        column: by default the one of that name, or the only one of that kind.
        split: of a data set on the Hub; by default its only one.

    Raises:
        ValueError: if there is nothing to embed in it, or the column or split is not there or not clear.
    """
    files = _data_files(source)
    is_local = bool(files) or Path(source).exists()
    if split and is_local:
        raise ValueError(f"{source}: files have no --split")
    if not is_local:
        if Path(source).suffix in (".parquet", ".tar") or any(sign in source for sign in "*?["):
            raise ValueError(f"{source}: no such file")
        dataset, identity = _open_on_hub(source, split)
        return Stream(source, dataset, identity, modality, column)
    if not files:
        if modality == "text":
            raise ValueError(f"{source}: texts are read from parquet files, WebDataset shards or the Hub")
        if column:
            raise ValueError(f"{source}: a folder of files has no --column")
        return FolderFiles(source, modality)
    if files[0].suffix == ".parquet":
        return ParquetFiles(source, files, modality, column)
    builder = _builder(source, "webdataset", data_files=[str(file) for file in files])
    digest = _digest(text for file in files for text in (file.name, str(file.stat().st_size)))
    identity = {"kind": "webdataset", "digest": digest}
    return Stream(source, _streaming(source, builder)["train"], identity, modality, column)


def _data_files(source: str) -> list[Path]:
    """The parquet files or tar shards that a file, folder or pattern stands for, in alphabetical order."""
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.rglob("*") if not file.name.startswith(".")]
    else:
        found = [path] if path.is_file() else [Path(file) for file in glob.glob(source, recursive=True)]
    kinds = {suffix: sorted(file for file in found if file.suffix == suffix) for suffix in (".parquet", ".tar")}
    if all(kinds.values()):
        raise ValueError(f"{source}: has both parquet files and tar shards; say which: {path / '*.parquet'}")
    return kinds[".parquet"] or kinds[".tar"]


def _open_on_hub(name: str, split: str | None) -> tuple[IterableDataset, dict[str, Any]]:
    builder = _builder(name, name)
    splits = _streaming(name, builder)
    if split is None and len(splits) > 1:
        raise ValueError(f"{name}: has the splits {', '.join(splits)}; choose one with --split")
    split = split or next(iter(splits))
    if split not in splits:
        raise ValueError(f"{name}: no split {split!r}; it has {', '.join(splits)}")
    return splits[split], {"kind": "hub", "name": name, "split": split, "revision": builder.hash}


def _builder(name: str, path: str, **options: Any) -> Any:
    try:
        return load_dataset_builder(path, **options)
    except Exception as error:  # the Hub, the network, the files of the data set
        where = "no such file or folder here, and no data set that loads" if path == name else "cannot be loaded"
        raise ValueError(f"{name}: {where}: {one_line(error)}") from error


def _streaming(name: str, builder: Any) -> dict[str, IterableDataset]:
    try:
        return dict(builder.as_streaming_dataset())
    except Exception as error:
        raise ValueError(f"{name}: cannot be read ({one_line(error)})") from error


def _with_features(name: str, dataset: IterableDataset) -> IterableDataset:
    """Of a stream that does not say its columns, they are those of its first rows."""
    if dataset.features is not None:
        return dataset
    first = next(iter(dataset.with_format("arrow").iter(_ROWS_A_READ)), None)
    if first is None:
        raise ValueError(f"{name}: no rows, and no columns to know them by")
    return dataset.cast(Features.from_arrow_schema(first.schema))


def _ranges(rows: int, size: int) -> list[Part]:
    starts = range(0, rows, size) or range(1)
    return [Part(index, start, min(size, rows - start)) for index, start in enumerate(starts)]


def _digest(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()[:32]
