"""Checks of parquet files, by their footers."""

from collections.abc import Iterator, Sequence

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]


def read_footers(files: Sequence[str]) -> Iterator[pq.FileMetaData]:
    """Yield the metadata of each file.

    Raises:
        ValueError: if a file is not a readable parquet file; it is named.
    """
    for file in files:
        try:
            metadata = pq.read_metadata(file)
            metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{file}: not a readable parquet file ({error})") from error
        yield metadata


def may_name_files(footer: pq.FileMetaData, column: str) -> bool:
    """Whether some cells of a column of pictures may hold a path and no bytes, as far as the footer tells."""
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for leaf in map(group.column, range(group.num_columns)):
            if leaf.path_in_schema == column:
                return bool(leaf.physical_type == "BYTE_ARRAY" and str(_logical_type(footer, column)) == "STRING")
            if leaf.path_in_schema == f"{column}.bytes" and not _has_all(leaf):
                return True
    return False


def _has_all(leaf: pq.ColumnChunkMetaData) -> bool:
    """Whether no cell is empty; without statistics nobody knows."""
    statistics = leaf.statistics
    return statistics is not None and statistics.has_null_count and not statistics.null_count


def _logical_type(footer: pq.FileMetaData, column: str) -> object:
    leaves = map(footer.schema.column, range(len(footer.schema)))
    return next((leaf.logical_type.type for leaf in leaves if leaf.path == column), None)
