"""What makes a depth tower lose less in 8 bits changes nothing before."""

import copy

import numpy as np
import pytest
import torch

from hf_encoders import DepthImageProcessor, create_semantic_encoder
from hf_encoders.export import towers as module
from hf_encoders.export.int8 import calibration_inputs, with_even_channels
from tests.conftest import SAMPLES, SMALL_CHECKPOINT


def ranges(encoder, pixels):
    with torch.no_grad():
        return encoder.stem[:3](pixels).amax((0, 2, 3))


@pytest.fixture
def uneven(tiny_encoder):
    """Its first channel never answers, and its second one ten times as much as the others."""
    tiny_encoder.eval()
    with torch.no_grad():
        tiny_encoder.stem[1].weight[0] = tiny_encoder.stem[1].bias[0] = 0
        tiny_encoder.stem[1].weight[1] *= 10
    return tiny_encoder


@pytest.mark.numeric
def test_even_channels_compute_the_same(uneven):
    pixels = torch.rand(4, 1, 32, 32) * 2 - 1
    state = copy.deepcopy(uneven.state_dict())
    even = with_even_channels(uneven.train().tower("depth"), [{"pixel_values": part} for part in pixels.split(2)]).model
    assert uneven.training and all(torch.equal(state[name], tensor) for name, tensor in uneven.state_dict().items())
    before, after = ranges(uneven.eval(), pixels), ranges(even.eval(), pixels)
    assert before[0] == after[0] == 0
    torch.testing.assert_close(after, (before * before.max()).sqrt(), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        expected, found = uneven(pixels).pooler_output, even(pixels).pooler_output
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_calibration_reads_maps_in_the_unit_that_it_is_told(tiny_encoder, tmp_path):
    tiny_encoder.processor = DepthImageProcessor(size=32, normalization="range", value_range=[0, 4])
    rng = np.random.default_rng(0)
    for folder, unit in (("metres", 1), ("millimetres", 1000)):
        (tmp_path / folder).mkdir()
        np.save(tmp_path / folder / "0.npy", rng.uniform(1, 3, (32, 32)) * unit)
        rng = np.random.default_rng(0)
    found = [
        calibration_inputs(tiny_encoder, ["depth"], [str(tmp_path / folder)], units)["depth"][0]["pixel_values"]
        for folder, units in (("metres", None), ("millimetres", {"unit_scale": 0.001}))
    ]
    torch.testing.assert_close(*found)


@pytest.mark.slow
def test_an_export_evens_them_out(tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    encoder = create_semantic_encoder(pretrained_path=SMALL_CHECKPOINT).encoder
    with torch.no_grad():  # the same network, of which one channel reaches far and counts for little
        for parameter in (encoder.stem[1].weight, encoder.stem[1].bias):
            parameter[0] *= 1000
        encoder.stem[3].weight[:, 0] /= 1000
    encoder.save_pretrained(tmp_path / "model")
    calibration, cosines = str(SAMPLES / "objects" / "train.parquet"), []
    for even in (with_even_channels, lambda tower, inputs: tower):
        monkeypatch.setattr(module, "with_even_channels", even)
        report = module.export(
            str(tmp_path / "model"),
            tmp_path / "out",
            "openvino",
            calibration=calibration,
            least_cosine=-1,  # the uneven one would be refused
            overwrite=True,
        )
        cosines.append(report["towers"]["depth"]["int8"]["mean_cosine"])
    assert cosines[0] > 0.9 and cosines[1] < 0.7


def test_only_the_depth_tower_changes(tiny_multimodal):
    maps = [{"pixel_values": torch.rand(2, 1, 32, 32)}]
    even = with_even_channels(tiny_multimodal.tower("depth"), maps).model.state_dict()
    changed = {name for name, tensor in tiny_multimodal.state_dict().items() if not torch.equal(tensor, even[name])}
    assert changed == {"depth_encoder.stem.1.weight", "depth_encoder.stem.3.weight"}  # its biases are zeros still
