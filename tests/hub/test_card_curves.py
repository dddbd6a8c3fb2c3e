"""Curves of a run: from its logs to a picture."""

import sys

import pytest
from PIL import Image

from hf_encoders.hub.card_curves import draw_curves, panels, read_curves

CURVES = {"loss": [(1, 2.0), (2, 1.5), (3, float("nan"))], "recall": [(2, 0.5)], "empty": []}


def test_a_picture_with_its_panels_side_by_side(tmp_path):
    assert draw_curves(tmp_path / "two.png", CURVES)
    assert draw_curves(tmp_path / "one.png", {"loss": CURVES["loss"]})
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.format == "PNG" and two.width == 2 * one.width and len(set(two.convert("L").tobytes())) > 10


def test_losses_share_a_panel_and_recalls_at_one_k():
    names = [
        "loss",
        "validation_loss",
        "unseen/validation_loss",
        *(f"retrieval/{way}_recall@{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5)),
        "unseen/retrieval/text_to_image_recall@1",
        "zero-shot/noun/image/top1_accuracy",
    ]
    shared = panels({name: [(1, 0.5)] for name in names})
    assert {title: list(lines) for title, lines in shared.items()} == {
        "loss": ["training", "validation", "validation, unseen"],
        "recall@1": ["text → image", "image → text", "text → image, unseen"],
        "recall@5": ["text → image", "image → text"],
        "zero-shot/noun/image/top1_accuracy": ["zero-shot/noun/image/top1_accuracy"],
    }


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
