"""The settings of the depth processor: saved, loaded, overridden and checked; and the maps that it refuses."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor

from hf_encoders import DepthImageProcessor, DepthMapError

DEPTH = np.random.default_rng(0).uniform(1, 9, (20, 70)) * (np.random.default_rng(1).random((20, 70)) < 0.1)
ALL_CHANGED = {
    "do_resize": False, "size": {"height": 24, "width": 40}, "resample": 0, "num_channels": 3, "do_rescale": False,
    "unit_scale": 0.001, "invalid_values": [65535, -9999.5], "invalid_fill": -0.5, "do_normalize": False,
    "normalization": "range", "value_range": [-10, 10.5], "bit_rotation": 3, "value_percentiles": [-1.5, 0.5, 3.5],
}  # fmt: skip


def test_every_setting_survives_saving(tmp_path):
    processor = DepthImageProcessor(**ALL_CHANGED)
    processor.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert saved == ALL_CHANGED | {"image_processor_type": "DepthImageProcessor"}
    assert all(getattr(DepthImageProcessor, name) != value for name, value in ALL_CHANGED.items())
    for loader in (DepthImageProcessor, AutoImageProcessor):
        loaded = loader.from_pretrained(tmp_path)
        assert type(loaded) is DepthImageProcessor and loaded.to_dict() == processor.to_dict()
        raw = DEPTH.astype(np.uint16)
        assert torch.equal(loaded(raw)["pixel_values"], processor(raw)["pixel_values"])
    assert DepthImageProcessor.from_pretrained(tmp_path, unit_scale=2.5).unit_scale == 2.5


def test_saving_with_the_code_tells_where_the_class_is(tmp_path, monkeypatch):
    monkeypatch.setattr(DepthImageProcessor, "_auto_class", "AutoImageProcessor")
    DepthImageProcessor().save_pretrained(tmp_path / "first")
    DepthImageProcessor.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "again")
    for folder in (tmp_path / "first", tmp_path / "again"):
        saved = json.loads((folder / "preprocessor_config.json").read_text())
        assert saved["auto_map"] == {"AutoImageProcessor": "image_processing_depth.DepthImageProcessor"}
        assert (folder / "image_processing_depth.py").exists() and (folder / "depth_map_files.py").exists()


@pytest.mark.parametrize("name", ALL_CHANGED)
def test_every_setting_can_be_given_for_one_call(name):
    base = {"unit_scale": 2.0, "normalization": "range", "value_range": [0, 20], "invalid_fill": "max", "size": 33}
    change = {name: "minmax" if name == "normalization" else ALL_CHANGED[name]}
    processor, changed = DepthImageProcessor(**base), DepthImageProcessor(**base | change)
    raw = DEPTH.astype(np.uint16) if name == "bit_rotation" else DEPTH
    usual = processor(raw)["pixel_values"]
    assert torch.equal(processor(raw, **change)["pixel_values"], changed(raw)["pixel_values"])
    assert torch.equal(processor(raw)["pixel_values"], usual)
    # Percentiles are compared with, and change no value.
    assert torch.equal(changed(raw)["pixel_values"], usual) == (name == "value_percentiles")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"normalization": "standard"}, "'minmax' or 'range'"),
        *[
            ({"normalization": "range", "value_range": value}, r"value_range must be \[low, high\]")
            for value in (None, 10, [10], [0, 5, 10], [10, -10], [1, 1], [0, np.inf], [np.nan, 1], ["0", "10"])
        ],
        *[({"unit_scale": value}, "unit_scale must be a positive number") for value in (0, -1, np.inf, np.nan, "mm")],
        *[({"invalid_fill": value}, "invalid_fill is one of") for value in ("median", 1.5, np.nan, [0])],
        *[({"invalid_values": value}, "invalid_values is a list of numbers") for value in (0, ["NaN"], "0")],
        *[({"resample": value}, "NEAREST.*BILINEAR") for value in (3, "bilinear")],
        *[({"size": value}, "height and a width") for value in (0, {"shortest_edge": 9}, {"height": 9, "width": -9})],
        ({"num_channels": 0}, "num_channels must be at least 1"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        DepthImageProcessor(**changes)
    with pytest.raises(ValueError, match=message):
        DepthImageProcessor()(DEPTH, **changes)


def test_unknown_settings():
    with pytest.raises(TypeError, match="no setting unit_scal"):
        DepthImageProcessor()(DEPTH, unit_scal=0.001)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "a NoneType, expected a path"),
        ([[1.0]], "a list, expected a path"),
        (torch.ones(3, 3, dtype=torch.complex64), "complex"),
        (np.ones((3, 3), complex), "complex128, expected real"),
        (np.array([[None]]), "object, expected real"),
        (np.ones((0, 5)), r"shape \[1, 0, 5\], expected"),
        (np.ones(5), r"shape \[5\], expected \[H, W\]"),
        (np.ones((2, 5, 5)), r"shape \[2, 5, 5\], expected"),
        (torch.ones(1, 1, 5, 5), r"shape \[1, 1, 5, 5\], expected"),
        (Image.new("P", (5, 5)), "mode 'P', expected"),
        (Image.fromarray(np.array([[[1, 2, 3]]], np.uint8)), r"shape \[3, 1, 1\], expected"),
        (np.array([[0, np.nan], [np.inf, -np.inf]]), "no valid pixel, all are one of 0.0, NaN, inf"),
        (np.pad(np.ones((1, 1)), 200), "no valid pixel"),  # NEAREST steps over the one that there is
    ],
)
def test_errors_name_the_index_and_what_was_expected(bad, message):
    processor = DepthImageProcessor(size=8, resample=0)
    with pytest.raises(DepthMapError, match="map 1: .*" + message):
        processor([DEPTH, bad])
    with pytest.raises(DepthMapError, match="map 33: .*" + message):
        processor([DEPTH, bad], first_index=32)


def test_errors_name_the_file(tmp_path):
    Image.fromarray(np.full((8, 8, 3), [1, 2, 3], np.uint8)).save(tmp_path / "colour.png")
    np.save(tmp_path / "empty.npy", np.zeros((4, 4)))
    for name, message in {
        "colour.png": "which looks like colours, expected",
        "empty.npy": "no valid pixel",
        "missing.png": "no such",
    }.items():
        for path in (tmp_path / name, str(tmp_path / name)):
            with pytest.raises(DepthMapError, match=f"{path}: .*{message}"):
                DepthImageProcessor()([DEPTH, path])


@pytest.mark.parametrize("maps", [np.ones((1, 1, 1, 2, 2)), np.ones(3), torch.ones(()), None, 5, np.float32(5)])
def test_what_is_no_map_at_all(maps):
    with pytest.raises(DepthMapError, match="expected"):
        DepthImageProcessor()(maps)


def test_none_turns_a_step_off_and_stays_none(tmp_path):
    processor = DepthImageProcessor(do_resize=None, size=None)
    assert processor.do_resize is None and processor.size["height"] == 128  # a size cannot be none
    processor.save_pretrained(tmp_path)
    loaded = DepthImageProcessor.from_pretrained(tmp_path)
    assert loaded.do_resize is None and loaded.to_dict() == processor.to_dict()
    assert loaded([np.ones((3, 4))])["pixel_values"].shape == (1, 1, 3, 4)


def test_settings_of_other_image_processors_are_warned_about(caplog):
    DepthImageProcessor(image_mean=[0.5])
    assert "DepthImageProcessor has no setting image_mean" in caplog.text
