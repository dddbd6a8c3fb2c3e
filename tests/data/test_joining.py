"""Data sets as one: the same classes by name, and columns that do not fit together."""

import pytest
from datasets import ClassLabel, Dataset, Features, IterableDataset, Value

from hf_encoders.data.joining import join
from hf_encoders.data.splits import load_joined

FIRST, OTHER = ["bath", "lamp", "office"], ["lamp", "vehicle", "bath"]


def rows_of(names, numbers, **columns):
    features = Features({"caption": Value("string"), "label": ClassLabel(names=names)})
    captions = [f"{names[0]} {number}" for number in range(len(numbers))]
    return Dataset.from_dict({"caption": captions, "label": numbers}, features=features)


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_class_has_the_number_of_its_name(is_stream):
    parts = [rows_of(FIRST, [0, 1, 2, -1, None]), rows_of(OTHER, [0, 1, 2, -1, None])]
    kind = IterableDataset if is_stream else Dataset
    if is_stream:
        parts = [part.to_iterable_dataset() for part in parts]
    joined = join(["one", "two"], parts, ["caption", "label"])
    assert isinstance(joined, kind) and list(joined.features) == ["caption", "label"]
    names = joined.features["label"].names
    assert names == ["bath", "lamp", "office", "vehicle"]
    numbers = [row["label"] for row in joined]
    named = [names[number] if number not in (None, -1) else number for number in numbers]
    assert named == ["bath", "lamp", "office", -1, None, "lamp", "vehicle", "bath", -1, None]


def test_classes_of_equal_numbers_stay_as_they_are():
    parts = [rows_of(FIRST, [0, 1]), rows_of(FIRST, [2, 0])]
    assert join(["one", "two"], parts, ["label"])["label"] == [0, 1, 2, 0]


@pytest.mark.parametrize("lacking", [0, 1])
def test_columns_that_differ_are_refused_with_both_lists(lacking):
    parts = [rows_of(FIRST, [0]), rows_of(FIRST, [0])]
    parts[lacking] = parts[lacking].remove_columns("label").add_column("noun", ["bath"])
    one, other = ("one", "two") if lacking == 0 else ("two", "one")
    with pytest.raises(ValueError) as caught:
        join(["one", "two"], parts, ["caption", "label"])
    assert str(caught.value) == (
        f"{one}: no column 'label', which {other} has, so they cannot be read together; {one} has caption (text), noun"
        f" (text); {other} has caption (text), label (classes with names)"
    )


def test_columns_of_other_kinds_are_refused():
    numbers = rows_of(FIRST, [0]).cast_column("label", Value("string"))
    with pytest.raises(ValueError, match="two: its column 'label' holds text, that of one classes with names"):
        join(["one", "two"], [rows_of(FIRST, [0]), numbers], ["label"])


def test_a_data_set_that_is_named_twice_is_read_twice(tmp_path):
    file = str(tmp_path / "rows.parquet")
    rows_of(FIRST, [0, 1]).to_parquet(file)
    assert load_joined([file, file], "train", ["label"])["label"] == [0, 1, 0, 1]
