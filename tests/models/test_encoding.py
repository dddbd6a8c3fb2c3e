"""`encode`: every kind of input, the options, the order, what it leaves untouched, and its errors."""

import copy
import re
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from torch import nn
from transformers import AutoModel

from hf_encoders import DepthImageProcessor
from hf_encoders.models import backend, pixel_towers

pytestmark = pytest.mark.numeric

PROCESSOR = DepthImageProcessor()


def difference(actual, expected):
    """The largest difference, relative to the largest magnitude."""
    actual, expected = torch.as_tensor(actual), torch.as_tensor(expected)
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def make_maps(count, height=40, width=48):
    """Waves with values from 1 to 3, each map of its own."""
    rows, columns = np.linspace(0, 6, height)[:, None], np.linspace(0, 6, width)
    return np.stack([2 + np.sin(rows * (n % 5 + 1) / 2 + columns * n / 7) for n in range(count)]).astype(np.float32)


@torch.no_grad()
def one_by_one(model, maps, processor=PROCESSOR):
    return torch.cat([model(**processor([one])).pooler_output for one in maps])


def images(maps):
    return [Image.fromarray(one) for one in maps]


def paths(maps, folder):
    for index, one in enumerate(maps):
        np.save(folder / f"{index}.npy", one)
    return [folder / f"{index}.npy" for index in range(len(maps))]


FORMS = {
    "list of arrays": lambda maps, _: list(maps),
    "array [N, H, W]": lambda maps, _: maps,
    "array [N, 1, H, W]": lambda maps, _: maps[:, None],
    "tensor [N, H, W]": lambda maps, _: torch.from_numpy(maps),
    "tensors": lambda maps, _: list(torch.from_numpy(maps)),
    "images": lambda maps, _: images(maps),
    "paths": paths,
    "strings": lambda maps, folder: [str(path) for path in paths(maps, folder)],
    "mixed": lambda maps, folder: [maps[0], images(maps)[1], paths(maps, folder)[2], torch.from_numpy(maps[3])],
    "generator": lambda maps, _: (one for one in maps),
    "processed": lambda maps, _: PROCESSOR(maps, return_mask=len(maps) > 0),
    "processed by NumPy": lambda maps, _: PROCESSOR(maps, return_tensors="np"),
    "mapping": lambda maps, _: {"label": 3, "pixel_values": PROCESSOR(maps)["pixel_values"]},
    "pixel_values": lambda maps, _: PROCESSOR(maps)["pixel_values"],
    "column": lambda maps, _: Dataset.from_dict({"depth": images(maps)})["depth"],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_same_maps(form, tiny_encoder, tmp_path):
    maps = make_maps(4)
    embeddings = tiny_encoder.encode(FORMS[form](maps, tmp_path), batch_size=3)
    expected = one_by_one(tiny_encoder, maps)
    assert difference(embeddings, expected) <= 1e-5
    assert torch.pdist(expected).min() > 0.01 * expected.abs().max()  # or the order would not show


@pytest.mark.parametrize("form", sorted(set(FORMS) - {"mixed"}))
def test_nothing_gives_an_empty_result(form, tiny_encoder, tmp_path):
    for options in ({}, {"normalize": True, "truncate_dim": 5, "convert_to": "numpy"}):
        result = tiny_encoder.encode(FORMS[form](make_maps(4)[:0], tmp_path), **options)
        assert tuple(result.shape) == (0, options.get("truncate_dim", 12))
        assert str(result.dtype).endswith("float32")


@pytest.mark.parametrize(
    "form",
    [
        lambda one, _: one,
        lambda one, _: torch.from_numpy(one),
        lambda one, _: Image.fromarray(one),
        lambda one, folder: paths([one], folder)[0],
        lambda one, folder: str(paths([one], folder)[0]),
        lambda one, _: one[None],
    ],
    ids=["array", "tensor", "image", "path", "string", "[1, H, W]"],
)
def test_one_map_gives_one_row(form, tiny_encoder, tmp_path):
    one = make_maps(3)[2]
    assert difference(tiny_encoder.encode(form(one, tmp_path)), one_by_one(tiny_encoder, [one])) <= 1e-5


def test_column_of_real_maps(tiny_encoder, objects_test):
    column = objects_test.select(range(9))["depth"]
    embeddings = tiny_encoder.encode(column, batch_size=4)
    assert difference(embeddings, one_by_one(tiny_encoder, list(column))) <= 1e-5


@pytest.mark.parametrize("batch_size", [1, 2, 7, 10, 100])
def test_batch_size_changes_nothing_but_the_batches(batch_size, tiny_encoder):
    maps = [one[: 30 + index] for index, one in enumerate(make_maps(10))]  # of ten sizes
    sizes = []
    tiny_encoder.stem.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    embeddings = tiny_encoder.encode(maps, batch_size=batch_size)
    assert sizes == [min(batch_size, 10 - start) for start in range(0, 10, batch_size)]
    assert difference(embeddings, one_by_one(tiny_encoder, maps)) <= 1e-5


def test_a_large_model_sees_8_a_thread_on_a_cpu(tiny_encoder, monkeypatch):
    monkeypatch.setattr(backend, "_LARGE", 0)
    most, sizes = 8 * torch.get_num_threads(), []
    tiny_encoder.stem.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    maps = make_maps(most + 1)
    embeddings = tiny_encoder.encode(maps, batch_size=64)
    assert sizes == [most, 1]
    assert difference(embeddings, one_by_one(tiny_encoder, maps)) <= 1e-5


def test_a_generator_is_read_as_late_as_possible(tiny_encoder):
    taken, taken_at_batch = [], []
    tiny_encoder.stem.register_forward_hook(lambda *_: taken_at_batch.append(len(taken)))
    tiny_encoder.encode((taken.append(index) or one for index, one in enumerate(make_maps(8))), batch_size=3)
    assert taken_at_batch == [3, 6, 8]


class SlowAtFirst(Sequence):
    """Ten maps, of which some cannot be read; the first prepared last."""

    def __init__(self, maps, unreadable):
        self.maps, self.unreadable = maps, unreadable

    def __len__(self):
        return len(self.maps)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[one] for one in range(len(self))[index]]
        if index in self.unreadable:
            raise OSError("gone")
        time.sleep(0.02 * (index < 4))
        return self.maps[index]


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.setattr(pixel_towers, "_THREADS", 4)


def test_threads_keep_the_order(four_threads, tiny_encoder):
    maps, sizes = make_maps(10), []
    tiny_encoder.stem.register_forward_hook(lambda module, args, output: sizes.append(len(output)))
    embeddings = tiny_encoder.encode(SlowAtFirst(maps, ()), batch_size=3)
    assert sizes == [3, 3, 3, 1]
    assert difference(embeddings, one_by_one(tiny_encoder, maps)) <= 1e-5


def test_threads_lose_no_error(four_threads, tiny_encoder):
    with pytest.raises(ValueError, match="item 8 of the column"):
        tiny_encoder.encode(SlowAtFirst(make_maps(10), {8, 9}), batch_size=2)


def test_a_batch_of_nothing_ends_nothing(four_threads, tiny_encoder):
    maps = make_maps(10)
    embeddings, kept = tiny_encoder.encode(SlowAtFirst(maps, {0, 1, 4, 5, 7}), batch_size=2, on_error="skip")
    assert kept.tolist() == [False, False, True, True, False, False, True, False, True, True]
    assert difference(embeddings, one_by_one(tiny_encoder, maps[kept.numpy()])) <= 1e-5


def test_the_processor_is_loaded_once(four_threads, tiny_encoder, tmp_path, monkeypatch):
    tiny_encoder.processor = PROCESSOR
    tiny_encoder.save_pretrained(tmp_path)
    loads, load = [], DepthImageProcessor.from_pretrained
    monkeypatch.setattr(
        DepthImageProcessor, "from_pretrained", lambda *args, **options: loads.append(1) or load(*args, **options)
    )
    AutoModel.from_pretrained(tmp_path).encode(list(make_maps(10)), batch_size=1)
    assert loads == [1]


@pytest.mark.parametrize("convert_to", ["tensor", "numpy"])
def test_options_of_the_result(convert_to, tiny_encoder):
    maps = make_maps(4)
    plain = one_by_one(tiny_encoder, maps)
    result = tiny_encoder.encode(maps, normalize=True, truncate_dim=5, convert_to=convert_to, device="cpu")
    assert type(result) is {"tensor": torch.Tensor, "numpy": np.ndarray}[convert_to]
    assert difference(result, nn.functional.normalize(plain[:, :5], dim=-1)) <= 1e-5
    assert difference(tiny_encoder.encode(maps, truncate_dim=12, convert_to=convert_to), plain) <= 1e-5


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_lower_precision_leaves_the_weights(dtype, tiny_encoder):
    maps, before = make_maps(4), copy.deepcopy(tiny_encoder.state_dict())
    computed_in = []
    tiny_encoder.fc.register_forward_hook(lambda module, args, output: computed_in.append(output.dtype))
    embeddings = tiny_encoder.encode(maps, dtype=dtype)
    assert computed_in == [torch.bfloat16] and embeddings.dtype == torch.float32
    assert 0 < difference(embeddings, one_by_one(tiny_encoder, maps)) < 0.05
    torch.testing.assert_close(tiny_encoder.state_dict(), before, rtol=0, atol=0)


def test_a_half_precision_model_gives_float32(tiny_encoder):
    expected = one_by_one(tiny_encoder, make_maps(4))
    embeddings = tiny_encoder.bfloat16().encode(make_maps(4))
    assert embeddings.dtype == torch.float32 and difference(embeddings, expected) < 0.05


@pytest.mark.parametrize("fails", [False, True])
def test_modes_come_back_exactly(fails, tiny_encoder):
    tiny_encoder.train()
    tiny_encoder.layer3.eval()
    tiny_encoder.freeze(["stem"])
    tiny_encoder.layer4[0].bn1.eval()
    before = {name: module.training for name, module in tiny_encoder.named_modules()}
    during = []
    tiny_encoder.fc.register_forward_hook(lambda *_: during.extend(one.training for one in tiny_encoder.modules()))
    state = copy.deepcopy(tiny_encoder.state_dict())
    if fails:
        with pytest.raises(ValueError, match="map 3"):
            tiny_encoder.encode([*make_maps(3), np.zeros((9, 9))], batch_size=3)
    else:
        tiny_encoder.encode(make_maps(4))
    assert during and not any(during)
    assert {name: module.training for name, module in tiny_encoder.named_modules()} == before
    torch.testing.assert_close(tiny_encoder.state_dict(), state, rtol=0, atol=0)


def test_result_is_an_ordinary_tensor_without_history(tiny_encoder):
    inference = []
    tiny_encoder.fc.register_forward_hook(lambda *_: inference.append(torch.is_inference_mode_enabled()))
    embeddings = tiny_encoder.encode(make_maps(4))
    assert inference == [True] and not torch.is_inference_mode_enabled()
    assert not embeddings.is_inference() and not embeddings.requires_grad
    (probe := nn.Linear(12, 2))(embeddings).sum().backward()  # an inference tensor would raise here
    assert probe.weight.grad.abs().max() > 0
    assert all(parameter.grad is None for parameter in tiny_encoder.parameters())


def test_outputs_as_tuples_do_not_disturb_it(tiny_encoder):
    expected = tiny_encoder.encode(make_maps(2))
    tiny_encoder.config.return_dict = False
    assert torch.equal(tiny_encoder.encode(make_maps(2)), expected)


@pytest.mark.parametrize(
    ("inputs", "count"),
    [
        (make_maps(7), "7/7"),
        ((one for one in make_maps(7)), "7it"),
        (make_maps(1)[0], "1/1"),
        ({"label": 3, "pixel_values": torch.zeros(5, 1, 64, 64)}, "5/5"),
    ],
    ids=["array", "generator", "one map", "mapping"],
)
def test_progress_bar_on_request(inputs, count, tiny_encoder, capsys):
    tiny_encoder.encode(inputs, batch_size=2, show_progress_bar=True)
    assert re.search(rf"Encoding.*{count}", capsys.readouterr().err)


def test_no_progress_bar_unasked(tiny_encoder, capsys):
    tiny_encoder.encode(make_maps(3))
    tiny_encoder.encode(make_maps(3), show_progress_bar=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (make_maps(2), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (make_maps(2), {"convert_to": "list"}, "'tensor' or 'numpy', got 'list'"),
        (make_maps(2), {"truncate_dim": 13}, "truncate_dim must be from 1 to 12, got 13"),
        (make_maps(2), {"truncate_dim": 0}, "got 0"),
        (make_maps(2), {"dtype": "float64"}, "dtype=float64: load the model in it"),
        (Dataset.from_dict({"depth": [1], "noun": ["a"]}), {}, "a data set, expected one of its columns: depth, noun"),
        ({"label": 3}, {}, "a mapping with label, expected depth_values or pixel_values"),
        ({}, {}, "a mapping with nothing, expected depth_values or pixel_values"),
        (np.array(3.0), {}, r"map 0: a map of shape \[\]"),
        (np.zeros(5), {}, r"maps of shape \[5\]"),
        (None, {}, "map 0: a NoneType"),
        (["missing/map.png"], {}, "missing/map.png: no such file"),
        (torch.zeros(2, 3, 64, 64), {}, r"\[batch, 1, height, width\].*got \[2, 3, 64, 64\]"),
    ],
)
def test_errors_say_what_was_wrong(inputs, options, message, tiny_encoder):
    with pytest.raises(ValueError, match=message):
        tiny_encoder.encode(inputs, **options)


@pytest.mark.parametrize("form", [list, np.stack, iter], ids=["list", "array", "iterator"])
def test_a_bad_map_is_named_by_its_place_in_the_whole(form, tiny_encoder):
    maps = list(make_maps(70))
    maps[40] = np.full_like(maps[40], np.nan)
    with pytest.raises(ValueError, match=r"map 40\b.*no valid pixel"):
        tiny_encoder.encode(form(maps), batch_size=32)


@pytest.mark.parametrize(
    ("pixel_values", "warns"),
    [
        (torch.linspace(-1, 1, 4096).reshape(1, 1, 64, 64), False),
        (torch.linspace(-1, 1.1, 4096).reshape(1, 1, 64, 64), True),
        (torch.full((1, 1, 64, 64), -3.0), True),
        (torch.empty(0, 1, 64, 64), False),
    ],
)
def test_raw_maps_passed_for_pixel_values_are_warned_of(pixel_values, warns, tiny_encoder, recwarn):
    tiny_encoder.encode(pixel_values)
    assert any("outside" in str(one.message) and "depth map" in str(one.message) for one in recwarn) == warns
