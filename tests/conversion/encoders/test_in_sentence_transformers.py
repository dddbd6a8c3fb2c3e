"""Converted repos give in sentence-transformers what they give in transformers."""

import json
import re

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer

from hf_encoders import load_encoder
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.encoders.conversion import InputOptions
from hf_encoders.conversion.families.family import EncoderOptions
from tests.conversion.encoders.test_texts import clip, write_lines
from tests.helpers.clip_network import Clip
from tests.helpers.convnext_network import ConvNext
from tests.helpers.encoder_files import ResNet, difference, randomised
from tests.helpers.foreign_encoders import randomise
from tests.helpers.small_texts import SmallBert, SmallFairseq
from tests.helpers.vit_networks import vit

TEXTS = ["a chair", "a a a a low", "chair"]
PICTURES = [Image.new("RGB", (50, 40), colour) for colour in ("red", "green")]
TWO = EncoderOptions(attention_heads=(2,))


def repo_of(content, folder, **options):
    torch.save(content, folder / "file.pth")
    return str(convert(folder / "file.pth", folder / "repo", **options))


def modules(repo):
    return json.loads((repo / "modules.json").read_text())


@pytest.mark.parametrize("pooling", [None, "cls", "mean"])
@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_texts(family, pooling, tmp_path):
    network = SmallBert() if family == "bert" else SmallFairseq(positions=26)
    state = network.state_dict()
    content = state if family == "bert" else {f"decoder.sentence_encoder.{name}": t for name, t in state.items()}
    source = (write_lines if family == "bert" else small_roberta)(tmp_path)
    inputs = InputOptions(tokenizer=str(source), pooling=pooling)
    repo = repo_of(content, tmp_path, encoder=TWO, inputs=inputs)
    encoder = SentenceTransformer(repo)
    assert encoder.max_seq_length == AutoTokenizer.from_pretrained(repo).model_max_length
    tokens = AutoTokenizer.from_pretrained(repo)(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(repo)(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    expected = hidden[:, 0] if pooling == "cls" else (hidden * mask).sum(1) / mask.sum(1)
    assert difference(encoder.encode(TEXTS, convert_to_tensor=True).cpu(), expected) < 1e-5
    report = json.loads((tmp_path / "repo" / "conversion_report.json").read_text())
    assumed = [each for each in report["assumed"] if each["quantity"] == "pooling"]
    assert len(assumed) == (pooling is None)
    assert encoder.prompts == {"query": "", "document": ""} and encoder.similarity_fn_name == "cosine"
    assert (tmp_path / "repo" / "config_sentence_transformers.json").is_file()
    assert difference(load_encoder(repo).encode_text(TEXTS), expected) < 1e-5


def small_roberta(folder):
    """RoBERTa's tokenizer, cut to the vocabulary of the small network."""
    folder = folder / "roberta"
    folder.mkdir()
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "a", "c", "h", "i", "r", "l", "o", "w", "Ġ", "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


@pytest.mark.parametrize("name", ["vit", "vit with a classifier", "convnext"])
def test_images(name, tmp_path):
    contents = {
        "vit": lambda: vit(grid=(4, 4)).state_dict(),
        "vit with a classifier": lambda: vit(grid=(4, 4), classes=3).state_dict(),
        "convnext": lambda: randomise(ConvNext()).state_dict(),
    }
    options = {} if name == "convnext" else {"encoder": EncoderOptions(attention_heads=(3,))}
    repo = repo_of(contents[name](), tmp_path, **options)
    pixels = AutoImageProcessor.from_pretrained(repo)(PICTURES, return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModel.from_pretrained(repo)(**pixels).pooler_output
    embeddings = SentenceTransformer(repo).encode(PICTURES, convert_to_tensor=True).cpu()
    assert difference(embeddings, expected) < 1e-5
    assert difference(load_encoder(repo).encode_image(PICTURES), expected) < 1e-5


def test_texts_and_images_of_a_clip(tmp_path):
    (tmp_path / "words").mkdir()
    network = Clip(vocabulary=520).state_dict()
    inputs = InputOptions(tokenizer=str(clip(tmp_path / "words")))
    repo = repo_of(network, tmp_path, encoder=EncoderOptions(attention_heads=(2, 3)), inputs=inputs)
    processor = AutoProcessor.from_pretrained(repo)
    with torch.inference_mode():
        outputs = AutoModel.from_pretrained(repo)(
            **processor(text=TEXTS, images=PICTURES, padding=True, return_tensors="pt")
        )
    encoder = SentenceTransformer(repo)
    texts, images = (encoder.encode(given, convert_to_tensor=True).cpu() for given in (TEXTS, PICTURES))
    assert difference(texts, outputs.text_embeds) < 1e-5
    assert difference(images, outputs.image_embeds) < 1e-5
    assert torch.allclose(F.normalize(texts), texts, atol=1e-6)
    ours = load_encoder(repo)
    assert ours.towers == ("text", "image")
    assert difference(ours.encode_text(TEXTS), texts) < 1e-5
    assert difference(ours.encode_image(PICTURES), images) < 1e-5


def test_what_it_cannot_load_has_no_files_for_it(tmp_path):
    repo_of(randomised(ResNet()).state_dict(), tmp_path)
    assert not (tmp_path / "repo" / "modules.json").exists()
    card = (tmp_path / "repo" / "README.md").read_text()
    assert not re.search("sentence-transformers|SentenceTransformer", card)


def test_the_code_on_the_card_runs(tmp_path, monkeypatch):
    inputs = InputOptions(tokenizer=str(write_lines(tmp_path)), pooling="cls")
    repo_of(SmallBert().state_dict(), tmp_path, encoder=TWO, inputs=inputs)
    monkeypatch.chdir(tmp_path)
    codes = re.findall(r"```python\n(.*?)```", (tmp_path / "repo" / "README.md").read_text(), re.DOTALL)
    assert len(codes) == 2
    for code in codes:
        exec(code, {})
