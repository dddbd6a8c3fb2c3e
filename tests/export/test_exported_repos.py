"""Exported repos: towers in files of their own, with their parity, that `encode` reads."""

import json

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel

from hf_encoders import DepthImageProcessor
from hf_encoders.backends import compiled
from hf_encoders.commands import main as cli
from hf_encoders.export import towers
from tests.helpers.multimodal_models import tiny_model

pytest.importorskip("openvino")
pytest.importorskip("nncf")


@pytest.fixture(scope="module")
def calibration(tmp_path_factory, objects_test):
    """Thirty depth maps."""
    path = tmp_path_factory.mktemp("calibration") / "maps.parquet"
    objects_test.select(range(30)).select_columns(["depth"]).to_parquet(path)
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory, calibration):
    """A model and the folder that a command wrote for it, without its image tower."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("exported")
    tiny_model().save_pretrained(folder / "model")
    (folder / "model" / "checkpoints" / "checkpoint-1").mkdir(parents=True)  # of a training run
    options = ["--tower", "text", "--tower", "depth", "--int8", "--calibration", str(calibration)]
    cli.command(["export", str(folder / "model"), "--to", "openvino", "--output", str(folder / "out"), *options])
    return folder


def test_the_report_states_the_parity_of_each_tower(exported):
    report = json.loads((exported / "out" / "openvino" / "export_report.json").read_text())
    assert report["towers"].keys() == {"text", "depth"} and report["towers"]["text"].keys() == {"float32"}
    for tower in report["towers"].values():
        assert 0 <= tower["float32"]["relative_difference"] <= 1e-5
    assert report["towers"]["depth"]["int8"]["mean_cosine"] > 0.9
    files = {path.name for path in (exported / "out" / "openvino").iterdir()}
    names = ("text_model", "depth_model", "depth_model_quantized")
    towers = {f"openvino_{name}.{kind}" for name in names for kind in ("xml", "bin")}
    assert files == {"export.json", "export_report.json"} | towers
    assert not (exported / "out" / "checkpoints").exists() and (exported / "out" / "config.json").is_file()


def test_encode_reads_the_files(exported, objects_test, monkeypatch):
    maps, plain = objects_test[:5]["depth"], AutoModel.from_pretrained(exported / "model")
    model = AutoModel.from_pretrained(exported / "out")
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "export_tower", lambda *_: pytest.fail("compiled again"))
        exact = model.encode_depth(maps, backend="openvino")
        small = model.encode_depth(maps, backend="openvino", dtype="int8")
        texts = model.encode_text("a red chair", backend="openvino")
    assert torch.allclose(exact, plain.encode_depth(maps), atol=1e-5)
    assert torch.allclose(texts, plain.encode_text("a red chair"), atol=1e-5)
    assert not torch.equal(small, exact) and torch.cosine_similarity(small, exact).mean() > 0.9


def test_other_weights_do_not_use_the_files(exported, objects_test):
    maps = objects_test[:2]["depth"]
    model = AutoModel.from_pretrained(exported / "out")
    with torch.no_grad():
        model.depth_projection.bias.add_(1)
    assert torch.allclose(model.encode_depth(maps, backend="openvino"), model.encode_depth(maps), atol=1e-5)
    with pytest.raises(ValueError, match="openvino/openvino_depth_model_quantized.xml was made of other weights"):
        model.encode_depth(maps, backend="openvino", dtype="int8")
    with pytest.raises(ValueError, match="out has no image tower in int8 for openvino; make it with: hf-enc"):
        model.encode_image(objects_test[:2]["image"], backend="openvino", dtype="int8")


def test_another_function_of_the_same_weights_does_not_use_the_files(exported, objects_test):
    maps = objects_test[:2]["depth"]
    model = AutoModel.from_pretrained(exported / "out")
    model.text_projection.register_forward_hook(lambda module, inputs, output: output.flip(-1))
    assert torch.allclose(model.encode_text("a chair", backend="openvino"), model.encode_text("a chair"), atol=1e-5)
    model = AutoModel.from_pretrained(exported / "out")
    model.config.text_pooling = "cls" if model.config.text_pooling == "mean" else "mean"
    assert torch.allclose(model.encode_text("a chair", backend="openvino"), model.encode_text("a chair"), atol=1e-5)
    with pytest.raises(ValueError, match="openvino_depth_model_quantized.xml was made of another configuration"):
        model.encode_depth(maps, backend="openvino", dtype="int8")


def test_onnx_in_8_bits(tmp_path, tiny_encoder, calibration, objects_test):
    tiny_encoder.processor = DepthImageProcessor(size=32)
    tiny_encoder.save_pretrained(tmp_path / "depth")
    report = towers.export(str(tmp_path / "depth"), tmp_path / "out", "onnx", calibration=str(calibration))
    assert report["towers"]["depth"]["float32"]["relative_difference"] <= 1e-5
    model, maps = AutoModel.from_pretrained(tmp_path / "out"), objects_test[:5]["depth"]
    small, exact = (model.encode(maps, backend="onnx", dtype=dtype) for dtype in ("int8", None))
    assert torch.cosine_similarity(small, exact).mean() > 0.9 and not torch.equal(small, exact)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--int8"], "--int8 and --calibration go together"),
        (["--tower", "depth"], "the model embeds text and image, not depth"),
        (
            ["--int8", "--calibration", "words.parquet", "--tower", "image"],
            "words.parquet: which column holds the images",
        ),
        (["--output", "model"], "exists already"),
    ],
)
def test_what_cannot_be_exported(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_model(depth=False).save_pretrained("model")
    Dataset.from_dict({"words": ["a"]}).to_parquet("words.parquet")
    with pytest.raises((ValueError, OSError), match=message):
        cli.command(["export", "model", "--to", "openvino", *options])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "words.parquet"]


def test_a_tower_that_differs_is_not_written(tmp_path, tiny_encoder, monkeypatch):
    tiny_encoder.save_pretrained(tmp_path / "depth")
    monkeypatch.setattr(towers, "_TOLERANCE", -1.0)
    with pytest.raises(towers.ExportError, match="depth: the openvino tower differs from PyTorch by"):
        towers.export(str(tmp_path / "depth"), tmp_path / "out", "openvino")
    assert [path.name for path in tmp_path.iterdir()] == ["depth"]
