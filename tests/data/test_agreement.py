"""Columns of several files mean the same, or the files are named."""

import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from hf_encoders.data.agreement import check_files_agree
from hf_encoders.data.collection import open_collection
from hf_encoders.data.source import open_source
from hf_encoders.data.splits import load_joined, load_splits

CHAIR_FIRST, LAMP_FIRST = ClassLabel(names=["chair", "lamp"]), ClassLabel(names=["lamp", "chair"])


@pytest.fixture
def files(tmp_path):
    """Writes two files of one data set, whose columns `label` have these types."""

    def write(one, other, folder="data", split=False):
        paths = []
        for name, feature in (("train" if split else "a", one), ("test" if split else "b", other)):
            values = {"string": ["x", "y"]}.get(getattr(feature, "dtype", ""), [0, 1])
            if isinstance(feature, type(Sequence(Value("int64")))):
                values = [[0], [1]]
            columns = {"caption": ["x", "y"]} | ({} if feature is None else {"label": values})
            types = {"caption": Value("string")} | ({} if feature is None else {"label": feature})
            path = tmp_path / folder / f"{name}.parquet"
            path.parent.mkdir(exist_ok=True)
            Dataset.from_dict(columns, features=Features(types)).to_parquet(path)
            paths.append(str(path))
        return paths

    return write


DIFFERENT = [
    (CHAIR_FIRST, LAMP_FIRST, "numbers its classes lamp, chair, that of .*a.parquet chair, lamp"),
    (CHAIR_FIRST, ClassLabel(names=["chair", "lamp", "bed"]), "numbers its classes chair, lamp, bed"),
    (CHAIR_FIRST, Value("int64"), "holds numbers, that of .*a.parquet classes with names"),
    (Value("int64"), Value("string"), "holds text, that of .*a.parquet numbers"),
    (Value("int64"), Sequence(Value("int64")), "holds lists of numbers, that of .*a.parquet numbers"),
]


@pytest.mark.parametrize(("one", "other", "says"), DIFFERENT)
def test_the_files_and_the_column_are_named(files, one, other, says):
    with pytest.raises(ValueError, match=rf"b.parquet: its column 'label' {says}"):
        check_files_agree(files(one, other))


def test_a_missing_column_is_named_with_its_file(files):
    for pair in ((Value("int64"), None), (None, Value("int64"))):
        missing = "b" if pair[1] is None else "a"
        with pytest.raises(ValueError, match=rf"{missing}.parquet: no column 'label', which .* has"):
            check_files_agree(files(*pair))


@pytest.mark.parametrize("pair", [(CHAIR_FIRST, CHAIR_FIRST), (Value("int32"), Value("int64"))])
def test_types_that_mean_the_same_pass(files, pair):
    check_files_agree(files(*pair))


def test_every_way_to_read_files_checks_them(files, tmp_path):
    one, other = files(CHAIR_FIRST, LAMP_FIRST)
    folder = str(tmp_path / "data")
    ways = {
        "embed": lambda: open_collection(folder, "text", "caption"),
        "search": lambda: open_source(folder, "text", "caption"),
        "train": lambda: load_splits(folder, "train"),
    }
    for read in ways.values():
        with pytest.raises(ValueError, match=r"b.parquet: its column 'label' numbers its classes lamp, chair"):
            read()
    assert len(load_joined([one, other], "train", ["caption"])) == 4


def test_splits_are_checked_against_each_other(files, tmp_path):
    files(CHAIR_FIRST, LAMP_FIRST, "rooms", split=True)
    with pytest.raises(ValueError, match="its column 'label' numbers its classes"):
        load_splits(str(tmp_path / "rooms"), "train")
