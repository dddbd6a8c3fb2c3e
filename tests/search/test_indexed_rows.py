"""An index grows and shrinks with its rows, keeps their positions, and finds only what may be found."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from hf_encoders.search import EmbeddingIndex
from tests.helpers.colour_model import COLOURS, ColourModel
from tests.helpers.unit_rows import unit_rows

pytestmark = pytest.mark.numeric
ROWS = unit_rows(60, 8)
KINDS = [
    {},
    {"precision": "float16"},
    {"precision": "int8"},
    {"precision": "binary", "rescore_multiplier": 60},
    {"index_type": "hnsw"},
    {"index_type": "ivf", "precision": "int8"},
]


def named(numbers):
    return [{"name": f"r{number}", "even": number % 2 == 0} for number in numbers]


def found(index, number, **options):
    """The position and name of what is nearest to a row."""
    hits = index.search(ROWS[number], k=1, **options)
    return [(hit.index, hit.row.get("name")) for hit in hits]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows_keep_their_positions_while_others_come_and_go(kind, tmp_path):
    index = EmbeddingIndex(ROWS[:40], named(range(40)), **kind)
    index.add(torch.tensor(ROWS[40:50]) * 3, named(range(40, 50)))
    assert found(index, 45) == [(45, "r45")]
    assert index.remove([3, 45, 3]) == 2
    assert (len(index), index.removed, index.rows["name"][3]) == (48, [3, 45], "r4")
    assert found(index, 46) == [(46, "r46")] and found(index, 45) != [(45, "r45")]
    index.save(tmp_path / "index")
    for one in (index, EmbeddingIndex.load(tmp_path / "index")):
        assert (len(one), one.removed, len(one.rows)) == (48, [3, 45], 48)
        assert found(one, 46) == [(46, "r46")] and found(one, 4) == [(4, "r4")]
        with pytest.raises(ValueError, match="no row has the index 45: .* was removed before"):
            one.remove([4, 45])
        assert found(one, 4) == [(4, "r4")]
        one.add(ROWS[50:], Dataset.from_list(named(range(50, 60))))  # positions are not given again
        assert found(one, 55) == [(55, "r55")]
        assert one.remove({"even": True}) == 30
        assert found(one, 55) == [(55, "r55")] and found(one, 54) != [(54, "r54")]
        assert one.remove(lambda row: row["name"] != "r7") == 27
        assert [(hit.index, hit.row["name"]) for hit in one.search(ROWS[9], k=5)] == [(7, "r7")]
        assert one.remove([True]) == 1
        assert one.search(ROWS[9]) == [] and one.search(ROWS[:2]) == [[], []]
        one.add(ROWS[:1], named([0]))
        assert found(one, 0) == [(60, "r0")]


def test_an_index_of_which_all_is_removed_is_saved(tmp_path):
    index = EmbeddingIndex(ROWS, named(range(60)))
    index.remove(np.ones(60, bool))
    index.save(tmp_path / "index")
    loaded = EmbeddingIndex.load(tmp_path / "index")
    assert len(loaded) == 0 and loaded.search(ROWS[0]) == []
    loaded.add(ROWS[:3], named(range(3)))
    assert found(loaded, 2) == [(62, "r2")]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_only_what_may_be_found_is_found(kind):
    index = EmbeddingIndex(ROWS, named(range(60)), **kind)
    hits = index.search(ROWS[:3], k=100, where={"even": True})
    assert [sorted(hit.index for hit in some) for some in hits] == [list(range(0, 60, 2))] * 3
    assert found(index, 5, where=lambda row: row["name"] != "r5") != [(5, "r5")]
    assert found(index, 5, where=np.arange(60) == 7) == [(7, "r7")]
    assert index.search(ROWS[0], where={"name": "none"}) == []
    assert found(index, 5, where=None) == [(5, "r5")]
    index.remove([7])
    assert index.search(ROWS[5], where={"name": "r7"}) == []
    assert found(index, 5, where={"name": ["r7", "r9"]}) == [(9, "r9")]
    with pytest.raises(ValueError, match="60 booleans, and the index has 59 rows"):
        index.search(ROWS[0], where=np.arange(60) == 7)


def test_an_index_without_rows_grows_too():
    index = EmbeddingIndex(ROWS[:5])
    index.add(ROWS[5:6])
    assert found(index, 5) == [(5, None)]
    assert index.remove([5]) == 1 and len(index) == 5
    with pytest.raises(ValueError, match="the index has no rows"):
        index.add(ROWS[:1], named([0]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((np.ones((2, 7)), named(range(2))), "embeddings of 7 dimensions, the index has 8"),
        ((np.zeros((2, 8)), named(range(2))), "embedding 0 has no direction"),
        ((ROWS[0], named(range(1))), r"embeddings of shape \[8\], expected \[N, D\]"),
        ((ROWS[:2], named(range(3))), "2 embeddings and 3 rows"),
        ((ROWS[:2],), "the index has rows: give those of the embeddings"),
        ((ROWS[:1], [{"name": "a"}]), "the rows do not fit those of the index: columns even are not in both"),
        ((ROWS[:1], [{"name": "a", "even": "x"}]), "the rows do not fit those of the index"),
        ((ROWS[:1], named([0]), ColourModel()), "this index: made from embeddings without a model"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_the_index_as_it_was(arguments, says):
    index = EmbeddingIndex(ROWS[:5], named(range(5)))
    with pytest.raises(ValueError, match=says) as caught:
        index.add(*arguments)
    assert "\n" not in str(caught.value)
    assert len(index) == len(index.rows) == 5 and found(index, 4) == [(4, "r4")]


def test_truncated_embeddings_are_added_whole_or_cut():
    index = EmbeddingIndex(ROWS[:5], truncate_dim=4)
    index.add(ROWS[5:6])
    index.add(ROWS[6:7, :4])
    assert found(index, 5) == [(5, None)] and found(index, 6) == [(6, None)]
    with pytest.raises(ValueError, match="embeddings of 5 dimensions, the index has 4"):
        index.add(ROWS[:1, :5])


def colours(*names):
    return Dataset.from_dict({"text": list(names)})


def test_another_data_set_is_embedded_by_the_same_model_alone(tmp_path):
    model = ColourModel()
    index = EmbeddingIndex.from_dataset(model, colours("red", "green"), "text", "text", batch_size=1)
    index.remove([0])
    index.add_dataset(colours("blue", "red"), batch_size=2)
    assert [(hit.index, hit.row["text"]) for hit in index.search("blue", k=1)] == [(2, "blue")]
    index.save(tmp_path / "index")
    loaded = EmbeddingIndex.load(tmp_path / "index", model)
    loaded.add_dataset(colours("green"))
    assert [hit.index for hit in loaded.search("green", k=2)] == [1, 4]
    index.add(model.encode_text(["green"], convert_to="numpy"), [{"text": "green"}], model)
    other = ColourModel()
    torch.nn.init.constant_(other.scale, 1.5)
    for refused in (
        lambda: index.add(other.encode_text(["green"], convert_to="numpy"), [{"text": "green"}], other),
        lambda: (torch.nn.init.constant_(model.scale, 1.5), index.add_dataset(colours("green"))),
    ):
        with pytest.raises(ValueError, match="this index: made by .*; the model given has other weights"):
            refused()
    assert len(index) == 4


def test_rows_are_embedded_with_the_options_of_the_others(tiny_multimodal):
    index = EmbeddingIndex.from_dataset(tiny_multimodal, colours("a lamp"), "text", "text", dtype="bfloat16")
    with pytest.raises(ValueError, match="the index was made with dtype=bfloat16, not with no options"):
        index.add_dataset(colours("a chair"))
    with pytest.raises(ValueError, match="no column 'text'; the data set has words"):
        index.add_dataset(Dataset.from_dict({"words": ["a chair"]}), dtype="bfloat16")
    with pytest.raises(ValueError, match="truncate_dim=3, and the index has"):
        index.add_dataset(colours("a chair"), dtype="bfloat16", truncate_dim=3)
    with pytest.raises(TypeError, match="a list, expected a datasets.Dataset"):
        index.add_dataset(["a chair"], dtype="bfloat16")
    index.add_dataset(colours("a chair"), dtype="bfloat16")
    assert len(index) == 2
    with pytest.raises(ValueError, match="only an index of from_dataset, with its model, embeds rows"):
        EmbeddingIndex(ROWS, model=tiny_multimodal).add_dataset(colours("a chair"))


def test_rows_that_are_left_out_count_in_the_positions(tmp_path):
    paths = []
    for name, colour in COLOURS.items():
        paths.append(str(tmp_path / f"{name}.png"))
        picture(colour).save(paths[-1])
    (tmp_path / "broken.png").write_bytes(b"no image")
    files = Dataset.from_dict({"file": [str(tmp_path / "broken.png"), *paths]})
    index = EmbeddingIndex.from_dataset(ColourModel(), files, "file", on_error="skip")
    index.add_dataset(files.select([1, 0, 3]), on_error="skip")
    assert index.skipped == [0, 5]
    assert [hit.index for hit in index.search("blue", k=2)] == [3, 6]
    with pytest.raises(ValueError, match="no row has the index 5"):
        index.remove([5])


def picture(colour):
    import PIL.Image

    return PIL.Image.new("RGB", (8, 6), tuple(255 * value for value in colour))


@pytest.mark.parametrize("precision", ["float32", "int8", "binary"])
def test_an_index_of_the_first_format_is_read(precision, tmp_path, monkeypatch):
    """It knew no removed rows, and kept fewer bits in safetensors, which are searched without FAISS."""
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    EmbeddingIndex(ROWS, named(range(60)), precision=precision).save(tmp_path / "index")
    monkeypatch.undo()
    path = tmp_path / "index" / "embedding_index.json"
    manifest = json.loads(path.read_text())
    for key in ("removed", "trained_rows"):
        del manifest[key]
    manifest |= {"format": 1, "rescore_multiplier": None if precision == "float32" else 4}
    path.write_text(json.dumps(manifest))
    index = EmbeddingIndex.load(tmp_path / "index")
    assert found(index, 9) == [(9, "r9")] and index.removed == []
    index.remove([9])
    index.save(tmp_path / "again")
    again = EmbeddingIndex.load(tmp_path / "again")
    assert (again.precision, again.removed, found(again, 10)) == (precision, [9], [(10, "r10")])
