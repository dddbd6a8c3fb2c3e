"""`encode` by PyTorch, OpenVINO and ONNX Runtime: the same embeddings, from one argument."""

import copy
import gc
import pickle
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from hf_encoders import DepthImageProcessor, DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from hf_encoders.backends import compiled, openvino_backend
from hf_encoders.backends.programs import export_tower
from hf_encoders.models import backend
from hf_encoders.models.backend import TorchBackend, get_backend
from tests.conftest import TINY
from tests.helpers.multimodal_models import WORDS, tiny_model

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")
TEXTS = ["a red chair", " ".join(WORDS[:9]), "a table"] * 3


@pytest.fixture(scope="module")
def multimodal():
    """Its towers are compiled once for all tests."""
    torch.manual_seed(0)
    return tiny_model()


@pytest.fixture
def depth(tiny_encoder):
    tiny_encoder.processor = DepthImageProcessor(size=32)
    return tiny_encoder


@pytest.fixture
def maps():
    return list(np.random.default_rng(0).random((9, 40, 50), dtype=np.float32))


def images():
    return list(np.random.default_rng(0).integers(255, size=(9, 40, 50, 3), dtype=np.uint8))


@pytest.mark.numeric
def test_a_depth_encoder_by_onnx_runtime(depth, maps):
    depth.train()  # which is not what is compiled
    expected = depth.encode(maps)
    for batch_size in (1, 4, 32):
        found = depth.encode(maps, batch_size=batch_size, backend="onnx")
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert depth.training and depth.layer1[0].bn1.training
    assert depth.encode([], backend="onnx").shape == (0, 12)
    ready = depth.processor(maps)
    assert torch.allclose(depth.encode(ready, backend="onnx"), expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.numeric
@pytest.mark.parametrize(("name", "towers"), [("openvino", "text image depth"), ("onnx", "text")])
def test_towers_of_a_multimodal_encoder(name, towers, multimodal, maps):
    for tower in towers.split():
        encode = getattr(multimodal, f"encode_{tower}")
        inputs = {"text": TEXTS, "image": images(), "depth": maps}[tower]
        expected = encode(inputs)
        for batch_size in (4, 1):
            assert (encode(inputs, batch_size=batch_size, backend=name) - expected).abs().max() <= 1e-5
    tokens = multimodal.processor(text=TEXTS)
    processed = multimodal.encode_text(tokens, backend=name)
    assert torch.allclose(processed, multimodal.encode_text(TEXTS), atol=1e-5) and not processed.requires_grad


def test_other_weights_are_compiled_again_in_any_precision(depth, maps):
    expected = depth.encode(maps)
    first = depth.encode(maps, backend="openvino", dtype="bfloat16")
    assert torch.cosine_similarity(first, expected).min() > 0.99
    # On a processor without bfloat16 OpenVINO takes float32.
    has_bfloat16 = "BF16" in openvino_backend._core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert ((first - expected).abs().max() > 1e-4 * expected.abs().max()) == has_bfloat16
    with torch.no_grad():
        depth.fc[-1].bias.add_(1)
    again = depth.encode(maps, backend="openvino", dtype="bfloat16")
    assert torch.allclose(again, first + 1, atol=0.05) and len(compiled._KEPT[depth]) == 1
    for other in (copy.deepcopy(depth), pickle.loads(pickle.dumps(depth))):
        assert other not in compiled._KEPT and torch.equal(other.encode(maps), depth.encode(maps))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "tensorrt"}, "backend is 'torch' or 'onnx' or 'openvino' or 'auto', got 'tensorrt'"),
        ({"backend": "onnx", "dtype": "bfloat16"}, "onnx computes in float32 or int8, not in bfloat16"),
        ({"backend": "openvino", "dtype": torch.float16}, "openvino computes in float32 or bfloat16 or int8, not in"),
        ({"dtype": "int8"}, "PyTorch computes no int8 here"),
        (
            {"backend": "openvino", "dtype": "int8"},
            "no depth tower in int8 for openvino; make it with: hf-enc",
        ),
    ],
)
def test_a_backend_refuses_what_it_cannot_compute(options, message, depth, maps):
    with pytest.raises(ValueError, match=message):
        depth.encode(maps, **options)


@pytest.mark.parametrize("name", ["openvino", "onnx"])
def test_what_a_program_would_compute_otherwise_is_refused(name, multimodal, depth):
    tokens = {key: value[:2, :4] for key, value in multimodal.processor(text=TEXTS).items()}
    ids = tokens["input_ids"]
    expected = multimodal.encode_text({"input_ids": ids})
    assert torch.allclose(multimodal.encode_text({"input_ids": ids}, backend=name), expected, atol=1e-5)
    zeros = tokens | {"token_type_ids": torch.zeros_like(ids)}
    assert torch.allclose(multimodal.encode_text(zeros, backend=name), multimodal.encode_text(tokens), atol=1e-5)
    for more, message in [
        ({"token_type_ids": torch.ones_like(ids)}, "token_type_ids: a compiled program takes input_ids and attention_"),
        ({"position_ids": torch.arange(4).expand(2, 4)}, "position_ids: a compiled program takes"),
        ({"input_ids": ids + 1000}, r"tokens from 1\d+ to 1\d+, the model has \d+"),
        ({"input_ids": torch.ones(2, 40, dtype=torch.long)}, "40 tokens, the model takes 16"),
    ]:
        with pytest.raises(ValueError, match=message):
            multimodal.encode_text(tokens | more, backend=name)
    with pytest.raises(
        ValueError, match=r"pixel_values \[2, 1, 64, 64\], and this program was compiled for \[N, 1, 32, 32"
    ):
        depth.encode(torch.zeros(2, 1, 64, 64), backend=name)
    depth.processor.size = {"height": 64, "width": 64}
    maps = torch.rand(2, 1, 64, 64)
    assert torch.allclose(depth.encode(maps, backend=name), depth.encode(maps), atol=1e-4)


def test_a_missing_library_is_named(depth, maps, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ImportError, match=r"backend='openvino' needs: pip install 'hf-encoders\[export\]'"):
        depth.encode(maps, backend="openvino")


def test_without_the_package_a_compiled_backend_is_refused_in_one_line(depth, maps, monkeypatch):
    monkeypatch.setattr(backend, "_COMPILERS", {})  # as in a repo's own code, loaded without the package
    with pytest.raises(ImportError, match=r"^backend='onnx' .*'hf-encoders\[export\]', and `import hf_encoders` .*$"):
        depth.encode(maps, backend="onnx")
    assert depth.encode(maps).shape == (9, 12)


def test_threads_share_a_program_that_is_compiled_once(depth, maps, monkeypatch):
    expected, compilations = depth.encode(maps), []
    monkeypatch.setattr(compiled, "export_tower", lambda tower: compilations.append(1) or export_tower(tower))
    shifted = [np.roll(maps, shift, axis=0) for shift in range(8)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda few: depth.encode(list(few), batch_size=2, backend="openvino"), shifted))
    assert compilations == [1]
    for shift, rows in enumerate(found):
        torch.testing.assert_close(rows, expected.roll(shift, 0), atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_a_program_goes_with_its_model(maps):
    model = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY)).eval()
    model.encode(maps, backend="openvino")
    assert model in compiled._KEPT
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None  # the program, which is kept by the model, does not keep it


def test_requests_are_idle_again_after_a_caller_that_stops_early(depth, maps):
    program = get_backend(depth.tower("depth"), "openvino")
    for _ in range(2):
        batches = iter([(range(9), dict(depth.processor(maps)))])
        next(program.embed(batches))
    gc.collect()
    assert len(program._idle) == 1


def test_any_batch_and_any_length(multimodal):
    program = export_tower(multimodal.tower("text")).module()
    for shape in ((1, 2), (3, 7), (5, 16)):
        tokens = torch.randint(5, shape)
        assert program(tokens, torch.ones_like(tokens)).shape == (shape[0], 8)


SIGNAL = """
import signal, sys
from pathlib import Path
import numpy as np, openvino
from openvino import opset13 as ops
from hf_encoders.backends.openvino_backend import OpenVinoBackend

values = ops.parameter([-1, 4], np.float32, name="values")
openvino.save_model(openvino.Model([ops.relu(values)], [values]), sys.argv[1])
backends = [OpenVinoBackend(Path(sys.argv[1]), ("values",), "float32") for _ in range(2)]
for _ in range(2):
    del backends[0]
signal.signal(signal.SIGINT, lambda *_: print("noticed"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_arrives_after_openvino_is_let_go(tmp_path):
    command = [sys.executable, "-X", "faulthandler", "-c", SIGNAL, tmp_path / "tower.xml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "noticed\n"), done.stderr


class Small:
    """A device on which so many inputs fit."""

    def __init__(self, room):
        self.room, self.seen = room, []

    def embed(self, batch):
        size = len(batch["x"])
        self.seen.append(size)
        if size > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return batch["x"] * 2


def batches(*sizes):
    start = 0
    for size in sizes:
        yield range(start, start + size), {"x": torch.arange(start, start + size)[:, None]}
        start += size


def test_batches_are_halved_until_they_fit(caplog):
    device = Small(room=5)
    found = list(TorchBackend(device.embed, torch.device("cpu"), parameters=1).embed(batches(16, 16, 3)))
    assert [index for indices, _ in found for index in indices] == list(range(35))
    assert torch.cat([rows for _, rows in found])[:, 0].tolist() == [2 * index for index in range(35)]
    assert device.seen == [16, 8, *[4] * 8, 3]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == "16 inputs at a time are too many for the memory of cpu: batch_size=4 fits"


def test_one_input_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        list(TorchBackend(Small(room=0).embed, torch.device("cpu"), parameters=1).embed(batches(4)))
