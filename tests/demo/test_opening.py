"""The page shows whatever collection a model embeds."""

import io

import numpy as np
import PIL.Image
import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from hf_encoders.data.source import open_all_pictures
from hf_encoders.demo.opening import open_shown
from hf_encoders.demo.pictures import small_picture
from hf_encoders.models.input_errors import InputError


def encoded(picture, form="PNG"):
    content = io.BytesIO()
    picture.save(content, form)
    return {"bytes": content.getvalue(), "path": None}


def image(seed):
    return encoded(PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)))


def depth(seed):
    return encoded(PIL.Image.fromarray(np.random.default_rng(seed).integers(500, 5000, (32, 32)).astype(np.uint16)))


def write(folder, rows, **features):
    Dataset.from_dict(rows, Features(features)).to_parquet(folder / "rows.parquet")
    return str(folder / "rows.parquet")


@pytest.fixture
def both(tmp_path):
    rows = {
        "image": [image(seed) for seed in range(6)],
        "depth": [depth(seed) for seed in range(6)],
        "caption": [f"scene {number}" for number in range(6)],
        "label": [0, 1, 2, 0, 1, -1],
    }
    return write(
        tmp_path, rows, image=Image(), depth=Image(), caption=Value("string"), label=ClassLabel(names=["a", "b", "c"])
    )


def test_images_and_depth_maps_of_the_same_rows(both, tiny_multimodal):
    shown = open_shown(tiny_multimodal, "tiny", both)
    assert list(shown.parts) == ["image", "depth"]
    assert shown.label_column == "label" and shown.labels == ["a", "b", "c"]
    for part in shown.parts.values():
        assert part.embeddings.shape[0] == 6 and list(part.labels) == ["a", "b", "c", "a", "b", ""]
        assert part.caption(2) == "scene 2"
        (best, *_) = part.index.search(part.embeddings[3], 1, "embedding")
        assert part.number(best.index) == 3 and best.score == pytest.approx(1, abs=1e-5)


def test_rows_that_cannot_be_read_are_left_out_and_the_others_keep_their_numbers(tmp_path, tiny_multimodal):
    broken = {"bytes": b"no picture", "path": None}
    pictures = [broken, image(1), image(2), broken, broken, image(5)]
    name = write(tmp_path, {"image": pictures, "number": list(range(6))}, image=Image(), number=Value("int64"))
    shown = open_shown(tiny_multimodal, "tiny", name)
    part = shown.parts["image"]
    assert shown.skipped == 3 and part.index.skipped == [0, 3, 4]
    assert [part.position(number) for number in range(3)] == [1, 2, 5]
    assert [part.number(position) for position in (1, 2, 5)] == [0, 1, 2]
    assert part.caption(2) == "row 5" and part.small_picture(2) == small_picture(pictures[5], "image", shown.colours)
    (best, *_) = part.index.search(part.embeddings[2], 1, "embedding")
    assert best.index == 5 and part.number(best.index) == 2


def test_nothing_that_can_be_read_is_an_error(tmp_path, tiny_multimodal):
    name = write(tmp_path, {"image": [{"bytes": b"no", "path": None}] * 2}, image=Image())
    with pytest.raises(InputError, match="rows.parquet: none of its 2 rows can be read"):
        open_shown(tiny_multimodal, "tiny", name)


def test_a_folder_of_files(tmp_path, tiny_multimodal):
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(depth(number)["bytes"])
    shown = open_shown(tiny_multimodal, "tiny", str(tmp_path))
    assert list(shown.parts) == ["depth"] and shown.label_column is None and shown.labels == []
    assert shown.parts["depth"].caption(1) == "1.png"


def test_a_model_of_depth_maps_alone_shows_those(both, tiny_encoder):
    shown = open_shown(tiny_encoder, "tiny", both)
    assert list(shown.parts) == ["depth"]


def test_texts_are_shown_where_there_are_no_pictures(tmp_path, tiny_multimodal):
    (tmp_path / "words.txt").write_text("a red chair\na blue table\na lamp\n")
    shown = open_shown(tiny_multimodal, "tiny", str(tmp_path / "words.txt"))
    assert list(shown.parts) == ["text"] and shown.parts["text"].caption(0) == "a red chair"


def test_the_column_that_is_named_is_the_only_one(both, tiny_multimodal):
    assert list(open_shown(tiny_multimodal, "tiny", both, column="depth").parts) == ["depth"]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        ("labels", "no column 'labels' of labels; it has caption, label"),
        ("caption", "column 'caption' holds no labels"),
    ],
)
def test_a_label_column_that_is_none(column, says, both, tiny_multimodal):
    with pytest.raises(InputError, match=says):
        open_shown(tiny_multimodal, "tiny", both, label_column=column)


def test_pictures_of_one_modality_are_opened_once(tmp_path, tiny_multimodal):
    name = write(tmp_path, {"picture": [image(0), image(1)]}, picture=Image())
    (source,) = open_all_pictures(tiny_multimodal, name)
    assert (source.column, source.modality) == ("picture", "image")


def test_what_holds_nothing_to_embed_says_so(tmp_path, tiny_encoder):
    name = write(tmp_path, {"number": [1, 2]}, number=Value("int64"))
    with pytest.raises(ValueError, match="which column holds the depth maps"):
        open_all_pictures(tiny_encoder, name)


def test_a_depth_map_has_metres_where_the_model_or_the_call_knows_its_unit(tmp_path, tiny_multimodal):
    values = np.full((32, 32), 5000, np.uint16)
    values[0, 0] = 1000
    data = write(tmp_path, {"depth": [encoded(PIL.Image.fromarray(values))] * 2}, depth=Image())
    stretched = open_shown(tiny_multimodal, "tiny", data).parts["depth"]
    assert stretched.small_picture(1).metres == ""
    units = {"unit_scale": 0.001, "value_range": (0, 8)}
    part = open_shown(tiny_multimodal, "tiny", data, units=units).parts["depth"]
    assert part.small_picture(1).metres == "1.0 to 5.0 m"
    assert PIL.Image.open(io.BytesIO(part.small_picture(1).jpeg)).format == "JPEG"
