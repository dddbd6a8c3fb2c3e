"""`encode(device=[...])`: processes share the work, and the caller sees what one device gives."""

import os
import signal

import numpy as np
import pytest
import torch

from hf_encoders.backends import device_pool
from hf_encoders.models import backend
from tests.helpers.multimodal_models import tiny_model

TWO = ["cpu", "cpu"]


@pytest.fixture(scope="module")
def model():
    """One model, so that its processes start once."""
    torch.manual_seed(0)
    return tiny_model()


@pytest.fixture(scope="module")
def maps():
    """Depth maps of several sizes."""
    generator = np.random.default_rng(0)
    return [generator.uniform(0.5, 3, (30 + number % 5, 40)) for number in range(70)]


def test_texts_and_maps_in_order(model, maps):
    texts = [f"{'a red chair ' * (number % 5)}{number}" for number in range(70)]
    one = model.encode_text(texts, batch_size=4)
    torch.testing.assert_close(model.encode_text(texts, batch_size=4, device=TWO), one, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.encode_text(iter(texts), batch_size=4, device=TWO), one, atol=1e-6, rtol=1e-5)
    found = model.encode_depth(maps, batch_size=4, device=TWO, convert_to="numpy", truncate_dim=3)
    np.testing.assert_allclose(found, model.encode_depth(maps, batch_size=4, truncate_dim=3), atol=1e-6)


def test_processed_inputs_one_input_and_none(model, maps):
    processed = model.processor(depth=maps)
    torch.testing.assert_close(model.encode_depth(processed, batch_size=4, device=TWO), model.encode_depth(maps))
    assert model.encode_text("a chair", device=TWO).shape == (1, 8)
    assert model.encode_text([], device=TWO).shape == (0, 8)


def test_the_same_processes_serve_the_next_call(model):
    model.encode_text(["a"], device=TWO)
    before = [process.pid for process in device_pool._POOLS[model]["text"]._processes]
    model.encode_text(["b"], device=TWO, batch_size=1)
    assert [process.pid for process in device_pool._POOLS[model]["text"]._processes] == before


def test_other_settings_reach_the_processes(model, maps):
    for scale in (1.0, 0.5):
        expected = model.encode_depth(maps[:9], unit_scale=scale)
        torch.testing.assert_close(model.encode_depth(maps[:9], unit_scale=scale, device=TWO), expected)


def test_inputs_that_cannot_be_used(model, maps, caplog):
    broken = [*maps[:40], "nowhere.npy", *maps[40:]]
    with pytest.raises(ValueError, match=r"nowhere\.npy: no such file"):
        model.encode_depth(broken, batch_size=2, device=TWO)
    with pytest.raises(TypeError, match="text 33: a int, expected a string"):
        model.encode_text(["a"] * 33 + [3], batch_size=2, device=TWO)
    rows, kept = model.encode_depth(broken, batch_size=2, device=TWO, on_error="skip")
    torch.testing.assert_close(rows, model.encode_depth(maps))
    assert kept.tolist() == [index != 40 for index in range(71)]
    assert caplog.text.count("1 of 71 inputs skipped, the first: nowhere.npy: no such file") == 1


def test_texts_that_are_cut_are_counted_once(model, caplog):
    long = "chair " * 200
    model.encode_text(["a"] * 20 + [long, "b", long], batch_size=1, device=TWO)
    assert (
        [record.message for record in caplog.records if "longer than" in record.message]
        == [record.message for record in caplog.records if "2 texts (the first is text 20)" in record.message]
        != []
    )


def test_parts_and_rows_larger_than_a_pipe_holds():
    """A process that waits to hand over its rows must not be sent another part meanwhile."""
    model = tiny_model(projection_dim=512)
    texts = [f"{number} " + "chair " * 300 for number in range(256 * 4)]
    found = model.encode_text(texts, device=["cpu"])
    torch.testing.assert_close(found, model.encode_text(texts), atol=1e-6, rtol=1e-5)


def test_new_weights_get_new_processes(maps):
    model = tiny_model()
    first = model.encode_depth(maps[:3], device=["cpu"])
    with torch.no_grad():
        model.depth_projection.bias.add_(1)
    second = model.encode_depth(maps[:3], device=["cpu"])
    torch.testing.assert_close(second, model.encode_depth(maps[:3]))
    assert not torch.allclose(first, second)


def test_a_process_that_ended_is_told_and_replaced(model, maps):
    model.encode_depth(maps[:3], device=TWO)
    pool = device_pool._POOLS[model]["depth"]

    def dying():
        yield from maps[:30]
        os.kill(pool._processes[0].pid, signal.SIGKILL)
        yield from maps

    with pytest.raises(RuntimeError, match=r"the process of device 'cpu' ended \(exit code -9\)"):
        model.encode_depth(dying(), batch_size=1, device=TWO)
    torch.testing.assert_close(model.encode_depth(maps[:3], device=TWO), model.encode_depth(maps[:3]))


@pytest.mark.parametrize(
    ("devices", "error", "message"),
    [
        ([], ValueError, r"device=\[\]: name at least one device"),
        (["cpu", "gpu:1"], ValueError, r"device=\['cpu', 'gpu:1'\]: Expected one of cpu"),
    ],
)
def test_devices_that_are_none(model, devices, error, message):
    with pytest.raises(error, match=message):
        model.encode_text("a", device=devices)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(maps):
    with pytest.raises(RuntimeError, match="device 'cuda:0': .*CUDA"):
        tiny_model().encode_depth(maps[:3], device=["cuda:0"])


def test_code_of_a_repo_alone_names_the_package(model, monkeypatch):
    monkeypatch.setattr(backend, "_SPREAD", [])
    with pytest.raises(ImportError, match="several devices need the package"):
        model.encode_text("a", device=TWO)
