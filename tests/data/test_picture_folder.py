"""Local folders of pictures with splits and captions: every suffix is read, and what is not is counted."""

import io

import numpy as np
import PIL.Image
import pytest
from datasets import Dataset
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder

from hf_encoders.data.location import locate
from hf_encoders.data.picture_folder import PictureFolder, builder_of
from hf_encoders.data.splits import data_revision, left_out_of, load_joined, load_splits


def picture(grey):
    content = io.BytesIO()
    PIL.Image.fromarray(np.full((8, 8, 3), grey, np.uint8)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def photos(tmp_path):
    """Two splits with captions; what a file holds is not looked at before it is read."""
    for split in ("train", "test"):
        folder = tmp_path / "photos" / split
        folder.mkdir(parents=True)
        for number, suffix in enumerate(("jpg", "heic", "avif")):
            (folder / f"{number}.{suffix}").write_bytes(picture(number))
        lines = ["0.jpg,one", "1.heic,two", "2.avif,three"]
        (folder / "metadata.csv").write_text("\n".join(["file_name,caption", *lines]))
    (tmp_path / "photos" / "notes.docx").touch()
    (tmp_path / "photos" / ".DS_Store").touch()
    return str(tmp_path / "photos")


@pytest.mark.parametrize("streaming", [False, True])
def test_suffixes_that_datasets_does_not_know_are_read_with_splits_and_captions(photos, streaming):
    splits = load_splits(photos, "x", streaming)
    assert set(map(str, splits)) == {"train", "test"}
    rows = list(load_joined([photos], "test", ["image", "caption"], streaming=streaming))
    assert [row["caption"] for row in rows] == ["one", "two", "three"]
    assert [row["image"]["path"].rpartition(".")[2] for row in rows] == ["jpg", "heic", "avif"]
    assert data_revision(photos, "test").keys() == {"dataset_sha256"}


def test_files_and_patterns_are_read_too(photos):
    for name, count in ((f"{photos}/train/1.heic", 1), (f"{photos}/*/*.avif", 2)):
        (rows,) = load_splits(name, "x").values()
        assert len(rows) == count


def test_what_datasets_knows_is_left_to_it(photos, tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "0.png").write_bytes(picture(0))
    assert not isinstance(builder_of(locate(str(tmp_path / "plain"))), PictureFolder)
    assert isinstance(builder_of(locate(photos)), PictureFolder)
    # Once `datasets` reads these itself, this class can go.
    assert {".avif", ".heic"}.isdisjoint(ImageFolder.EXTENSIONS)


def test_what_is_in_no_split_is_counted(photos, tmp_path):
    assert left_out_of(photos) == f"{photos}: left out: 1 .docx, 1 .DS_Store"
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "0.png").write_bytes(picture(0))
    (tmp_path / "plain" / "0.npy").touch()
    assert left_out_of(str(tmp_path / "plain")) == f"{tmp_path}/plain: left out: 1 .npy"
    rows = Dataset.from_dict({"caption": ["a"]})
    (tmp_path / "rows").mkdir()
    rows.to_parquet(tmp_path / "rows" / "train.parquet")
    assert left_out_of(str(tmp_path / "rows")) == left_out_of(str(tmp_path / "rows/train.parquet")) == ""
    (tmp_path / "rows" / "README.txt").touch()
    assert left_out_of(str(tmp_path / "rows")) == f"{tmp_path}/rows: left out: 1 .txt"
    (tmp_path / "maps").mkdir()
    np.save(tmp_path / "maps" / "0.npy", np.ones((4, 4)))
    (tmp_path / "maps" / "units.yaml").touch()
    assert left_out_of(str(tmp_path / "maps")) == f"{tmp_path}/maps: left out: 1 .yaml"
