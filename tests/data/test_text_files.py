"""Text files as they are: marks of the byte order, UTF-16, ends of lines, and what is none of them."""

import codecs
import json

import pytest
from PIL import Image

from hf_encoders.data.collection import open_collection
from hf_encoders.data.location import locate
from hf_encoders.data.source import open_source
from hf_encoders.data.splits import load_joined, load_splits
from hf_encoders.data.text_files import TextFileError, check_encoding, read_text

CAPTIONS = ["a réd chair", "椅子", "a lamp"]
ENCODINGS = {
    "plain": lambda text: text.encode(),
    "mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 big": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "CRLF UTF-16": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
}
ROWS = [{"caption": caption, "image": f"{number}.png"} for number, caption in enumerate(CAPTIONS)]
FORMATS = {
    "rows.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS),
    "rows.json": json.dumps(ROWS, ensure_ascii=False, indent=1),
    "rows.csv": "caption,image\n" + "".join(f"{row['caption']},{row['image']}\n" for row in ROWS),
    "rows.txt": "".join(f"{caption}\n" for caption in CAPTIONS),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_text_is_read_without_its_mark_and_with_plain_ends_of_lines(encoding, tmp_path):
    (tmp_path / "a.txt").write_bytes(ENCODINGS[encoding]("".join(f"{caption}\n" for caption in CAPTIONS)))
    assert read_text(tmp_path / "a.txt") == "".join(f"{caption}\n" for caption in CAPTIONS)
    check_encoding([tmp_path / "a.txt"])


@pytest.mark.parametrize("reads", [read_text, lambda path: check_encoding([path])], ids=["whole", "part by part"])
def test_what_is_no_text_is_named_with_its_line(reads, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"fine\n\xe9 no\n")
    with pytest.raises(TextFileError, match=r"a.txt: line 2 is no UTF-8 \(byte 0xe9\); save it as UTF-8"):
        reads(tmp_path / "a.txt")


@pytest.mark.parametrize("streaming", [False, True], ids=["disk", "stream"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_captions_is_a_data_set(name, encoding, streaming, tmp_path):
    path = tmp_path / name
    path.write_bytes(ENCODINGS[encoding](FORMATS[name]))
    column = "text" if name.endswith(".txt") else "caption"
    rows = load_joined([str(path)], "train", [column], streaming=streaming)
    assert sorted(row[column] for row in rows) == sorted(CAPTIONS)
    source = open_source(str(path), "text", column)
    assert source.dataset[column][:] == CAPTIONS
    collection = open_collection(str(path), "text", column)
    (table,) = (table for part in collection.parts(100) for table in collection.tables(part, 0, [column]))
    assert table[column].to_pylist() == CAPTIONS


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_cannot_be_decoded_or_is_not_there_is_named(name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(FORMATS[name].encode("utf-8").replace("é".encode(), b"\xe9"))
    with pytest.raises(ValueError, match=rf"{name}: line \d is no UTF-8 \(byte 0xe9\)"):
        load_splits(str(tmp_path / name), "train")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^absent-{name}: no such file$"):  # no id on the Hub
        locate(f"absent-{name}")


@pytest.mark.parametrize("encoding", ["mark", "CRLF"])
def test_metadata_of_a_folder_of_pictures(encoding, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    line = json.dumps({"file_name": "0.png", "caption": "réd"}, ensure_ascii=False) + "\n"
    (tmp_path / "metadata.jsonl").write_bytes(ENCODINGS[encoding](line))
    assert load_splits(str(tmp_path), "train")["train"]["caption"][:] == ["réd"]


def test_metadata_that_cannot_be_decoded_is_named(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    text = "file_name,caption\n0.png,réd\n"
    (tmp_path / "metadata.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match="metadata.csv: line 2 is no UTF-8"):
        load_splits(str(tmp_path), "train")
    (tmp_path / "metadata.csv").write_bytes(text.encode("utf-16"))
    with pytest.raises(ValueError, match="metadata.csv: is UTF-16; save it as UTF-8"):
        load_splits(str(tmp_path), "train")


def test_pictures_that_a_file_names_lie_beside_it(tmp_path, monkeypatch):
    for row in ROWS:
        Image.new("RGB", (4, 4)).save(tmp_path / row["image"])
    (tmp_path / "rows.csv").write_text(FORMATS["rows.csv"])
    rows = load_joined([str(tmp_path / "rows.csv")], "train", ["caption", "image"])
    assert rows["image"][:] == [str(tmp_path / row["image"]) for row in ROWS] and rows["caption"][:] == CAPTIONS
    monkeypatch.chdir(tmp_path)
    assert load_joined(["rows.csv"], "train", ["image"])["image"][:] == [row["image"] for row in ROWS]


def test_files_of_one_kind_by_a_pattern(tmp_path):
    for part in range(2):
        (tmp_path / f"{part}.jsonl").write_text(FORMATS["rows.jsonl"])
    assert len(load_splits(str(tmp_path / "*.jsonl"), "train")["train"]) == 6
