"""Towers of other libraries' encoders are compiled as ours are."""

import json

import pytest
import torch

from hf_encoders import load_encoder
from hf_encoders.export.towers import export
from tests.conftest import SAMPLES
from tests.helpers.any_encoders import KINDS, TEXTS, save_encoder

CAPTIONS = ["a red chair", "the lamp on a table", "a blue table"]


def inputs_of(modality):
    if modality == "text":
        return CAPTIONS
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(40, 50, 3, generator=generator) * 255).to(torch.uint8).numpy() for _ in range(3)]


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_repo_gives_the_same(kind, backend, tmp_path):
    report = export(str(save_encoder(kind, tmp_path / "model")), tmp_path / "exported", backend)
    encoder = load_encoder(tmp_path / "exported")
    assert set(report["towers"]) == set(encoder.towers)
    for modality in encoder.towers:
        encode, inputs = encoder.tower(modality).encode, inputs_of(modality)
        expected, found = encode(inputs), encode(inputs, backend=backend)
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("kind", ["vit", "bert"])
def test_int8_is_of_one_pooling(kind, tmp_path):
    """No random inputs can tell whether a file in 8 bits pools otherwise: the report does."""
    folder = save_encoder(kind, tmp_path / "model", scale=4)
    data = tmp_path / "captions.jsonl"
    data.write_text("".join(json.dumps({"caption": text}) + "\n" for text in CAPTIONS * 3))
    calibration = str(data) if kind in TEXTS else str(SAMPLES / "rooms" / "validation.parquet")
    report = export(str(folder), tmp_path / "exported", "onnx", calibration=calibration, pooling="cls")
    modality = load_encoder(folder).towers[0]
    assert report["pooling"] == {modality: "cls"} and report["towers"][modality]["int8"]["least_cosine"] > 0.9
    same, other = (load_encoder(tmp_path / "exported", pooling=pooling).tower(modality) for pooling in ("cls", "mean"))
    assert same.encode(inputs_of(modality), backend="onnx", dtype="int8").shape[0] == 3
    with pytest.raises(ValueError, match="another pooling"):
        other.encode(inputs_of(modality), backend="onnx", dtype="int8")
    expected, found = other.encode(inputs_of(modality)), other.encode(inputs_of(modality), backend="onnx")
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()  # compiled anew
