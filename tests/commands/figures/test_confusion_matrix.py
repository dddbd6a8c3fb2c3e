"""Confusion matrices are drawn whole, whatever the classes are called and however many there are."""

import warnings

import numpy as np
import PIL.Image
import pytest

from hf_encoders.commands.figures import page
from hf_encoders.commands.figures.confusion_matrix import MOST_DRAWN, _drawn, draw_confusion
from hf_encoders.evaluation.confusion import Confusion


def random_confusion(count, seed=0):
    counts = np.random.default_rng(seed).integers(0, 3, (count, count))
    return Confusion([f"class {number}" for number in range(count)], counts)


def drawn(tmp_path, *arguments, **options):
    draw_confusion(tmp_path / "x", *arguments, **options)
    with PIL.Image.open(tmp_path / "x") as picture:
        assert picture.format == "PNG"
        return picture.convert("RGB")


def test_it_grows_with_the_classes(tmp_path):
    few, many = (drawn(tmp_path, random_confusion(count), "model", ["one line"]) for count in (3, 60))
    assert many.width > few.width and many.height > few.height


def test_right_answers_are_blue_and_wrong_ones_orange(tmp_path):
    right = np.asarray(drawn(tmp_path, Confusion(["a", "b"], np.array([[3, 0], [0, 3]])), "")).astype(int)
    wrong = np.asarray(drawn(tmp_path, Confusion(["a", "b"], np.array([[0, 3], [3, 0]])), "")).astype(int)
    dark_blue, dark_orange = (8, 48, 107), (127, 39, 4)
    large = 2500  # pixels of two cells; the legends show both colours, in thin strips
    for picture, has, has_not in ((right, dark_blue, dark_orange), (wrong, dark_orange, dark_blue)):
        assert (abs(picture - has).max(-1) < 3).sum() > large
        assert (abs(picture - has_not).max(-1) < 3).sum() < large / 5


def test_of_many_classes_those_with_most_mistakes_are_drawn(tmp_path):
    found = random_confusion(MOST_DRAWN + 30)
    found.counts[:] = np.eye(MOST_DRAWN + 30, dtype=int)
    found.counts[:20, 100:120] += 2 * np.eye(20, dtype=int)
    classes = _drawn(found, None).classes
    assert len(classes) == MOST_DRAWN
    assert {f"class {number}" for number in [*range(20), *range(100, 120)]} <= set(classes)
    drawn(tmp_path, found, "model")


def test_any_names_can_be_drawn(tmp_path):
    names = ["$\\frac{", "x" * 200, "椅子", "a\nb", "b\udcffd", "", 7]
    found = Confusion(names, np.ones((7, 7), int))
    groups = dict.fromkeys(names, "$group_") | {7: "other"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(tmp_path, found, "$title$_^", ["a long line " * 50], groups)


def test_letters_that_no_font_has_are_code_points_and_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "families", lambda text: (["DejaVu Sans"], frozenset("椅")))
    assert drawn(tmp_path, Confusion(["椅", "b"], np.eye(2, dtype=int)), "model")
    assert "no font here has 椅: drawn as code points" in capsys.readouterr().err


def test_one_class(tmp_path):
    drawn(tmp_path, Confusion(["a", "b"], np.array([[4, 0], [0, 0]])), "model", groups={"a": "g", "b": "h"})


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"a picture of x needs matplotlib: pip install 'hf-encoders\[evaluation\]'"):
        page.need_matplotlib("x")
