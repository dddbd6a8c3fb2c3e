"""Searches a Lance table on a disk or in an object store, beyond memory: `LanceIndex`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from datasets import Dataset, Features

from ..arrays import Numbers, Vectors, as_vectors, unit_rows
from ..embed.folder import EMBEDDING, ID
from ..embed.lance_table import INPUT, explained, read_table, reason_of
from ..maker import maker
from ..modalities import Encoder, Modality, tower_of
from .filters import Where
from .lance_filters import sql_where
from .queries import SearchResult
from .saved_index import check_maker
from .searching import Searchable

LanceIndexType = Literal["IVF_FLAT", "IVF_SQ", "IVF_PQ", "IVF_HNSW_FLAT", "IVF_HNSW_SQ", "IVF_HNSW_PQ"]
# What Lance trains a product quantiser on, at least.
_LEAST_ROWS = 256
_SCORE, _ROW, _QUERY = "_distance", "_rowid", "query_index"
# Dimensions that one code of a product quantiser stands for: the usual choice, where it divides them.
_DIMENSIONS_PER_CODE = (8, 4, 16, 2, 1)


class LanceIndex(Searchable[str | None]):
    """A table of embeddings that `hf-encoders embed --output x.lance` wrote; see `EmbeddingIndex.from_lance`.

    ```python
    index = EmbeddingIndex.from_lance("maps.lance", model)
    index.search("a red lamp", k=5, where="label = 'lamp'")  # SQL, or {"label": "lamp"}
    index.build_index("IVF_PQ")                              # once; then searches are approximate, and faster
    ```

    Results are those of `EmbeddingIndex`: rows without their embeddings, and the cosine as score. `SearchResult.index`
    is Lance's number of the row, which it keeps when others are removed. Without an index of Lance's a search reads all
    embeddings. It sees the table as it was when it was opened, and what this object changed.

    Args:
        uri: a path that ends in .lance, or the URI of an object store, whose keys Lance takes from the environment.
        model: the model that made it. Without it, queries are embeddings.
        exact: read all embeddings, also where the table has an index.
        rescore_multiplier: through an index, so many candidates per row to find are compared anew, in full precision.
        probes: how many cells of an index are searched; by default Lance's choice.

    Attributes:
        model: the model, or None.
        modality: the modality that was embedded.
        column: the column that was embedded.
        features: the columns of a row.
        skipped: empty; rows that could not be embedded are not in the table.

    Raises:
        ValueError: if another model or revision made the table, it is not finished, something else wrote it, or Lance
            is not installed.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        model: Encoder | None = None,
        *,
        exact: bool = False,
        rescore_multiplier: int = 10,
        probes: int | None = None,
    ):
        for name, value in (("rescore_multiplier", rescore_multiplier), ("probes", probes)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._uri, self.model = str(uri), model
        self._table, manifest = read_table(uri)
        self._made_by = manifest["model"]
        if model is not None:
            check_maker(self._uri, self._made_by, maker(model))
        self.modality: Modality = manifest["modality"]
        self.column = manifest["column"]
        self.skipped = []
        self._exact, self._rescore, self._probes = exact, rescore_multiplier, probes
        truncated = model is not None and manifest["options"].get("truncate_dim") is not None
        self._dimensions = tower_of(model, self.modality).dimensions if truncated else self._width
        self._columns = [name for name in self._table.schema.names if name not in (INPUT, EMBEDDING)]
        features = Features.from_arrow_schema(self._table.schema)
        self.features = Features({name: features[name] for name in self._columns})

    def __len__(self) -> int:
        count: int = self._table.count_rows()
        return count

    def __repr__(self) -> str:
        made_by = self._made_by.get("name_or_path") or "a model from no repo"
        return (
            f"LanceIndex({self._uri!r}, rows={len(self)}, dimensions={self._width}, modality={self.modality!r},"
            f" index_type={self.index_type!r}, model={made_by!r})"
        )

    @property
    def index_type(self) -> str:
        """How it searches: "exact", or by the kind of Lance's index that the table has."""
        kinds = [] if self._exact else self._indices()
        return kinds[0] if kinds else "exact"

    def build_index(
        self, index_type: LanceIndexType = "IVF_PQ", *, partitions: int | None = None, replace: bool = False
    ) -> None:
        """Build one of Lance's indexes into the table; from then on searches go through it, and may miss some rows.

        Rows that are added later are searched without it. Build it again once they are many.

        Args:
            index_type: "IVF_PQ" is the smallest, "IVF_HNSW_SQ" finds more.
            partitions: cells; by default the square root of the number of rows.
            replace: replace an index that is there.

        Raises:
            ValueError: for another kind, fewer than 256 rows, an index that is there already, or what Lance refuses.
            OSError: if the table cannot be written.
        """
        if index_type not in get_args(LanceIndexType):
            raise ValueError(f"index_type is one of {', '.join(get_args(LanceIndexType))}, got {index_type!r}")
        if (there := self._indices()) and not replace:
            raise ValueError(f"{self._uri}: has an index already, {there[0]}; pass replace=True")
        if len(self) < _LEAST_ROWS:  # Lance would write an index of nothing
            raise ValueError(f"{self._uri}: an index needs {_LEAST_ROWS} rows, the table has {len(self)}")
        options: dict[str, Any] = {"num_partitions": partitions or max(1, round(len(self) ** 0.5))}
        if index_type.endswith("PQ"):
            size = next(size for size in _DIMENSIONS_PER_CODE if self._width % size == 0)
            options["num_sub_vectors"] = self._width // size
        try:
            made = self._table.create_index(EMBEDDING, index_type, metric="cosine", replace=True, **options)
        except ValueError as error:
            raise ValueError(f"{self._uri}: no {index_type} ({reason_of(error)})") from error
        except OSError as error:
            raise OSError(f"{self._uri}: {reason_of(error)}") from error
        self._table = made or self._table

    def add(
        self,
        embeddings: Numbers,
        rows: Dataset | Sequence[Mapping[str, Any]],
        model: Encoder | None = None,
    ) -> None:
        """Add rows that are embedded already. `hf-encoders embed` of the same table leaves them alone.

        Args:
            embeddings: [M, D] numbers (array or tensor).
            rows: M rows with the columns of the others, an `id` among them.
            model: the model that made the embeddings, if it is to be checked that it made the table.

        Raises:
            ValueError: for embeddings of another width or without a direction, another number of rows, other columns or
                values that they cannot hold, or another model.
            OSError: if the table cannot be written.
        """
        if model is not None:
            check_maker(self._uri, self._made_by, maker(model))
        vectors = as_vectors(embeddings)
        unit_rows(vectors)  # each must have a direction
        if vectors.shape[1] != self._width:
            raise ValueError(f"embeddings of {vectors.shape[1]} dimensions, the table has {self._width}")
        given = rows.with_format(None)[:] if isinstance(rows, Dataset) else _columns_of(rows)
        if set(given) != set(self._columns):
            other = ", ".join(sorted(set(given) ^ set(self._columns)))
            raise ValueError(f"the rows do not fit those of the table: columns {other} are not in both")
        if len(rows) != len(vectors):
            raise ValueError(f"{len(vectors)} embeddings and {len(rows)} rows")
        schema = self._table.schema
        kind = schema.field(EMBEDDING).type
        flat = pa.array(vectors.reshape(-1).astype(kind.value_type.to_pandas_dtype()))
        own = {EMBEDDING: pa.FixedSizeListArray.from_arrays(flat, self._width), INPUT: pa.nulls(len(rows), pa.int64())}
        try:
            arrays = [
                own[field.name] if field.name in own else pa.array(given[field.name], field.type) for field in schema
            ]
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise ValueError(f"the rows do not fit those of the table: {reason_of(error)}") from error
        with explained(self._uri):
            self._table.insert(pa.Table.from_arrays(arrays, schema=schema))

    def remove(self, which: Sequence[int] | Mapping[str, object] | str) -> int:
        """Remove rows from the table. Those of a data set come back when `hf-encoders embed` follows it.

        Args:
            which: numbers as `SearchResult.index` has them, or what `search` takes as `where`.

        Returns:
            How many were removed.

        Raises:
            TypeError: for something else.
            ValueError: for columns or values that rows cannot have, or numbers of no row; then none is removed.
            OSError: if the table cannot be written.
        """
        if isinstance(which, (str, Mapping)):
            condition = self._checked(which) or "true"
        else:
            numbers = np.unique(np.asarray(which, np.int64 if not len(which) else None))
            if numbers.dtype.kind not in "iu":
                raise TypeError(f"rows to remove are whole numbers or a condition, got {numbers.dtype}")
            if not len(numbers):
                return 0
            condition = f"{_ROW} IN ({', '.join(map(str, numbers.tolist()))})"
            if self._table.count_rows(condition) != len(numbers):
                raise ValueError("some of these numbers are those of no row: it was never there, or was removed before")
        with explained(self._uri):
            count: int = self._table.count_rows(condition)
            if count:
                self._table.delete(condition)
        return count

    @property
    def _width(self) -> int:
        width: int = self._table.schema.field(EMBEDDING).type.list_size
        return width

    def _indices(self) -> list[str]:
        return [str(one.index_type) for one in self._table.describe_indices() if EMBEDDING in one.field_names]

    def _checked(self, where: Where | None) -> str | None:
        condition = sql_where(where, self._table.schema, self._columns)
        if condition is not None:
            try:
                self._table.scanner(columns=[ID], filter=condition).explain_plan()
            except (ValueError, OSError) as error:
                raise ValueError(f"where={where!r}: {reason_of(error)}") from error
        return condition

    def _found(self, embeddings: Vectors, k: int, where: str | None) -> list[list[SearchResult]]:
        is_exact = self.index_type == "exact"
        nearest: dict[str, Any] = {"column": EMBEDDING, "q": embeddings, "k": k, "metric": "cosine"}
        if is_exact:
            nearest["use_index"] = False
        else:
            nearest["refine_factor"] = self._rescore
            if self._probes is not None:
                nearest["nprobes"] = self._probes
        columns = [*self._columns, _SCORE]
        with explained(self._uri):
            found = self._table.scanner(
                columns=columns, filter=where, prefilter=True, nearest=nearest, with_row_id=True
            )
            rows = found.to_table().to_pylist()
        results: list[list[SearchResult]] = [[] for _ in embeddings]
        for row in rows:
            query, number = row.pop(_QUERY, 0), row.pop(_ROW)
            score = min(max(1 - row.pop(_SCORE), -1.0), 1.0)
            results[query].append(SearchResult(number, score, row))
        # Rows as near as each other come in the order of their numbers.
        return [sorted(hits, key=lambda hit: (-hit.score, hit.index)) for hits in results]


def _columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
