"""Collections of any size, read part by part: `open_collection`."""

import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from datasets import DatasetBuilder, Features, IterableDataset, Value, load_dataset_builder

from ..modalities import Modality, default_modality, files_modality, items_modality, modalities
from ..models.input_errors import one_line
from .agreement import check_agree
from .cells import features_of, first_cells
from .columns import KEY, LOOKED_AT, Columns
from .file_rows import FileRows
from .file_states import digest, file_state, named_files, parquet_state
from .layout import Items, Layout, Part
from .location import Location, left_out, locate, picture_files, pictures_of
from .parquet import may_name_files, read_footers
from .parts import Collection, Identity
from .remote_pictures import RemotePictures
from .text_rows import table_with_paths

# A stream of fewer files is divided further, where its format allows it.
_PARTS = 64
_ROWS_PER_READ = 256


class FolderFiles(FileRows):
    """Pictures in a folder. Beyond about 10^7 files keep them in parquet files or tar shards."""

    features = Features({"file": Value("string")})

    def __init__(self, location: Location, files: Sequence[str], left_out: str = ""):
        name = location.name
        folder = name if location.is_folder else os.path.commonpath([os.path.dirname(file) or "." for file in files])
        start = len(os.path.join(folder, ""))
        self._folder, self.left_out = folder, left_out
        super().__init__(
            name, [file[start:] if location.is_folder else os.path.relpath(file, folder) for file in files]
        )

    def path(self, name: str) -> str:
        """The path of a file, by its id."""
        return os.path.join(self._folder, name)

    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield paths. The files are read where they are embedded."""
        files = self.files(part, skip)
        for start in range(0, len(files), _ROWS_PER_READ):
            yield pa.table({"file": [self.path(name) for name in files[start : start + _ROWS_PER_READ]]})

    def file_state(self, file: str) -> str:
        """See `data.file_states`."""
        return file_state(self.path(file))


class ParquetFiles(Collection):
    """Local parquet files, read row group by row group from any row on; nothing is copied or converted."""

    def __init__(self, location: Location, modality: Modality, column: str | None):
        self.name, self.left_out = location.name, left_out(location, modality)
        self._files = [Path(file) for file in location.files]
        folder = self.name if location.is_folder else os.path.commonpath([file.parent for file in self._files])
        self._names = [os.path.relpath(file, folder) for file in self._files]
        footers = list(read_footers(location.files))
        self._schemas: list[pa.Schema] = [footer.schema.to_arrow_schema() for footer in footers]
        self._group_rows = [
            [footer.row_group(group).num_rows for group in range(footer.num_row_groups)] for footer in footers
        ]
        self._groups = _group_starts(self._group_rows)
        self._layout = Layout.of(self.items())
        self.rows = self._groups[-1][-1]
        self.features = Features.from_arrow_schema(self._schemas[0])
        self.column = Columns(self.name, self.features, self._first_cells).choose(modality, column)
        is_pictures = modality != "text"
        self._may_name_files = is_pictures and any(may_name_files(footer, self.column) for footer in footers)
        for file, schema in zip(self._files, self._schemas, strict=True):
            if not schema.equals(self._schemas[0], check_metadata=True):
                there = Features.from_arrow_schema(schema)
                shared = [name for name in self.features if name in there]
                check_agree(str(self._files[0]), self.features, str(file), there, shared)
        ends = zip(self._files, self._groups, strict=True)
        self.identity = {
            "kind": "parquet",
            "digest": digest(text for file, rows in ends for text in (file.name, str(rows[-1]))),
        }

    def _first_cells(self, column: str) -> list[object]:
        table = next(self.tables(Part(0, 0, min(self.rows, LOOKED_AT)), 0, [column]), None)
        return [] if table is None else table[column].to_pylist()

    def items(self) -> Items:
        """The files, by their paths below what they have in common, and their rows."""
        return Items(self._names, [starts[-1] - starts[0] for starts in self._groups])

    def arrange(self, layout: Layout) -> None:
        """Read the files in another order. Rows that are named by their numbers are numbered in it."""
        order = [self._names.index(name) for name in layout.present]
        self._names, self._files = layout.present, [self._files[place] for place in order]
        self._schemas = [self._schemas[place] for place in order]
        self._group_rows = [self._group_rows[place] for place in order]
        self._layout, self._groups = layout, _group_starts(self._group_rows)

    def parts(self, shard_rows: int) -> list[Part]:
        """Divide the rows into ranges."""
        return self._layout.parts(shard_rows)

    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows of a part, reading only the row groups that hold some of them."""
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
                    for batch in content.iter_batches(_ROWS_PER_READ, row_groups=groups, columns=list(columns)):
                        low, high = max(first - row, 0), min(last - row, len(batch))
                        row += len(batch)
                        if low < high:
                            yield pa.Table.from_batches([batch]).slice(low, high - low).select(columns)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{file}: damaged ({one_line(error)})") from error

    def state(self, part: Part, start: int, count: int) -> str:
        """Digest the sizes, times and footers of the files that hold the rows, and the states of files that they name.

        Strings and pictures without bytes name files.
        """
        first, last = part.start + start, part.start + min(start + count, part.count or 0)
        holding = [
            parquet_state(file)
            for file, starts in zip(self._files, self._groups, strict=True)
            if starts[0] < last and starts[-1] > first
        ]
        rows = Part(part.index, first, last - first)
        tables = self.tables(rows, 0, [self.column]) if self._may_name_files else ()
        named = (name for table in tables for name in named_files(table[self.column].to_pylist()))
        return digest([*holding, *(file_state(name) for name in named)])

    def row_states(self, part: Part, start: int, count: int) -> list[str]:
        """The state of the file that holds each row, its place there, and the states of files that it names."""
        first = part.start + start
        last = first + count
        states: list[str] = []
        for file, starts in zip(self._files, self._groups, strict=True):
            if starts[0] < last and starts[-1] > first:
                places = range(max(first, starts[0]) - starts[0], min(last, starts[-1]) - starts[0])
                state = f"{file.name} {parquet_state(file)}"
                states += [f"{state} {place}" for place in places]
        if not self._may_name_files:
            return states
        tables = self.tables(Part(part.index, first, count), 0, [self.column])
        cells = [cell for table in tables for cell in table[self.column].to_pylist()]
        named = [" ".join(map(file_state, named_files([cell]))) for cell in cells]
        return [f"{state} {files}" for state, files in zip(states, named, strict=True)]


def _group_starts(group_rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """The first rows of each file's row groups, and the row after the last one."""
    first, starts = 0, []
    for rows in group_rows:
        starts.append([first, *(first + end for end in itertools.accumulate(rows))])
        first = starts[-1][-1]
    return starts


class Stream(Collection):
    """A data set that is read while it arrives: WebDataset shards, URLs, or a data set on the Hub.

    It is divided by its files, and parquet files by their row groups too: with fewer of these than processes, some
    processes have no work. Rows without a key or `id` are named PART-ROW, as a stream has no global row numbers.

    Args:
        name: by which it was opened.
        dataset: the stream.
        identity: see `Collection`.
        modality: what is embedded.
        column: see `Columns.choose`.
        files: the local ones that it reads.
        folder: of a text file, beside which the pictures may lie that its rows name.
    """

    id_type = "string"

    def __init__(
        self,
        name: str,
        dataset: IterableDataset,
        identity: Identity,
        modality: Modality,
        column: str | None,
        files: Sequence[str] = (),
        folder: str | None = None,
    ):
        self.name, self._files = name, files
        if dataset.features is None:
            dataset = dataset.cast(features_of(name, dataset))
        if dataset.num_shards < _PARTS and hasattr(dataset, "reshard"):  # not in datasets 4.0
            dataset = dataset.reshard()
        self.features = dataset.features
        # Undecoded: decoded later, and only the column that is embedded.
        self._dataset = dataset.decode(False)
        self.column = Columns(name, self.features, first_cells(self._dataset)).choose(modality, column)
        names_files = modality != "text" and self.features[self.column] in (Value("string"), Value("large_string"))
        self._folder = folder if names_files else None
        self.default_id = KEY if KEY in self.features else None
        self.identity = {**identity, "parts": dataset.num_shards}
        self.is_local = bool(files)

    def parts(self, shard_rows: int) -> list[Part]:
        """Make a part of each file or row group."""
        return [Part(index) for index in range(self._dataset.num_shards)] or [Part(0)]

    def tables(self, part: Part, skip: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows of a part. The first `skip` are read too, but not decoded."""
        if not self._dataset.num_shards:
            return
        rows = self._dataset.shard(self._dataset.num_shards, part.index).select_columns(list(columns))
        try:
            for table in rows.with_format("arrow").iter(_ROWS_PER_READ):
                dropped = min(skip, len(table))
                skip -= dropped
                table = table.slice(dropped).select(columns)
                if self._folder is not None and self.column in columns:
                    table = table_with_paths(table, self.column, self._folder)
                yield table
        except Exception as error:  # archives, the network: datasets raises what it likes
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise ValueError(f"{self.name}: its part {part.index} cannot be read ({reason})") from error

    def state(self, part: Part, start: int, count: int) -> str:
        """Digest the size and time of the part's local file; of all local files where a part is not one of them.

        What is far away has a revision in the identity instead.
        """
        one_each = len(self._files) == self._dataset.num_shards
        return digest(map(file_state, self._files[part.index : part.index + 1] if one_each else self._files))

    def row_states(self, part: Part, start: int, count: int) -> list[str]:
        """The state of the part, and each row's place in it. What is far away has a revision."""
        one_each = len(self._files) == self._dataset.num_shards
        name = os.path.basename(self._files[part.index]) if one_each else str(part.index)
        state = f"{name} {self.state(part, start, count)} {self.identity.get('revision', '')}"
        return [f"{state} {row}" for row in range(start, start + count)]

    def ids(self, part: Part, start: int, count: int) -> pa.Array:
        """Name rows PART-ROW: a stream has no global row numbers."""
        return pa.array([f"{part.index}-{row}" for row in range(start, start + count)], pa.string())


def open_collection(name: str, modality: Modality, column: str | None = None, split: str | None = None) -> Collection:
    """Find a collection and open it, reading no more than names, footers and first rows.

    Args:
        name: see `locate`. A data set on the Hub is streamed.
        modality: "text", "image" or "depth": what is embedded.
        column: a column of rows; by default the one named like the modality, or the only one of that kind.
        split: a split on the Hub, by default the only one; or of a folder of parquet files or shards, by default all.

    Raises:
        ValueError: if there is nothing to embed in it, or the column or split is not there or not clear.
    """
    location = locate(name)
    if location.kind == "pictures":
        files = picture_files(location, modality, column, split, may_be_remote=True)
        if location.is_remote:
            return RemotePictures(location.name, files)
        return FolderFiles(location, files, left_out(location, modality))
    if location.kind == "hub":
        dataset, of_hub = _open_on_hub(name, split)
        return Stream(name, dataset, of_hub, modality, column)
    location = location.in_split(split)
    if location.kind == "parquet" and not location.is_remote:
        return ParquetFiles(location, modality, column)
    builder = _builder(name, **location.files_loader)
    if location.is_remote:
        identity: Identity = {"kind": location.kind, "digest": digest(location.files), "revision": builder.hash}
        return Stream(name, _streaming(name, builder)["train"], identity, modality, column)
    identity = {"kind": location.kind, "digest": digest(Path(file).name for file in location.files)}
    folder = os.path.dirname(location.files[0]) if location.is_text else None
    stream = Stream(name, _streaming(name, builder)["train"], identity, modality, column, location.files, folder)
    stream.left_out = left_out(location, modality)
    return stream


def open_pictures(
    model: object, name: str, modality: Modality | None, column: str | None = None, split: str | None = None
) -> tuple[Collection, Modality]:
    """As `open_collection`; without a modality, that of the files, or of the first rows.

    Args:
        model: what embeds them.
        name: see `open_collection`, as for `column` and `split`.
        modality: the one that a person said, if any.

    Raises:
        ValueError: also if some files or rows are images and some depth maps.
    """
    location = locate(name)
    if modality is None and "text" == default_modality(model):
        modality = "text"  # no file is looked at: a folder of pictures is said to be none of texts
    if modality is None and location.kind == "pictures" and not location.is_remote:
        modality = files_modality(model, pictures_of(location))
    if modality is not None:
        return open_collection(name, modality, column, split), modality
    modality = default_modality(model)
    collection = open_collection(name, modality, column, split)
    if "image" in modalities(model):
        table = next(collection.tables(collection.parts(1000)[0], 0, [collection.column]), None)
        cells = [] if table is None else table[collection.column].to_pylist()
        items = [{"bytes": cell} if isinstance(cell, bytes) else cell for cell in cells]
        found = items_modality(model, items, f"{name}: column {collection.column!r}")
        if location.is_remote and location.kind == "pictures" and found != modality:
            collection = open_collection(name, found)  # whose files may have other suffixes
        modality = found
    return collection, modality


def _open_on_hub(name: str, split: str | None) -> tuple[IterableDataset, Identity]:
    builder = _builder(name, name)
    splits = _streaming(name, builder)
    if split is None and len(splits) > 1:
        raise ValueError(f"{name}: has the splits {', '.join(splits)}; choose one with --split")
    split = split or next(iter(splits))
    if split not in splits:
        raise ValueError(f"{name}: no split {split!r}; it has {', '.join(splits)}")
    return splits[split], {"kind": "hub", "name": name, "split": split, "revision": builder.hash}


def _builder(name: str, path: str, data_files: list[str] | None = None) -> DatasetBuilder:
    try:
        return load_dataset_builder(path, data_files=data_files)
    except Exception as error:  # the Hub, the network, the files of the data set
        where = "no such file or folder here, and no data set that loads" if path == name else "cannot be loaded"
        raise ValueError(f"{name}: {where}: {one_line(error)}") from error


def _streaming(name: str, builder: DatasetBuilder) -> dict[str, IterableDataset]:
    try:
        return dict(builder.as_streaming_dataset())
    except Exception as error:  # the network, the files of the data set
        raise ValueError(f"{name}: cannot be read ({one_line(error)})") from error
