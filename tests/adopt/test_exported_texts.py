"""Adopted networks of texts as compiled towers: no file says how long their texts may be, but the tokenizer knows."""

import json

import numpy as np
import pytest
import torch

from hf_encoders import load_encoder
from tests.adopt.conftest import ALPHABET, command
from tests.helpers.own_networks import built

NET = """
import torch
from torch import nn


class Chars(nn.Module):
    def __init__(self, words, length=12):
        super().__init__()
        self.table = nn.Embedding(words, 8, padding_idx=0)
        self.places = nn.Parameter(torch.randn(length, 8))

    def forward(self, ids, mask=None):
        tokens = torch.tanh(self.table(ids) + self.places[: ids.shape[1]])
        if mask is None:
            return tokens.mean(1)
        share = mask[..., None].to(tokens.dtype)
        return (tokens * share).sum(1) / share.sum(1)
"""
TEXTS = ["a cat", "some dogs and more than twelve letters", "x"]


@pytest.mark.parametrize("inputs", [["ids=1x12"], ["ids=1x12", "mask=1x12"]], ids=["padded", "mask"])
def test_a_table_of_places_is_exported_with_its_length(inputs, tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install 'hf-encoders[export]'")
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "alphabet.json").write_text(json.dumps(ALPHABET))
    torch.save(built(NET, "Chars", len(ALPHABET)).state_dict(), tmp_path / "net.pt")
    shapes = [word for shape in inputs for word in ("--input", shape)]
    command("adopt", f"{tmp_path}/net.py:Chars", "--weights", tmp_path / "net.pt", "--kwargs",
            json.dumps({"words": len(ALPHABET)}), *shapes, "--modality", "text", "--tokenizer",
            tmp_path / "alphabet.json", "--output", tmp_path / "repo")  # fmt: skip
    command("export", tmp_path / "repo", "--to", "onnx", "--output", tmp_path / "compiled", "--trust-remote-code")
    model = load_encoder(tmp_path / "compiled", trust_remote_code=True)
    one, two = (
        model.encode_text(TEXTS, backend=backend, convert_to="numpy", normalize=True) for backend in ("torch", "onnx")
    )
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_network_without_a_mask_is_adopted(tmp_path, capsys):
    text = NET.replace(", mask=None", "").partition("        if mask")[0] + "        return tokens.mean(1)\n"
    (tmp_path / "net.py").write_text(text)
    (tmp_path / "alphabet.json").write_text(json.dumps(ALPHABET))
    torch.save(built(text, "Chars", len(ALPHABET)).state_dict(), tmp_path / "net.pt")
    command("adopt", f"{tmp_path}/net.py:Chars", "--weights", tmp_path / "net.pt", "--kwargs",
            json.dumps({"words": len(ALPHABET)}), "--input", "1x12", "--modality", "text", "--tokenizer",
            tmp_path / "alphabet.json", "--output", tmp_path / "repo")  # fmt: skip
    assert "texts are padded to 12 words: the network gets no mask\n" in capsys.readouterr().out
