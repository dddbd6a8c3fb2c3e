"""Which rows a condition, a function, a mask or positions mean."""

import numpy as np
import PIL.Image
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from hf_encoders.search.filters import rows_meant, rows_where

KINDS = {
    "label": ClassLabel(names=["bed", "chair", "lamp"]),
    "size": Value("float32"),
    "name": Value("string"),
    "count": Value("int64"),
    "new": Value("bool"),
    "tags": List(Value("int64")),
    "photo": Image(),
}


@pytest.fixture
def rows():
    columns = {
        "label": [0, 1, 1, 2],
        "size": [1.5, 2, 0.1, None],
        "name": ["a", "b", None, "c"],
        "count": [1, 2, 3, 4],
        "new": [True, False, True, False],
        "tags": [[1], [2], [3], [4]],
        "photo": [{"bytes": b"broken", "path": None}, PIL.Image.new("RGB", (2, 2)), None, None],
    }
    return Dataset.from_dict(columns, features=Features(KINDS))


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"label": "chair"}, [1, 2]),
        ({"label": 1}, [1, 2]),
        ({"label": ["bed", 2]}, [0, 3]),
        ({"label": {"bed"}}, [0]),
        ({"size": 2}, [1]),
        ({"size": 0.1}, [2]),
        ({"size": "1.5"}, [0]),
        ({"size": None}, [3]),
        ({"name": None}, [2]),
        ({"name": ("a", "c", "x")}, [0, 3]),
        ({"count": "2"}, [1]),
        ({"count": ["2", 3]}, [1, 2]),
        ({"count": np.int64(2)}, [1]),
        ({"count": np.array([2, 4])}, [1, 3]),
        ({"count": 2.0}, [1]),
        ({"new": True}, [0, 2]),
        ({"new": "false"}, [1, 3]),
        ({"count": []}, []),
        ({"label": "chair", "new": True}, [2]),
        ({}, [0, 1, 2, 3]),
        (lambda row: row["count"] > 2, [2, 3]),
        (lambda row: row["photo"] is not None, [0, 1]),
        ([True, False, False, True], [0, 3]),
        (np.array([False, True, False, False]), [1]),
    ],
)
def test_rows_are_chosen(where, expected, rows):
    assert np.flatnonzero(rows_where(where, rows, 4)).tolist() == expected
    assert np.flatnonzero(rows_meant(where, rows, np.arange(4))).tolist() == expected
    if isinstance(where, dict) or callable(where):
        order = [3, 0, 2]
        found = np.array(order)[rows_where(where, rows.select(order), 3)]
        assert sorted(found.tolist()) == [number for number in expected if number != 1]


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ({"count": 2.5}, ValueError, "column 'count' holds int64, not 2.5"),
        ({"count": "x"}, ValueError, "column 'count' holds int64, not 'x'"),
        ({"count": 10**30}, ValueError, "column 'count' holds int64, not 10"),
        ({"count": True}, ValueError, "column 'count' holds int64, not True"),
        ({"name": 3}, ValueError, "column 'name' holds string, not 3"),
        ({"label": "sofa"}, ValueError, "column 'label' has no class 'sofa'; it has bed, chair, lamp"),
        ({"tags": 1}, ValueError, "column 'tags' holds list.*give a function of the row"),
        ({"photo": 1}, ValueError, "column 'photo' holds struct.*give a function of the row"),
        ({"colour": "red"}, ValueError, "no column 'colour'; the rows have label, size, name, count, new, tags, photo"),
        ([True, False], ValueError, "2 booleans, and the index has 4 rows"),
        ([1, 0, 1, 0], TypeError, "a mapping, a function or booleans say which rows, got int64"),
        ("label=chair", TypeError, "a mapping, a function or booleans say which rows"),
        ([[True]], TypeError, "booleans say which rows"),
    ],
)
def test_what_says_no_rows_is_refused_in_one_line(where, error, says, rows):
    with pytest.raises(error, match=says) as caught:
        rows_where(where, rows, 4)
    assert "\n" not in str(caught.value)


def test_an_index_without_rows_has_no_columns():
    for where in ({"label": 1}, lambda row: True):
        with pytest.raises(ValueError, match="no rows to look at: say which by a mask or by positions"):
            rows_where(where, None, 2)
    assert rows_where([True, False], None, 2).tolist() == [True, False]


def test_positions_are_those_of_the_rows_that_are_there():
    positions = np.array([0, 2, 5])
    assert rows_meant([5, 0, 5], None, positions).tolist() == [True, False, True]
    assert not rows_meant([], None, positions).any()
    for missing in (1, 9, -1):
        with pytest.raises(ValueError, match=f"no row has the index {missing}: it was never there"):
            rows_meant([0, missing], None, positions)
    for wrong in ([0.0], "02", [[0]], 5):
        with pytest.raises(TypeError, match="positions are a list of whole numbers"):
            rows_meant(wrong, None, positions)
