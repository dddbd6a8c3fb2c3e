"""Recall charts and maps of similarities: pictures of a size that follows what they show."""

import numpy as np
import PIL.Image
import pytest

from hf_encoders.commands.figures import page
from hf_encoders.commands.figures.recall_chart import draw_recall
from hf_encoders.commands.figures.similarity_map import draw_similarities
from hf_encoders.evaluation.recall_curves import RecallCurve
from hf_encoders.evaluation.similarities import Similarities


def curve(query, found, candidates=9, chance=None):
    ks = list(range(1, candidates + 1))
    recall = [k / candidates for k in ks]
    return RecallCurve(query, found, ks, [value**0.5 for value in recall], chance or recall)


def similarity(count, name="a caption of a row"):
    cosines = np.random.default_rng(0).uniform(-1, 1, (count, count)).astype(np.float32)
    names = [f"{name} {row}" for row in range(count)]
    return Similarities("text", "image", list(range(count)), names, cosines, np.eye(count, dtype=bool))


def picture(path):
    with PIL.Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def test_a_line_for_each_direction(tmp_path):
    draw_recall(tmp_path / "a.png", [curve("text", "image")], "model", ["a line below"])
    one = picture(tmp_path / "a.png")
    draw_recall(tmp_path / "b.png", [curve("text", "image"), curve("image", "text", 5)], "model", ["a line below"])
    two = picture(tmp_path / "b.png")
    colours = [{tuple(pixel) for pixel in pixels.reshape(-1, 3)} for pixels in (one, two)]
    orange = (255, 127, 14)  # of matplotlib's second line
    assert one.shape == two.shape and orange not in colours[0] and orange in colours[1]


def test_one_candidate_alone(tmp_path):
    draw_recall(tmp_path / "a.png", [curve("text", "image", 1)], "model")
    draw_similarities(tmp_path / "b.png", [similarity(1)], "model")
    assert len(picture(tmp_path / "a.png")) and len(picture(tmp_path / "b.png"))


def test_a_map_grows_with_its_rows_and_their_number(tmp_path):
    for name, maps in {"few": [similarity(8)], "many": [similarity(32)], "three": [similarity(32)] * 3}.items():
        draw_similarities(tmp_path / f"{name}.png", maps, "model", ["a line below"])
    few, many, three = (picture(tmp_path / f"{name}.png").shape for name in ("few", "many", "three"))
    assert few[0] < many[0] and many[0] == three[0] and 2 * many[1] < three[1]


def test_a_ring_marks_a_wrong_candidate(tmp_path):
    right = similarity(8)
    right.cosines[np.eye(8, dtype=bool)] = 1.5
    draw_similarities(tmp_path / "right.png", [right], "model")
    draw_similarities(tmp_path / "wrong.png", [similarity(8)], "model")
    ring = np.array([0xFF, 0x55, 0x33])
    counts = [
        int((np.abs(picture(tmp_path / f"{name}.png").astype(int) - ring).max(-1) < 8).sum())
        for name in ("right", "wrong")
    ]
    assert counts[0] == 0 < counts[1]


def test_any_names_can_be_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "families", lambda text: (["DejaVu Sans"], frozenset("椅")))
    draw_similarities(tmp_path / "a.png", [similarity(3, "a $5 chair\n椅" + "x" * 80)], "model $x_$")
    assert "no font here has 椅: drawn as code points" in capsys.readouterr().err


@pytest.mark.parametrize("width", [6.5, 20])
def test_small_lines_fit_into_the_width(width):
    parts = page.wrapped(["word " * 100], width)
    assert len(parts) > 1 and max(map(len, parts)) <= (width - 2 * page.MARGIN) / 0.08
