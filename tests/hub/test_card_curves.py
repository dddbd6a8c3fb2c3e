"""Curves of a run: from its logs to a picture."""

import sys

import pytest
from PIL import Image

from hf_encoders.hub.card_curves import draw_curves, read_curves

CURVES = {"loss": [(1, 2.0), (2, 1.5), (3, float("nan"))], "recall": [(2, 0.5)], "empty": []}


def test_a_picture_with_a_panel_for_each_curve(tmp_path):
    assert draw_curves(tmp_path / "two.png", CURVES)
    assert draw_curves(tmp_path / "one.png", {"loss": CURVES["loss"]})
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.format == "PNG" and two.width == 2 * one.width and len(set(two.convert("L").tobytes())) > 10


def test_no_picture_without_values_or_matplotlib(tmp_path, monkeypatch):
    assert not draw_curves(tmp_path / "a.png", {"empty": []})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw_curves(tmp_path / "a.png", CURVES)
    assert not list(tmp_path.iterdir())


def test_curves_of_a_resumed_run(tmp_path, monkeypatch):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    for run, steps in (("first", [1, 2, 3]), ("resumed", [3, 4])):
        with tensorboard.SummaryWriter(tmp_path / run) as writer:
            for step in steps:
                # The clock may be too coarse to tell two events apart.
                writer.add_scalar("loss", step if run == "first" else 10 * step, step, walltime=step + len(run))
    assert read_curves(tmp_path, ["loss", "absent"]) == {"loss": [(1, 1), (2, 2), (3, 30), (4, 40)]}
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    assert read_curves(tmp_path, ["loss"]) == {}
