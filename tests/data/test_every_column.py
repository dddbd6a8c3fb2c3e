"""Search, embedding, evaluation and both trainings read the same pictures from columns of every kind, in every file."""

import io
import json
import tarfile
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from accelerate import PartialState
from datasets import Array2D, Array3D, Dataset, Features, Image, List, Value

from hf_encoders.data.collection import open_collection
from hf_encoders.data.source import open_source
from hf_encoders.data.splits import load_splits
from hf_encoders.embed.rows import RowEmbedder
from hf_encoders.evaluation.embedded_columns import embed_columns
from hf_encoders.search import EmbeddingIndex
from hf_encoders.training.depth.arguments import DepthDataArguments
from hf_encoders.training.depth.maps import open_maps
from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.rows import load_rows
from hf_encoders.training.multimodal.samples import BadSample, Collate, ModelInputs, SampleMaker
from tests.helpers.multimodal_models import tiny_model

RANDOM = np.random.RandomState(0)
PICTURES = {
    "image": [RANDOM.randint(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(3)],
    # Beyond 8 bits, and for uint16 beyond int16: a detour over other types would show.
    "depth": [RANDOM.randint(1, 60000, (20, 24)).astype(np.uint16) for _ in range(3)],
}
CAPTIONS = ["a red chair", "the table", "a lamp"]
RECORD = pa.struct({"bytes": pa.binary(), "path": pa.string()})
COLUMNS = [
    "binary", "large_binary", "string", "large_string", "records of bytes", "records of paths",
    "Image of bytes", "Image of paths", "lists", "Array",
]  # fmt: skip
FILES = ["parquet", "csv", "jsonl", "tar png", "imagefolder with metadata.csv"]
OF_DEPTH = ["tar npy", "tar tiff", "tar pfm", "paths of .npy", "paths of .pfm", "a folder of .npy", "a list in .txt"]


def encoded(array, kind="PNG"):
    content = io.BytesIO()
    PIL.Image.fromarray(array).save(content, kind)
    return content.getvalue()


def npy(array):
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def pfm(array):
    return b"Pf\n%d %d\n-1.0\n" % array.shape[::-1] + array[::-1].astype("<f4").tobytes()


def written(folder, modality, suffix="png"):
    """Files of the pictures; their names."""
    writers = {"png": encoded, "npy": npy, "pfm": pfm}
    (folder / "files").mkdir()
    for number, array in enumerate(PICTURES[modality]):
        (folder / "files" / f"{number}.{suffix}").write_bytes(writers[suffix](array))
    return [f"files/{number}.{suffix}" for number in range(len(PICTURES[modality]))]


def parquet(folder, modality, values, kind, features=None):
    table = pa.table({"caption": CAPTIONS, modality: pa.array(values, kind)})
    if features is not None:
        table = table.cast(Features({"caption": Value("string"), modality: features}).arrow_schema)
    pq.write_table(table, folder / "rows.parquet")
    return "rows.parquet", modality


def tar(folder, modality, suffix, contents):
    with tarfile.open(folder / "rows.tar", "w") as file:
        for number, (caption, content) in enumerate(zip(CAPTIONS, contents, strict=True)):
            for name, part in {f"{modality}.{suffix}": content, "caption.txt": caption.encode()}.items():
                entry = tarfile.TarInfo(f"{number}.{name}")
                entry.size = len(part)
                file.addfile(entry, io.BytesIO(part))
    return "rows.tar", f"{modality}.{suffix}"


def column_of(folder, modality, kind):
    """A parquet file with a column of a kind, and its name."""
    arrays = PICTURES[modality]
    contents = list(map(encoded, arrays))
    if kind in ("binary", "large_binary"):
        return parquet(folder, modality, contents, getattr(pa, kind)())
    if kind in ("string", "large_string"):
        return parquet(folder, modality, written(folder, modality), getattr(pa, kind)())
    if "bytes" in kind or "paths" in kind:
        records = [{"bytes": content, "path": None} for content in contents]
        if "paths" in kind:
            records = [{"bytes": None, "path": path} for path in written(folder, modality)]
        return parquet(folder, modality, records, RECORD, Image() if kind.startswith("Image") else None)
    number = Value(str(arrays[0].dtype))
    array = Array3D if modality == "image" else Array2D
    lists = List(List(List(number))) if modality == "image" else List(List(number))
    features = Features(
        {
            "caption": Value("string"),
            modality: lists if kind == "lists" else array(arrays[0].shape, number.dtype),
        }
    )
    Dataset.from_dict({"caption": CAPTIONS, modality: arrays}, features).to_parquet(folder / "rows.parquet")
    return "rows.parquet", modality


def file_of(folder, modality, kind):
    """A data set in a file of a kind, and the name of its column."""
    arrays = PICTURES[modality]
    if kind == "parquet":
        return column_of(folder, modality, "Image of bytes")
    if kind.startswith("tar"):
        suffix = kind.split()[1]
        writer = {"png": encoded, "npy": npy, "pfm": pfm, "tiff": lambda array: encoded(array, "TIFF")}[suffix]
        return tar(folder, modality, suffix, map(writer, arrays))
    suffix = kind.split(".")[-1] if kind.endswith((".npy", ".pfm")) else "png"
    paths = written(folder, modality, suffix)
    if kind.startswith("paths"):
        return parquet(folder, modality, paths, pa.string())
    if kind.startswith("a folder"):
        return "files", "depth"
    if kind == "a list in .txt":
        (folder / "rows.txt").write_text("\n".join(paths))
        return "rows.txt", "text"
    if kind.startswith("imagefolder"):
        lines = [f"{path.removeprefix('files/')},{caption}" for path, caption in zip(paths, CAPTIONS, strict=True)]
        (folder / "files" / "metadata.csv").write_text("\n".join(["file_name,caption", *lines]))
        return "files", "image"
    rows = [{"caption": caption, modality: path} for caption, path in zip(CAPTIONS, paths, strict=True)]
    if kind == "jsonl":
        (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
        return "rows.jsonl", modality
    lines = [f"caption,{modality}", *(f"{row['caption']},{row[modality]}" for row in rows)]
    (folder / "rows.csv").write_text("\n".join(lines))
    return "rows.csv", modality


CASES = [
    *((column_of, modality, kind) for modality in PICTURES for kind in COLUMNS),
    *((file_of, modality, kind) for modality in PICTURES for kind in FILES),
    *((file_of, "depth", kind) for kind in OF_DEPTH),
]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def cases(is_wanted):
    chosen = [case for case in CASES if is_wanted(*case[1:])]
    ids = [f"{modality}-{kind}" for _, modality, kind in chosen]
    return pytest.mark.parametrize("case", chosen, ids=ids, indirect=True)


@pytest.fixture
def case(request, tmp_path, monkeypatch):
    make, modality, _ = request.param
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.chdir(data)
    name, column = make(data, modality, request.param[2])
    if name.endswith((".csv", ".jsonl", ".txt")):  # from elsewhere: their paths are those beside the file
        monkeypatch.chdir(tmp_path)
        name = f"data/{name}"
    # Files of their own have no column for search and embed.
    return SimpleNamespace(modality=modality, name=name, column=column, given=None if name == "files" else column)


def embeddings(model, modality):
    encode = model.encode_image if modality == "image" else model.encode_depth
    return encode(PICTURES[modality], convert_to="numpy")


@cases(lambda modality, kind: True)
def test_search_and_embed_and_evaluate_read_every_column(case, model):
    expected = embeddings(model, case.modality)
    source = open_source(case.name, case.modality, case.given)
    index = EmbeddingIndex.from_dataset(model, source.dataset, source.column, case.modality)
    hits = index.search(expected, k=1, modality="embedding")
    assert [hit[0].index for hit in hits] == [0, 1, 2] and all(hit[0].score > 1 - 1e-5 for hit in hits)

    collection = open_collection(case.name, case.modality, case.given)
    embedder = RowEmbedder(model, collection, case.modality, options={})
    parts = [
        embedder(table, part, 0)
        for part in collection.parts(10)
        for table in collection.tables(part, 0, embedder.columns)
    ]
    assert not any(part.bad for part in parts)
    stored = pa.concat_tables([part.table for part in parts])["embedding"].to_pylist()
    np.testing.assert_allclose(stored, expected, atol=1e-5)

    (rows,) = load_splits(case.name, "test").values()
    measured = embed_columns(
        model, rows, {case.modality: case.column}, PartialState(cpu=True), show_progress_bar=False
    ).embeds[case.modality]
    np.testing.assert_allclose(measured.numpy(), expected, atol=1e-5)


@cases(lambda modality, kind: not kind.startswith("a "))  # which have no captions
@pytest.mark.parametrize("streaming", [False, True])
def test_training_reads_every_column(case, model, streaming):
    options = DataArguments(
        dataset=[case.name],
        text_column="caption.txt" if case.name.endswith(".tar") else "caption",
        image_column=case.column if case.modality == "image" else "",
        depth_column=case.column if case.modality == "depth" else "",
        streaming=streaming,
    )
    rows = load_rows(options, "train")
    make = SampleMaker(options, ModelInputs.of(model), 0, None, rows.features)
    batch = Collate(make)([make(row, index, 0) for index, row in enumerate(rows)])
    assert not batch["bad"]
    pictures = PICTURES[case.modality]
    if case.modality == "image":
        expected = model.image_processor(pictures, return_tensors="pt")["pixel_values"]
    else:
        expected = model.depth_processor(pictures)["pixel_values"]
    torch.testing.assert_close(
        batch["inputs"]["pixel_values" if case.modality == "image" else "depth_values"], expected
    )


@cases(lambda modality, kind: modality == "depth")
def test_the_training_of_depth_reads_every_column(case, model):
    maps = open_maps(DepthDataArguments(case.name, depth_column=case.given or ""), model.depth_processor, 0)
    samples = [part[index] for part in maps for index in range(len(part))]
    assert not any(isinstance(sample, BadSample) for sample in samples)
    found = torch.stack([sample["pixel_values"] for sample in sorted(samples, key=lambda sample: sample["index"])])
    torch.testing.assert_close(found, model.depth_processor(PICTURES["depth"])["pixel_values"])


@pytest.mark.parametrize("kind", ["string", "lists", "Array", "a list in .txt", "tar npy"])
def test_the_column_is_found_without_its_name(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name, column = (column_of if kind in COLUMNS else file_of)(tmp_path, "depth", kind)
    assert open_source(name, "depth").column == open_collection(name, "depth").column == column


def test_the_texts_that_name_pictures_are_known_by_the_first_rows(tmp_path):
    columns = {"title": ["a", "the b"], "file": ["b.png", "c.jpg"]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "rows.parquet")
    Dataset.from_dict(columns).to_csv(tmp_path / "rows.csv")
    for opened in (open_source, open_collection):
        for name in ("rows.parquet", "rows.csv"):
            assert opened(str(tmp_path / name), "image").column == "file"
            assert opened(str(tmp_path / name), "text").column == "title"


def test_which_column_is_asked_where_several_may_be_meant(tmp_path):
    Dataset.from_dict({"title": ["a"], "one": ["b.png"], "other": ["b.jpg"]}).to_parquet(tmp_path / "rows.parquet")
    has = r"Say --column; it has title \(text\), one \(names of pictures\), other \(names of pictures\)"
    for opened in (open_source, open_collection):
        with pytest.raises(ValueError, match=rf"which column holds the images\? {has}"):
            opened(str(tmp_path / "rows.parquet"), "image")


def bad_rows(folder):
    """Rows of which the first is whole: a file that is missing, no picture, nothing, and a gap in an array."""
    (folder / "whole.png").write_bytes(encoded(PICTURES["depth"][0]))
    whole = encoded(PICTURES["depth"][0])
    records = [{"bytes": whole, "path": None}, {"bytes": None, "path": "gone.png"}, {"bytes": b"x", "path": "odd.png"}]
    columns = {
        "string": pa.array(["whole.png", "gone.png", ""]),
        "binary": pa.array([whole, b"garbage", None]),
        "record": pa.array(records, RECORD),
        "array": pa.array([[[1.0, 2.0], [3.0, 4.0]], [[1.0], [2.0, 3.0]], None]),
    }
    pq.write_table(pa.table({"caption": CAPTIONS, **columns}), folder / "rows.parquet")


@pytest.mark.parametrize(
    ("column", "first", "second"),
    [
        ("string", "gone.png: no such file", "an empty path, expected the file of a depth map"),
        ("binary", "not a depth map of a kind that is read", "a NoneType, expected a path"),
        ("record", "gone.png: no such file", "odd.png: not a depth map of a kind that is read"),
        ("array", "lists of different lengths, or with a gap", "a NoneType, expected a path"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_its_file(column, first, second, tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    bad_rows(tmp_path)
    options = DataArguments(dataset=["rows.parquet"], image_column="", depth_column=column)
    rows = load_rows(options, "train")
    make = SampleMaker(options, ModelInputs.of(model), 0, None, rows.features)
    made = [make(row, index, 0) for index, row in enumerate(rows)]
    assert "depth" in made[0]
    assert [bad.index for bad in made[1:]] == [1, 2]
    assert made[1].reason.startswith(first) and made[2].reason.startswith(second)

    maps = open_maps(DepthDataArguments("rows.parquet", depth_column=column), model.depth_processor, 0)
    samples = [part[index] for part in maps for index in range(len(part))]
    reasons = {sample.index: sample.reason for sample in samples if isinstance(sample, BadSample)}
    assert reasons.keys() == {1, 2}
    for index, says in ((1, first), (2, second)):
        assert says.rpartition(": ")[2] in reasons[index]
        assert (f"row {index}" in reasons[index]) or ("gone.png" in reasons[index])

    (whole,) = load_splits("rows.parquet", "test").values()
    for index, says in ((1, first), (2, second)):
        with pytest.raises(ValueError, match=f"column '{column}': ") as caught:
            embed_columns(model, whole.select([index]), {"depth": column}, PartialState(cpu=True))
        assert says.rpartition(": ")[2] in str(caught.value)
        assert "row 0" in str(caught.value) or "gone.png" in str(caught.value)
