"""What was exported is loaded by other libraries: each finds its files by itself."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
import transformers

from hf_encoders import load_encoder
from hf_encoders.backends import onnx_backend
from hf_encoders.backends.exported_files import random_batch
from hf_encoders.commands import main as cli
from hf_encoders.export import export, programs
from tests.helpers.any_encoders import save_encoder
from tests.helpers.multimodal_models import tiny_model

pytest.importorskip("transformers.exporters")
pytest.importorskip("openvino")
TOWERS = {"text": "text_model", "image": "vision_model", "depth": "depth_model"}


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def exported(request, tmp_path_factory):
    """A backend, and a model with three towers that was exported for it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("layout")
    tiny_model().save_pretrained(folder / "model")
    export(str(folder / "model"), folder / "out", request.param)
    return request.param, folder / "out"


# In a process of its own: another `openvino.Core` than ours, once freed, leaves a dangling stack for signals.
BY_TRANSFORMERS = """
import sys
import torch
from transformers.exporters import ExportedModel
folder, backend, batches, rows = sys.argv[1:]
# OpenVINO computes in bfloat16 where the processor can, unless it is told otherwise.
options = {"config": {"INFERENCE_PRECISION_HINT": "f32"}} if backend == "openvino" else {}
loaded = ExportedModel.from_pretrained(folder, subfolder=backend, device="cpu", **options)
found = {name: loaded.runners[name](**batch) for name, batch in torch.load(batches).items()}
torch.save({"names": list(loaded.runners), "found": found}, rows)
"""


def test_transformers_runs_each_tower(exported, tmp_path):
    backend, folder = exported
    encoder = load_encoder(folder)
    batches = {component: random_batch(encoder.tower(name), 3) for name, component in TOWERS.items()}
    torch.save(batches, tmp_path / "batches.pt")
    words = [str(folder), backend, str(tmp_path / "batches.pt"), str(tmp_path / "rows.pt")]
    subprocess.run([sys.executable, "-c", BY_TRANSFORMERS, *words], check=True, capture_output=True)
    loaded = torch.load(tmp_path / "rows.pt")
    assert set(loaded["names"]) == set(TOWERS.values())
    for name, component in TOWERS.items():
        with torch.no_grad():
            expected = encoder.tower(name).embed(batches[component])
        assert loaded["found"][component].keys() == {f"{name}_embeds"}
        found = loaded["found"][component][f"{name}_embeds"]
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_one_onnx_file_is_all_that_a_runtime_needs(exported):
    backend, folder = exported
    if backend != "onnx":
        return
    for name, component in TOWERS.items():
        path = folder / "onnx" / f"{component}.onnx"
        session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        batch = random_batch(load_encoder(folder).tower(name), 2)
        assert [each.name for each in session.get_inputs()] == list(batch)
        (found,) = session.run([f"{name}_embeds"], {key: tensor.numpy() for key, tensor in batch.items()})
        assert found.shape == (2, 8) and np.isfinite(found).all()
        assert (folder / "onnx" / f"{component}.onnx.data").read_bytes() == b""  # transformers asks for it


def test_weights_beyond_one_file_stay_beside_the_graph(tmp_path, tiny_encoder, monkeypatch):
    monkeypatch.setattr(programs, "_LARGEST_FILE", 1000)
    tiny_encoder.save_pretrained(tmp_path / "model")
    report = export(str(tmp_path / "model"), tmp_path / "out", "onnx")
    assert (tmp_path / "out" / "onnx" / "model.onnx.data").stat().st_size > 1000
    assert report["files"] == {"depth": {"float32": "onnx/model.onnx"}}


def test_an_image_processor_has_a_file_of_its_own(exported):
    _, folder = exported
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    size = load_encoder(folder).tower("image").processor.size
    assert settings["size"] == {name: size[name] for name in settings["size"]} != {}
    pictures = [np.full((40, 50, 3), shade, np.uint8) for shade in (30, 200)]
    expected, found = (load_encoder(path).encode_image(pictures) for path in (folder.parent / "model", folder))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "outputs"), [("bert", ["text_embeds", "last_hidden_state"]), ("vit", ["image_embeds"])]
)
def test_an_encoder_with_one_tower_is_called_model(kind, outputs, tmp_path):
    """Pipelines of text features pool the hidden state by themselves."""
    report = export(str(save_encoder(kind, tmp_path / "model")), tmp_path / "out", "onnx")
    assert [list(files.values()) for files in report["files"].values()] == [["onnx/model.onnx"]]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "onnx" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == outputs
    encoder = load_encoder(tmp_path / "out")
    (name,) = encoder.towers
    batch = random_batch(encoder.tower(name), 2)
    with torch.no_grad():
        expected = encoder.tower(name).outputs(batch).last_hidden_state
    if "last_hidden_state" in outputs:
        found = session.run(["last_hidden_state"], {key: tensor.numpy() for key, tensor in batch.items()})[0]
        torch.testing.assert_close(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


def test_a_tower_of_several_keeps_its_name_when_it_is_exported_alone(tmp_path):
    tiny_model().save_pretrained(tmp_path / "model")
    report = export(str(tmp_path / "model"), tmp_path / "out", "openvino", towers=["image"])
    assert report["files"] == {"image": {"float32": "openvino/openvino_vision_model.xml"}}


def test_an_older_transformers_is_told_before_anything_is_written(tmp_path, monkeypatch, tiny_encoder):
    tiny_encoder.save_pretrained(tmp_path / "model")
    monkeypatch.setattr(transformers, "__version__", "5.22.1")
    monkeypatch.setitem(sys.modules, "transformers.exporters", None)
    with pytest.raises(ImportError, match=r"export needs transformers >= 5\.23, here is 5\.22\.1"):
        cli.command(["export", str(tmp_path / "model"), "--to", "onnx", "--output", str(tmp_path / "out")])
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_was_exported_is_read_without_exporters(exported, monkeypatch):
    backend, folder = exported
    monkeypatch.setattr(transformers, "__version__", "5.18.0")
    monkeypatch.setitem(sys.modules, "transformers.exporters", None)
    monkeypatch.setattr("hf_encoders.backends.compiled.export_tower", lambda *_: pytest.fail("compiled again"))
    encoder = load_encoder(folder)
    texts = ["a red chair", "a lamp"]
    expected = encoder.encode_text(texts)
    torch.testing.assert_close(encoder.encode_text(texts, backend=backend), expected, atol=1e-5, rtol=1e-4)


def test_files_of_earlier_versions_are_not_read(exported):
    """Their reports name no files; the towers are compiled from the weights."""
    backend, folder = exported
    path = folder / backend / "export_report.json"
    report = path.read_text()
    try:
        path.write_text(json.dumps({key: value for key, value in json.loads(report).items() if key != "files"}))
        encoder = load_encoder(folder)
        with pytest.raises(ValueError, match=f"out has no text tower in int8 for {backend}; make it with: hf-encoders"):
            encoder.encode_text("a chair", backend=backend, dtype="int8")
        expected = encoder.encode_text("a chair")
        torch.testing.assert_close(encoder.encode_text("a chair", backend=backend), expected, atol=1e-5, rtol=1e-4)
    finally:
        path.write_text(report)


@pytest.mark.parametrize(
    ("available", "chosen"),
    [
        (["CUDAExecutionProvider", "CPUExecutionProvider"], ["CUDAExecutionProvider", "CPUExecutionProvider"]),
        (["CoreMLExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"], ["CPUExecutionProvider"]),
    ],
)
def test_onnx_runs_on_a_gpu_where_the_library_has_one(available, chosen, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    found = onnx_backend.providers()
    assert [name for name, _ in found] == chosen
    assert all(options == {"use_tf32": "0"} for name, options in found if name.startswith("CUDA"))
