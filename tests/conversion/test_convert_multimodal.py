"""Multimodal conversions that succeed: every wrapping, naming and way of saving, the options, what is written."""

import json
import re
from shutil import copy

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, BertConfig, ViTConfig, ViTImageProcessorPil

from hf_encoders import DepthImageProcessor, DepthSemanticEncoderModel, MultimodalEncoderModel
from hf_encoders.conversion.families.legacy.multimodal_layouts import model_name
from hf_encoders.conversion.training_state import read_training_state
from tests.conftest import DATA
from tests.helpers.legacy_files import SAVINGS, cast, convert
from tests.helpers.multimodal_files import NAMINGS, multimodal_state, without_poolers, write_multimodal

FILES = {
    "README.md", "config.json", "conversion_report.json", "model.safetensors", "processor_config.json",
    "tokenizer.json", "tokenizer_config.json", "modules.json", "sentence_bert_config.json",
    "config_sentence_transformers.json",
}  # fmt: skip
TOKENS = "[PAD] [UNK] [CLS] [SEP] [MASK] a photo of chair table red ##s".split()
HIDDEN = 128


@pytest.fixture
def vocabulary(tmp_path):
    """BERT's vocab.txt, alone in a folder."""
    path = tmp_path / "bert" / "vocab.txt"
    path.parent.mkdir()
    path.write_text("\n".join(TOKENS) + "\n")
    return path


@pytest.fixture
def repo(tmp_path, vocabulary):
    """Converted from a training checkpoint with a vocabulary."""
    convert(write_multimodal(tmp_path / "best.pt"), "--tokenizer", vocabulary, "--output", tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def depth_repo(tmp_path, tiny_encoder):
    tiny_encoder.processor = DepthImageProcessor(size=64, normalization="range", value_range=[-1, 1])
    tiny_encoder.save_pretrained(tmp_path / "depth")
    return tmp_path / "depth"


def read_report(repo):
    return json.loads((repo / "conversion_report.json").read_text())


def assert_same_weights(model, state):
    weights = model.state_dict()
    wanted = {model_name(name): tensor for name, tensor in without_poolers(state).items()}
    assert weights.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert weights[name].dtype == tensor.dtype and torch.equal(weights[name], tensor), name


def load(repo, **options):
    """The model, from a repo that has exactly its weights."""
    model, info = AutoModel.from_pretrained(repo, output_loading_info=True, **options)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model


# A bare state dict has no metadata that could hold NumPy numbers; the two training checkpoints differ in one number.
CASES = [(w, s) for w in ("best", "bare") for s in SAVINGS if (w, s) != ("bare", "numpy")] + [("training", "plain")]


@pytest.mark.parametrize(("wrapping", "saving"), CASES)
def test_every_wrapping_in_every_way_of_saving(wrapping, saving, tmp_path):
    dtype = SAVINGS[saving].get("dtype", torch.float32)
    checkpoint = write_multimodal(tmp_path / "best.pt", wrapping, **SAVINGS[saving])
    # Comparing is this test's own work; one of each wrapping verifies itself as well.
    convert(checkpoint, "--allow-no-tokenizer", *([] if saving == "plain" else ["--no-verify"]))
    model = load(tmp_path / "best-hf")
    assert type(model) is MultimodalEncoderModel and model.dtype == dtype
    assert_same_weights(model, cast(multimodal_state(), dtype))
    source = read_report(tmp_path / "best-hf")["source"]
    assert source["layout"] == "multimodal-encoder"
    assert source["wrapping"] == ("bare state dict" if wrapping == "bare" else "training checkpoint")


@pytest.mark.parametrize("naming", NAMINGS)
def test_every_naming(naming, tmp_path):
    state = NAMINGS[naming](multimodal_state())
    out = convert(write_multimodal(tmp_path / "best.pt", state=state), "--allow-no-tokenizer")
    assert_same_weights(load(tmp_path / "best-hf"), multimodal_state())
    report = read_report(tmp_path / "best-hf")
    dropped = [key for key in state if ".pooler." in key or key.endswith("position_ids")]
    assert report["dropped"] == dropped and all(key in out for key in dropped) and ("dropped" in out) == bool(dropped)
    written = load_file(tmp_path / "best-hf" / "model.safetensors").keys()
    assert report["keys"].keys() == state.keys()
    assert {key for key, name in report["keys"].items() if name is None} == set(dropped)
    assert {name for name in report["keys"].values() if name} == written


@pytest.mark.numeric
def test_the_repo_gives_the_legacy_numbers(tmp_path):
    golden = load_file(DATA / "multimodal_tiny_golden.safetensors")
    out = convert(write_multimodal(tmp_path / "best.pt"), "--allow-no-tokenizer")
    word = "consistent, with assumed heads"
    assert all(f"{word}: {name} differ" in out for name in ("text_embeds", "image_embeds", "cosine"))
    inputs = {name: golden[name] for name in ("input_ids", "attention_mask", "pixel_values")}
    with torch.inference_mode():
        outputs = load(tmp_path / "best-hf")(**inputs)
    for name in ("text_embeds", "image_embeds"):
        torch.testing.assert_close(outputs[name], golden[name], rtol=0, atol=1e-5)
    torch.testing.assert_close(outputs.logits_per_text * 0.07, golden["cosine"], rtol=0, atol=1e-5)


def test_what_is_written(repo):
    assert {path.name for path in repo.iterdir()} == FILES
    model = load(repo)
    config = model.config
    assert (config.text_config.num_attention_heads, config.vision_config.num_attention_heads) == (2, 2)
    assert (config.text_pooling, config.vision_pooling, config.projection_dim) == ("cls", "cls", 256)
    assert (config.learn_temperature, config.temperature_init_value, config.depth_config) == (False, 0.07, None)

    report = read_report(repo)
    assert report["source"]["metadata"] == {"epoch": 2, "global_step": 30, "best_loss": 0.125}
    assert report["parameters"]["total"] == model.num_parameters()
    assert report["parameters"]["visual_encoder"] == model.visual_encoder.num_parameters()
    assert report["parts"]["tokenizer"] == "vocab.txt" and report["parts"]["text_config"] is None
    assert report["training_state"] is None and report["untrained"] == []
    for name in ("text_embeds", "image_embeds", "cosine", "temperature"):
        assert report["verification"][name]["largest_difference"] <= 1e-5
    assert str(repo.parent) not in json.dumps(report)

    card = ModelCard.load(repo / "README.md")
    assert card.data.library_name == "transformers" and "vocab.txt" in card.text and "depth" not in card.text


def test_texts_and_images_from_the_converted_repo(repo):
    model = load(repo)
    texts = model.encode_text(["a photo of red chairs", "a table"])
    images = model.encode_image([Image.new("RGB", (40, 20), "red"), Image.new("RGB", (20, 20), "blue")])
    for embeddings in (texts, images):
        assert embeddings.shape == (2, 256) and not torch.equal(embeddings[0], embeddings[1])
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    black = model.image_processor(Image.new("RGB", (8, 8)), return_tensors="pt")["pixel_values"]
    assert black.shape == (1, 3, 32, 32) and black.eq(-1).all()
    assert type(AutoImageProcessor.from_pretrained(repo)).__name__.startswith("ViTImageProcessor")
    # The name of the class that transformers takes with torchvision too.
    settings = json.loads((repo / "processor_config.json").read_text())
    assert settings["image_processor"]["image_processor_type"] == "ViTImageProcessor"


@pytest.mark.parametrize("source", ["bert/vocab.txt", "bert"])
def test_a_vocabulary_is_read_as_that_of_bert_base_uncased(source, vocabulary, tmp_path):
    checkpoint = write_multimodal(tmp_path / "best.pt")
    convert(checkpoint, "--tokenizer", tmp_path / source, "--no-verify")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "best-hf")
    assert tokenizer.convert_ids_to_tokens(tokenizer("A Photo of CHAIRS?").input_ids) == [
        "[CLS]", "a", "photo", "of", "chair", "##s", "[UNK]", "[SEP]",
    ]  # fmt: skip
    assert tokenizer.model_max_length == 64
    assert len(tokenizer("a " * 99, truncation=True).input_ids) == 64


@pytest.mark.parametrize("source", ["bert/vocab.txt", "bert"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_vocabulary_with_a_byte_order_mark_is_the_same(encoding, source, vocabulary, tmp_path):
    vocabulary.with_name("tokenizer_config.json").write_text('{"model_max_length": 20}')
    convert(write_multimodal(tmp_path / "best.pt"), "--tokenizer", tmp_path / source, "--no-verify")
    expected = (tmp_path / "best-hf" / "tokenizer.json").read_bytes()
    vocabulary.write_bytes(vocabulary.read_text().replace("\n", "\r\n").encode(encoding))
    convert(tmp_path / "best.pt", "--tokenizer", tmp_path / source, "--no-verify", "--overwrite")
    assert (tmp_path / "best-hf" / "tokenizer.json").read_bytes() == expected


def test_a_tokenizer_config_beside_the_vocabulary_counts(vocabulary, tmp_path):
    vocabulary.with_name("tokenizer_config.json").write_text('{"do_lower_case": false, "model_max_length": 20}')
    convert(write_multimodal(tmp_path / "best.pt"), "--tokenizer", vocabulary, "--no-verify")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "best-hf")
    assert tokenizer("A a").input_ids == [2, 1, 5, 3] and tokenizer.model_max_length == 20


def test_tokens_that_were_added_count(vocabulary, tmp_path):
    vocabulary.with_name("added_tokens.json").write_text('{"<sofa>": 12}')
    convert(write_multimodal(tmp_path / "best.pt"), "--tokenizer", vocabulary.parent, "--no-verify")
    assert AutoTokenizer.from_pretrained(tmp_path / "best-hf")("a <sofa>").input_ids == [2, 5, 12, 3]


def test_a_saved_tokenizer(repo, tmp_path):
    convert(write_multimodal(tmp_path / "best.pt"), "--tokenizer", repo, "--no-verify")
    assert AutoTokenizer.from_pretrained(tmp_path / "best-hf")("a photo").input_ids == [2, 5, 6, 3]


def test_without_a_tokenizer_the_repo_asks_for_one(tmp_path):
    out = convert(write_multimodal(tmp_path / "best.pt"), "--allow-no-tokenizer")
    assert "warning: there is no tokenizer: set model.processor.tokenizer" in out
    assert {path.name for path in (tmp_path / "best-hf").iterdir()} == {n for n in FILES if "tokenizer" not in n}
    model = load(tmp_path / "best-hf")
    with pytest.raises(ValueError, match="no tokenizer"):
        model.encode_text(["a chair"])
    assert model.encode_image([Image.new("RGB", (9, 9))]).shape == (1, 256)
    assert "model.processor.tokenizer = ..." in (tmp_path / "best-hf" / "README.md").read_text()


def test_towers_that_are_given(vocabulary, tmp_path):
    """Heads, epsilon, tokenizer and image processor come from the towers' own folders."""
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
    text = BertConfig(**sizes, vocab_size=1000, max_position_embeddings=64, dtype="float16")
    text.save_pretrained(vocabulary.parent)
    ViTConfig(**sizes, image_size=32, patch_size=8, layer_norm_eps=1e-5).save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.1] * 3).save_pretrained(tmp_path / "vit")
    towers = ["--text-model", vocabulary.parent, "--vision-model", tmp_path / "vit"]
    checkpoint = write_multimodal(tmp_path / "best.pt")
    out = convert(checkpoint, *towers)
    assert "verified: cosine" in out and "assumed" not in out
    model = load(tmp_path / "best-hf")
    assert model.dtype == model.text_encoder.dtype == torch.float32
    assert (model.config.text_config.num_attention_heads, model.config.vision_config.num_attention_heads) == (4, 4)
    assert model.config.vision_config.layer_norm_eps == 1e-5
    assert model.image_processor.image_mean == (0.1, 0.1, 0.1) and model.text_tokenizer.model_max_length == 64
    assert str(tmp_path) not in (tmp_path / "best-hf" / "config.json").read_text()
    parts = read_report(tmp_path / "best-hf")["parts"]
    assert parts == {"text_config": "bert", "vision_config": "vit", "image_processor": "vit", "tokenizer": "bert"}
    assert "verified: cosine" in convert("--verify", tmp_path / "best-hf", "--against", checkpoint)


def test_the_training_state(tmp_path):
    out = convert(DATA / "multimodal_resume_checkpoint.pt", "--output", tmp_path / "repo", "--allow-no-tokenizer",
                  "--with-training-state")  # fmt: skip
    assert "training state: epoch 0, step 3" in out
    tensors, info = read_training_state(tmp_path / "repo")
    shapes = {name: parameter.shape for name, parameter in load(tmp_path / "repo").named_parameters()}
    kinds = {"exp_avg", "exp_avg_sq", "step"}
    assert tensors.keys() == {f"{name}.{kind}" for name in shapes if name != "temperature" for kind in kinds}
    assert all(tensors[f"{name}.exp_avg"].shape == shapes[name] for name in shapes if name != "temperature")
    legacy = torch.load(DATA / "multimodal_resume_checkpoint.pt", weights_only=True)
    number = list(legacy["model_state_dict"]).index("visual_encoder.encoder.layer.0.intermediate.dense.weight")
    wanted = legacy["optimizer_state_dict"]["state"][number]["exp_avg_sq"]
    assert torch.equal(tensors["visual_encoder.layers.0.mlp.fc1.weight.exp_avg_sq"], wanted)
    assert info == read_report(tmp_path / "repo")["training_state"] and info["best_loss"] == legacy["best_loss"]
    assert "training_state.safetensors" in (tmp_path / "repo" / "README.md").read_text()
    convert("--verify", tmp_path / "repo", "--against", DATA / "multimodal_resume_checkpoint.pt")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_depth_encoder_becomes_the_depth_tower(dtype, vocabulary, depth_repo, tmp_path):
    checkpoint = write_multimodal(tmp_path / "best.pt")
    out = convert(checkpoint, "--tokenizer", vocabulary, "--depth-encoder", depth_repo, "--dtype", dtype)
    assert "warning: depth_projection is untrained" in out and "assumed heads: depth_embeds differ" in out
    model = load(tmp_path / "best-hf")
    expected = DepthSemanticEncoderModel.from_pretrained(depth_repo).to(model.dtype).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.depth_encoder.state_dict().items())
    assert model.config.depth_config.hidden_size == 12
    assert model.depth_processor.value_range == [-1, 1]
    assert 0 < model.depth_projection.weight.std() < 1 and model.depth_projection.bias.eq(0).all()
    embeddings = model.float().encode_depth([torch.rand(40, 40).numpy()])
    assert embeddings.shape == (1, 256)
    report = read_report(tmp_path / "best-hf")
    assert report["untrained"] == ["depth_projection"] and report["parts"]["depth_encoder"] == "depth"
    assert str(tmp_path) not in (tmp_path / "best-hf" / "config.json").read_text()
    assert "mean nothing until" in (tmp_path / "best-hf" / "README.md").read_text()
    assert "heads: depth_embeds differ" in convert("--verify", tmp_path / "best-hf", "--against", checkpoint)
    # The untrained projection is the same each time.
    first = (tmp_path / "best-hf" / "model.safetensors").read_bytes()
    convert(checkpoint, "--tokenizer", vocabulary, "--depth-encoder", depth_repo, "--dtype", dtype, "--overwrite")
    assert (tmp_path / "best-hf" / "model.safetensors").read_bytes() == first


@pytest.mark.parametrize("depth", [False, True])
def test_the_cards_code_runs(depth, vocabulary, depth_repo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--depth-encoder", depth_repo] if depth else []
    convert(write_multimodal("best.pt"), "--tokenizer", vocabulary, "--no-verify", *options)
    for name in ("one.jpg", "two.png"):
        Image.new("RGB", (20, 30), "red").save(name)
    np.save("one.npy", np.random.default_rng(0).random((40, 40), dtype=np.float32))
    code = re.findall("```python\n(.*?)```", ModelCard.load("best-hf/README.md").text, re.DOTALL)
    exec("\n".join(code), names := {})
    assert names["similarity"].shape == (2, 2) and ("depth" in names) == depth


@pytest.mark.numeric
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding(dtype, tmp_path):
    out = convert(write_multimodal(tmp_path / "best.pt"), "--allow-no-tokenizer", "--dtype", dtype)
    assert f"rounding to {dtype}: cosine of the text_embeds at least" in out
    assert_same_weights(load(tmp_path / "best-hf"), cast(multimodal_state(), getattr(torch, dtype)))
    rounding = read_report(tmp_path / "best-hf")["verification"]["rounding"]
    assert rounding["to"] == dtype and rounding["image_embeds"]["largest_difference"] > 0
    assert all(rounding[name]["least_cosine"] > 0.999 for name in ("text_embeds", "image_embeds"))


def test_the_card_of_an_unverified_repo(tmp_path):
    assert "not verified" in convert(write_multimodal(tmp_path / "best.pt"), "--allow-no-tokenizer", "--no-verify")
    assert "was not verified" in (tmp_path / "best-hf" / "README.md").read_text()
    assert read_report(tmp_path / "best-hf")["verification"] is None


def test_the_layout_may_be_stated(tmp_path):
    checkpoint = write_multimodal(tmp_path / "best.pt", "bare")
    assert "bare state dict" in convert(checkpoint, "--layout", "multimodal-encoder", "--allow-no-tokenizer")


def test_same_input_same_repo(vocabulary, tmp_path):
    checkpoint = write_multimodal(tmp_path / "best.pt")
    trees = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        copy(checkpoint, tmp_path / name / "best.pt")
        convert(tmp_path / name / "best.pt", "--tokenizer", vocabulary, "--with-training-state")
        trees.append({path.name: path.read_bytes() for path in (tmp_path / name / "best-hf").iterdir()})
    assert trees[0] == trees[1]
