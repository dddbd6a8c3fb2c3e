"""A Lance table is searched as the folder of the same rows is, without holding any of it in memory."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_encoders.embed.folder import EMBEDDING, ID
from hf_encoders.search import EmbeddingIndex
from hf_encoders.search.lance_filters import sql_where
from hf_encoders.search.opening import holds_embeddings, open_embeddings
from tests.helpers.embedding_files import run_embed, write_parquet
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.unit_rows import unit_rows

lance = pytest.importorskip("lance")

ROWS = 40
KINDS = ["chair", "it's", "lamp"]
COLUMNS = ("--id-column", "name", "--columns", "kind", "number", "caption")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def place(model, tmp_path_factory, objects_test):
    """The model, and the same rows as a folder and as a table."""
    folder = tmp_path_factory.mktemp("lance-index")
    model.save_pretrained(folder / "model")
    rows = objects_test.select(range(ROWS)).select_columns(["depth", "caption"])
    rows = rows.add_column("name", [f"scene {number}" for number in range(ROWS)])
    rows = rows.add_column("number", [None if number == 7 else number % 10 for number in range(ROWS)])
    rows = rows.add_column("kind", [number % 3 for number in range(ROWS)])
    rows = rows.cast_column("kind", ClassLabel(names=KINDS))
    data = write_parquet(rows, folder / "scenes.parquet")
    for output in ("folder", "table.lance"):
        run_embed(folder / "model", data, folder / output, *COLUMNS)
    return folder


@pytest.fixture(scope="module")
def loaded(place):
    from transformers import AutoModel

    return AutoModel.from_pretrained(place / "model")


@pytest.fixture
def table(place, tmp_path):
    """A copy, to be changed."""
    import shutil

    return shutil.copytree(place / "table.lance", tmp_path / "table.lance")


@pytest.fixture
def in_memory(place, loaded):
    return EmbeddingIndex.from_folder(place / "folder", loaded)


def found(hits):
    return [hit.row["id"] for hit in hits]


def assert_same(hits, expected):
    """The same rows in order, where their scores differ by more than rounding, with the same scores."""
    assert len(hits) == len(expected)
    np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in expected], atol=1e-5)
    assert {hit.row["id"] for hit in hits[:-1]} <= {hit.row["id"] for hit in expected}


WHERES = [
    None,
    {"kind": "lamp"},
    {"kind": ["lamp", "it's"], "number": [1, "2"]},
    {"number": None},
    {"kind": "chair", "number": [None, 3]},
    {"number": []},
    {},
]


@pytest.mark.numeric
@pytest.mark.parametrize("where", WHERES, ids=str)
def test_it_finds_what_the_folder_finds(where, place, loaded, in_memory):
    index = EmbeddingIndex.from_lance(place / "table.lance", loaded)
    queries = ["a red chair", "a lamp"]
    for hits, expected in zip(
        index.search(queries, 9, where=where), in_memory.search(queries, 9, where=where), strict=True
    ):
        assert_same(hits, expected)
    assert_same(index.search(queries[0], 200, where=where), in_memory.search(queries[0], 200, where=where))


@pytest.mark.parametrize(
    ("sql", "mapping"),
    [
        ("kind = 'lamp'", {"kind": "lamp"}),
        ("kind = 'it''s' AND number IN (1, 2)", {"kind": "it's", "number": [1, 2]}),
        ("number IS NULL OR number = 3", {"number": [None, 3]}),
    ],
)
def test_sql_and_a_mapping_say_the_same(sql, mapping, place, loaded):
    index = EmbeddingIndex.from_lance(place / "table.lance", loaded)
    hits = index.search("a chair", ROWS, where=sql)
    assert hits and hits == index.search("a chair", ROWS, where=mapping)
    assert len(index.search("a chair", ROWS, where="caption LIKE '%chair%' AND number > 5")) > 0


def test_a_hit_is_a_row_with_the_names_of_classes(place, loaded, in_memory):
    index = EmbeddingIndex.from_lance(place / "table.lance", loaded)
    hit, expected = index.search("a chair", 1)[0], in_memory.search("a chair", 1)[0]
    assert hit.row == {**expected.row, "kind": KINDS[expected.row["kind"]]}
    assert type(hit).__name__ == "SearchResult" and hit.score == pytest.approx(expected.score, abs=1e-5)
    assert (len(index), index.modality, index.column, index.index_type) == (ROWS, "depth", "depth", "exact")
    assert repr(index).startswith(f"LanceIndex('{place / 'table.lance'}', rows=40, dimensions=8, modality='depth',")


def test_queries_may_be_embeddings_maps_or_none(place, loaded, in_memory):
    index = EmbeddingIndex.from_lance(place / "table.lance")  # without a model
    query = np.asarray(in_memory._vectors._decoded().array()[5])
    assert found(index.search(query, 1)) == found(EmbeddingIndex.from_folder(place / "folder").search(query, 1))
    assert found(index.search(query[None], 1)[0]) == found(index.search(query, 1))
    assert index.search(np.empty((0, 8), np.float32), 1) == []
    with pytest.raises(ValueError, match="queries of 5 dimensions, the index has 8"):
        index.search(np.ones(5), 1)
    with pytest.raises(ValueError, match="no direction"):
        index.search(np.zeros(8), 1)


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ("nope = 3", ValueError, "No field named nope"),
        ("kind ==== 3", ValueError, "where='kind ==== 3'"),
        ({"nope": 3}, ValueError, "no column 'nope'; the rows have id, kind, number, caption"),
        ({"number": "many"}, ValueError, "column 'number' holds int64, not 'many'"),
        ({"input_digest": 3}, ValueError, "no column 'input_digest'"),
        (lambda row: True, TypeError, "SQL, such as .*; got a function"),
        (np.ones(ROWS, bool), TypeError, "got a ndarray"),
        ("", TypeError, "got no text"),
    ],
)
def test_what_says_no_rows_is_refused_before_anything_is_embedded(where, error, says, place, loaded, monkeypatch):
    index = EmbeddingIndex.from_lance(place / "table.lance", loaded)
    monkeypatch.setattr("hf_encoders.search.searching.embed_queries", None)
    with pytest.raises(error, match=says) as caught:
        index.search("a chair", where=where)
    assert "\n" not in str(caught.value) and ".rs:" not in str(caught.value)


def test_sql_is_not_for_an_index_in_memory(in_memory):
    with pytest.raises(TypeError, match="SQL is for Lance tables"):
        in_memory.search("a chair", where="kind = 'lamp'")


def test_values_in_sql():
    kinds = {"a b": pa.string(), "day": pa.date32(), "time": pa.timestamp("us"), "is": pa.bool_(), "x": pa.float64()}
    schema = pa.schema({**kinds, "bytes": pa.binary()})
    day = datetime.datetime(2020, 1, 2, 3, 4)
    expected = {
        "a b": (["it's", None], "(`a b` IN ('it''s') OR `a b` IS NULL)"),
        "day": (day.date(), "(`day` IN (date '2020-01-02'))"),
        "time": (day, "(`time` IN (timestamp '2020-01-02 03:04:00'))"),
        "is": (True, "(`is` IN (true))"),
        "x": ("2.5", "(`x` IN (2.5))"),
    }
    for column, (value, sql) in expected.items():
        assert sql_where({column: value}, schema, schema.names) == sql
    with pytest.raises(ValueError, match="holds values of bytes: say the condition in SQL"):
        sql_where({"bytes": b"1"}, schema, schema.names)


def test_dates_and_times_are_found(table):
    dataset = lance.dataset(str(table))
    dataset.add_columns({"day": "cast('2020-01-02' as date)", "time": "cast('2020-01-02 03:04:00' as timestamp)"})
    index = EmbeddingIndex.from_lance(table)
    for where in ({"day": "2020-01-02"}, {"time": datetime.datetime(2020, 1, 2, 3, 4)}):
        assert len(index.search(np.ones(8), ROWS, where=where)) == ROWS
    assert not index.search(np.ones(8), ROWS, where={"day": "2020-01-03"})


@pytest.mark.numeric
def test_rows_are_added_and_removed(table, loaded):
    index = EmbeddingIndex.from_lance(table, loaded)
    before = found(index.search("a chair", ROWS))
    vector = loaded.encode_text(["a very special lamp"], convert_to="numpy")
    row = {"id": "mine", "kind": "lamp", "number": 3, "caption": "a special one"}
    index.add(vector, [row], loaded)
    hit = index.search("a very special lamp", 1)[0]
    assert hit.row == row and hit.score == pytest.approx(1, abs=1e-5)
    third = index.search("a chair", ROWS + 1)[2]
    assert index.remove([third.index]) == 1 and len(index) == ROWS
    assert index.remove({"kind": "lamp"}) == index.remove("kind = 'lamp'") + sum(
        name == "mine" or (name != third.row["id"] and int(name.split()[1]) % 3 == 2) for name in [*before, "mine"]
    )
    assert index.remove([]) == 0
    again = EmbeddingIndex.from_lance(table, loaded)
    assert found(again.search("a chair", ROWS)) == found(index.search("a chair", ROWS)) != before
    with pytest.raises(ValueError, match="never there, or was removed before"):
        index.remove([third.index])
    with pytest.raises(TypeError, match="whole numbers or a condition"):
        index.remove([0.5])


@pytest.mark.parametrize(
    ("embeddings", "rows", "says"),
    [
        (np.ones((1, 5)), [{"id": "a", "kind": "lamp", "number": 1, "caption": ""}], "5 dimensions, the table has 8"),
        (np.zeros((1, 8)), [{"id": "a", "kind": "lamp", "number": 1, "caption": ""}], "no direction"),
        (np.ones((1, 8)), [{"id": "a"}], "columns caption, kind, number are not in both"),
        (np.ones((2, 8)), [{"id": "a", "kind": "lamp", "number": 1, "caption": ""}], "2 embeddings and 1 rows"),
        (np.ones((1, 8)), [{"id": "a", "kind": "lamp", "number": "x", "caption": ""}], "do not fit"),
    ],
)
def test_rows_that_do_not_fit_are_not_added(embeddings, rows, says, table):
    index = EmbeddingIndex.from_lance(table)
    with pytest.raises(ValueError, match=says):
        index.add(embeddings, rows)
    assert len(EmbeddingIndex.from_lance(table)) == ROWS


def test_rows_of_others_stay_when_the_table_follows_its_data(place, table, loaded):
    index = EmbeddingIndex.from_lance(table)
    rows = Dataset.from_list([{"id": "mine", "kind": "lamp", "number": 3, "caption": "a special one"}])
    index.add(np.ones((1, 8)), rows)
    removed = index.search(np.ones(8), 2)[1].row["id"]
    index.remove(f"id = '{removed}'")
    run_embed(place / "model", place / "scenes.parquet", table, *COLUMNS)
    names = lance.dataset(str(table)).to_table(columns=[ID])[ID].to_pylist()
    assert len(names) == ROWS + 1 and {"mine", removed} <= set(names)


@pytest.fixture
def large(table):
    """A table of 2,000 other rows, enough for Lance's indexes."""
    index = EmbeddingIndex.from_lance(table)
    vectors = unit_rows(2000, 8)
    rows = [{"id": str(number), "kind": KINDS[number % 3], "number": number, "caption": ""} for number in range(2000)]
    index.remove("true")
    index.add(vectors, rows)
    return table, vectors


@pytest.mark.numeric
@pytest.mark.parametrize("kind", ["IVF_PQ", "IVF_HNSW_SQ"])
def test_an_index_is_built_in_one_call(kind, large):
    table, vectors = large
    EmbeddingIndex.from_lance(table).build_index(kind, partitions=4)
    index = EmbeddingIndex.from_lance(table, probes=4, rescore_multiplier=50)
    exact = EmbeddingIndex.from_lance(table, exact=True)
    assert (index.index_type, exact.index_type) == (kind, "exact")
    queries = vectors[:20] + 0.1
    hits, expected = index.search(queries, 10), exact.search(queries, 10)
    shared = [len(set(found(some)) & set(found(others))) for some, others in zip(hits, expected, strict=True)]
    assert np.mean(shared) > 8
    assert hits[0][0].score == pytest.approx(expected[0][0].score, abs=1e-5)  # compared anew, in full precision
    assert {hit.row["kind"] for hit in index.search(queries[0], 10, where={"kind": "lamp"})} == {"lamp"}
    index.add(-vectors[:1], [{"id": "new", "kind": "lamp", "number": 1, "caption": ""}])
    assert found(index.search(-vectors[0], 1)) == ["new"]  # rows that the index does not know are searched too
    with pytest.raises(ValueError, match=f"has an index already, {kind}; pass replace=True"):
        index.build_index(kind)
    index.build_index("IVF_FLAT", replace=True)
    assert index.index_type == "IVF_FLAT"


def test_an_index_that_cannot_be_built_is_refused_in_one_line(place, table):
    index = EmbeddingIndex.from_lance(table)
    with pytest.raises(ValueError, match="index_type is one of IVF_FLAT"):
        index.build_index("HNSW")
    with pytest.raises(ValueError, match="an index needs 256 rows, the table has 40"):
        index.build_index("IVF_PQ")
    assert index.index_type == "exact"
    with pytest.raises(ValueError, match="probes must be at least 1"):
        EmbeddingIndex.from_lance(table, probes=0)


def test_another_model_is_refused(place):
    other = tiny_model()
    other.depth_projection.weight.data += 1
    with pytest.raises(ValueError, match="made by .*; the model given has other weights"):
        EmbeddingIndex.from_lance(place / "table.lance", other)


def test_tables_are_opened_by_their_names(place, loaded, tmp_path):
    assert holds_embeddings(place / "table.lance")
    assert len(open_embeddings(place / "table.lance", loaded)) == ROWS
    with pytest.raises(ValueError, match="no such table; hf-encoders embed --output"):
        holds_embeddings(tmp_path / "none.lance")


@pytest.mark.numeric
def test_rows_as_near_as_each_other_come_in_their_order(table):
    index = EmbeddingIndex.from_lance(table)
    index.remove("true")
    rows = [{"id": str(number), "kind": "lamp", "number": number, "caption": ""} for number in range(30)]
    index.add(np.ones((30, 8)), rows)
    hits = index.search(np.ones(8), 30)
    assert [hit.index for hit in hits] == sorted(hit.index for hit in hits)


def test_features_say_what_a_row_is(place):
    index = EmbeddingIndex.from_lance(place / "table.lance")
    assert index.features == Features(
        {"id": Value("string"), "kind": Value("string"), "number": Value("int64"), "caption": Value("string")}
    )
    assert EMBEDDING not in index.features
