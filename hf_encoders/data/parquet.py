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
