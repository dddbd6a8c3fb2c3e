"""`backend="auto"`: PyTorch, or what is faster by a trial, chosen once."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from hf_encoders.any_encoder import load_encoder
from hf_encoders.backends import choosing
from hf_encoders.backends.choosing import Choice, choice_of, choose_backend
from hf_encoders.embed import ArrowEmbedder
from hf_encoders.models import backend as backends
from hf_encoders.models.backend import chosen_backend
from tests.helpers.embedding_files import manifest_of, run_embed, write_parquet
from tests.helpers.multimodal_models import tiny_model

MANY = 1_000_000


@pytest.fixture
def model():
    torch.manual_seed(0)
    return tiny_model()


@pytest.fixture
def machine(monkeypatch):
    """A machine whose speeds and libraries are given, with the programs that were asked for."""
    state = SimpleNamespace(seconds={"torch": 1.0, "openvino": 0.5, "onnx": 0.5}, installed={"openvino"}, asked=[])

    def get_backend(tower, backend="torch"):
        state.asked.append(backend)
        if state.seconds[backend] is None:
            raise RuntimeError("no such operator")
        return backend

    monkeypatch.setattr(choosing, "get_backend", get_backend)
    monkeypatch.setattr(choosing, "_seconds", lambda tower, backend, count: state.seconds[backend])
    monkeypatch.setattr(choosing, "find_spec", lambda name: name in state.installed or None)
    return state


def test_the_faster_is_taken_and_tried_once(model, machine):
    assert choose_backend(model.tower("text"), MANY) == Choice("openvino", 2.0)
    machine.asked.clear()
    assert choose_backend(model.tower("text"), None).backend == "openvino" and machine.asked == []
    assert choice_of(model.tower("text")).backend == "openvino"
    assert choice_of(model.tower("depth")) == Choice("torch")


@pytest.mark.parametrize(("inputs", "seconds"), [(20, 1.0), (1000, 0.001)], ids=["few", "quick"])
def test_what_cannot_pay_is_not_compiled(inputs, seconds, model, machine):
    machine.seconds["torch"] = seconds
    assert choose_backend(model.tower("text"), inputs) == Choice("torch")
    assert "openvino" not in machine.asked


def test_hardly_faster_is_not_faster(model, machine):
    machine.seconds["openvino"] = 0.95
    assert choose_backend(model.tower("text"), MANY) == Choice("torch")


def test_a_network_that_cannot_be_compiled_is_said_and_computed(model, machine, caplog):
    machine.seconds["openvino"] = None
    with caplog.at_level(logging.WARNING):
        assert choose_backend(model.tower("text"), MANY) == Choice("torch")
    assert "openvino cannot compile this network (RuntimeError: no such operator)" in caplog.text


@pytest.mark.parametrize("error", [OSError("no processor"), KeyError("rows")])
def test_a_tower_that_takes_no_example_is_left_to_pytorch(error, model, monkeypatch):
    def fails(tower, count):
        raise error

    monkeypatch.setattr(choosing, "random_batch", fails)
    monkeypatch.setattr(choosing, "find_spec", lambda name: name)
    assert choose_backend(model.tower("text"), MANY) == Choice("torch")


def test_word_vectors_are_left_to_pytorch(tmp_path, capsys):
    st = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    words = {word: place for place, word in enumerate(["[UNK]", "a", "chair", "lamp"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    st.SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)]).save(str(tmp_path / "words"))
    (tmp_path / "texts.txt").write_text("a chair\n" * 150 + "a lamp\n" * 150)
    run_embed(tmp_path / "words", tmp_path / "texts.txt", tmp_path / "out", "--modality", "text")
    assert manifest_of(tmp_path / "out")["options"]["backend"] == "torch"
    encoder = load_encoder(tmp_path / "words")
    assert encoder.tower("text").encode(["a chair"] * 300, backend="auto").shape == (300, 8)
    assert choose_backend(encoder.tower("text"), MANY) == Choice("torch")


def test_what_is_not_installed_and_other_precisions_are_not_tried(model, machine):
    machine.installed = {"onnxruntime"}
    assert choose_backend(model.tower("depth"), MANY).backend == "onnx"
    machine.installed, machine.asked = set(), []
    assert choose_backend(model.tower("text"), MANY) == Choice("torch")
    machine.installed = {"openvino"}
    assert choose_backend(model.to(torch.bfloat16).tower("text"), MANY) == Choice("torch")
    assert chosen_backend(tiny_model().tower("text"), "auto", "bfloat16", MANY) == "torch"
    assert machine.asked == []


def test_encode_knows_how_many_there_are(model, monkeypatch):
    asked = []
    monkeypatch.setattr(backends, "_CHOOSE", [lambda tower, inputs: asked.append(inputs) or "torch"])
    texts = ["a chair", "a lamp", "a table"]
    assert torch.equal(model.encode_text(texts, backend="auto"), model.encode_text(texts))
    assert asked == [3]
    ArrowEmbedder(model, "caption", "text", backend="auto")
    assert asked == [3, None]  # once for all tables, whose rows are not counted


def test_the_real_trial_of_a_compiled_tower(model, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setattr(choosing, "_LEAST_SECONDS", 0)
    monkeypatch.setattr(choosing, "_LEAST_GAIN", 0)
    maps = np.random.default_rng(0).random((250, 8, 8), dtype=np.float32)
    found = model.encode_depth(maps, backend="auto", convert_to="numpy")
    assert choice_of(model.tower("depth")).backend == "openvino"
    np.testing.assert_allclose(found, model.encode_depth(maps, convert_to="numpy"), atol=1e-4)


@pytest.fixture
def embedding(model, objects_test, tmp_path, monkeypatch):
    """Embed with the chosen backend; the test gives the choice."""
    model.save_pretrained(tmp_path / "model")
    data = write_parquet(objects_test.select(range(4)), tmp_path / "scenes.parquet")

    def embed(choice, *options):
        monkeypatch.setattr(choosing, "choose_backend", lambda tower, inputs: choice)
        monkeypatch.setattr(choosing, "choice_of", lambda tower: choice)
        run_embed(tmp_path / "model", data, tmp_path / "out", "--modality", "depth", *options)
        return manifest_of(tmp_path / "out")["options"]["backend"]

    return embed


def test_a_folder_goes_on_with_the_backend_that_it_began_with(embedding, tmp_path, capsys):
    pytest.importorskip("openvino")
    assert embedding(Choice("openvino", 1.5)) == "openvino"
    assert "computed by openvino, 1.5 times as fast as PyTorch when tried" in capsys.readouterr().err
    (tmp_path / "out" / "manifest.json").unlink()
    assert embedding(Choice("torch")) == "openvino"
    assert json.loads((tmp_path / "out" / "plan.json").read_text())["options"]["backend"] == "openvino"


def test_a_backend_that_is_asked_for_is_taken(embedding, capsys):
    assert embedding(Choice("openvino", 1.5), "--backend", "torch") == "torch"
    assert "computed by" not in capsys.readouterr().err
