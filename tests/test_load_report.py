"""A head that embeddings do not need is left out with one line; what is missing is never passed over."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, ResNetConfig, ResNetForImageClassification
from transformers.utils import logging as transformers_logging

from hf_encoders import load_encoder
from hf_encoders.models.input_errors import InputError


@pytest.fixture
def log(caplog, monkeypatch):
    """What is logged, by transformers too, which keeps its records to itself."""
    monkeypatch.setattr(transformers_logging.get_logger(), "propagate", True)
    before = transformers_logging.get_verbosity()  # a command that ran before may have quieted it
    transformers_logging.set_verbosity_warning()
    caplog.set_level(logging.WARNING)
    yield lambda: [record.getMessage() for record in caplog.records]
    transformers_logging.set_verbosity(before)


@pytest.fixture
def resnet(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    ResNetForImageClassification(config).save_pretrained(tmp_path / "resnet")
    return tmp_path / "resnet"


def with_weights(folder, change):
    """Change the weights of a repo."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})
    return folder


def test_a_head_is_left_out_with_one_line(resnet, log):
    load_encoder(resnet)
    head = "the head of a ResNetForImageClassification is left out (classifier)"
    assert log() == [f"{resnet}: a ResNetModel is loaded; {head}"]


def test_so_is_a_pooler_that_has_no_weights(tmp_path, log):
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16)
    BertForMaskedLM(config).save_pretrained(tmp_path / "bert")
    assert load_encoder(tmp_path / "bert").model.pooler is None
    (line,) = log()
    assert "BertForMaskedLM is left out (cls); there are no weights of a pooler, and it has none" in line


def test_a_repo_without_a_head_says_nothing(resnet, log):
    ResNetForImageClassification.from_pretrained(resnet).resnet.save_pretrained(resnet)
    load_encoder(resnet)
    assert log() == []


def test_more_layers_than_the_configuration_has_are_reported(resnet, log):
    config = json.loads((resnet / "config.json").read_text())
    (resnet / "config.json").write_text(json.dumps(config | {"depths": [1, 1]}))
    name = "resnet.encoder.stages.1.layers.7.layer.0.convolution.weight"
    with_weights(resnet, lambda weights: weights.update({name: torch.zeros(1)}))
    load_encoder(resnet)
    (report,) = log()
    assert "LOAD REPORT" in report and "layers.7" in report and "UNEXPECTED" in report


def test_what_is_missing_is_reported_and_refused(resnet, log):
    name = "resnet.encoder.stages.1.layers.0.layer.0.convolution.weight"
    with_weights(resnet, lambda weights: weights.pop(name))
    with pytest.raises(InputError, match="at random, since the repo has no such weights"):
        load_encoder(resnet)
    (report,) = log()
    assert "MISSING" in report


def test_what_does_not_fit_is_reported_and_refused(resnet, log):
    name = "resnet.encoder.stages.1.layers.0.layer.0.convolution.weight"
    with_weights(resnet, lambda weights: weights.update({name: torch.zeros(2)}))
    with pytest.raises(RuntimeError):
        load_encoder(resnet)
    (report,) = log()
    assert "MISMATCH" in report
