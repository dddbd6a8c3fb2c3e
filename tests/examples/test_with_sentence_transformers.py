"""The examples of sentence-transformers and of MTEB, which stands on it, run as they are."""

import re
import runpy

import pytest
from datasets import Dataset
from transformers import AutoModel

from tests.conftest import ROOT, SAMPLES


def test_captions_find_images_and_depth_maps(capsys):
    runpy.run_path(str(ROOT / "examples" / "with_sentence_transformers.py"), run_name="__main__")
    output = capsys.readouterr().out
    assert "256 dimensions for text and image" in output
    assert float(re.findall(r"from encode_image: (\S+)", output)[0]) < 1e-5
    images, maps = (float(recall) for recall in re.findall(r"captions.*: +(0\.\d+)", output))
    assert images > 0.85 and maps > 0.6  # chance: 0.01


def test_mteb_finds_what_we_find(capsys):
    pytest.importorskip("mteb")
    runpy.run_path(str(ROOT / "examples" / "with_mteb.py"), run_name="__main__")
    found = dict(re.findall(r"^(\w+) +(\d\.\d+)$", capsys.readouterr().out, re.MULTILINE))
    rooms = Dataset.from_parquet(str(SAMPLES / "rooms" / "test.parquet")).select(range(100))
    model = AutoModel.from_pretrained(SAMPLES / "multimodal-rooms")
    texts, images = model.encode_text(rooms["caption"][:]), model.encode_image(rooms["image"][:])
    ranks = (texts @ images.T).argsort(dim=1, descending=True).argsort(dim=1).diagonal()
    for name, k in (("recall_at_1", 1), ("recall_at_10", 10)):
        assert abs(float(found[name]) - float((ranks < k).double().mean())) <= 0.01
