"""Multimodal conversions that must not succeed: one line, exit status 2, nothing written."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, RobertaConfig, ViTConfig, ViTImageProcessorPil

from hf_encoders.conversion import multimodal
from hf_encoders.conversion.families.legacy import reference_multimodal
from hf_encoders.conversion.multimodal import MultimodalConversion
from tests.helpers.legacy_files import convert, refusal, tree, write_legacy
from tests.helpers.multimodal_files import multimodal_state, write_multimodal

TOKENS = "[PAD] [UNK] [CLS] [SEP] [MASK] a photo of chair".split()
TEXT = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512,
        "vocab_size": 1000, "max_position_embeddings": 64}  # fmt: skip
VISION = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512,
          "image_size": 32, "patch_size": 8}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: best.pt, and text and vision towers whose files fit it."""
    monkeypatch.chdir(tmp_path)
    write_multimodal("best.pt")
    BertConfig(**TEXT).save_pretrained("bert")
    write_vocabulary("bert/vocab.txt")
    ViTConfig(**VISION).save_pretrained("vit")
    return tmp_path


def write_vocabulary(path, tokens=TOKENS):
    with open(path, "w") as file:
        file.write("\n".join(tokens) + "\n")


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refused(folder, *arguments):
    """The one line of a refusal that left everything as it was."""
    before = tree(folder)
    line = refusal(*arguments)
    assert tree(folder) == before
    return line


@pytest.mark.parametrize(
    "option", ["--include-decoder", "--input-channels=1", "--latent-dim=12"], ids=lambda option: option.strip("-")
)
def test_options_for_depth_files(option, folder):
    line = refused(folder, "best.pt", "--tokenizer", "bert", option)
    assert f"best.pt: a multimodal checkpoint; leave {option.partition('=')[0]} out" in line


@pytest.mark.parametrize(
    "option",
    ["--text-model=bert", "--vision-model=vit", "--tokenizer=bert", "--allow-no-tokenizer", "--depth-encoder=vit",
     "--attention-heads=2"],
)  # fmt: skip
def test_options_for_multimodal_files(option, folder):
    write_legacy("depth.pth")
    line = refused(folder, "depth.pth", option)
    assert f"depth.pth: a depth checkpoint; leave {option.partition('=')[0]} out" in line


@pytest.mark.parametrize(
    ("file", "layout", "said"),
    [
        ("best.pt", "depth-autoencoder", "a multimodal (BERT + ViT) checkpoint, not a depth network"),
        ("best.pt", "depth-encoder", "a multimodal (BERT + ViT) checkpoint, not a depth network"),
        ("depth.pth", "multimodal-encoder", "its layout is not multimodal-encoder (leave --layout out"),
    ],
)
def test_the_layout_must_be_the_files(file, layout, said, folder):
    write_legacy("depth.pth")
    assert f"{file}: {said}" in refused(folder, file, "--layout", layout)


def test_no_tokenizer(folder):
    assert "best.pt: holds no tokenizer; give BERT's with --tokenizer" in refused(folder, "best.pt")
    (folder / "bert" / "vocab.txt").unlink()
    line = refused(folder, "best.pt", "--text-model", "bert")
    assert "holds no tokenizer, nor does --text-model bert; give" in line and "--allow-no-tokenizer" in line


# Name → (what is done to the folder, the options, what is said).
SPOILED = {
    "no such folder": (None, ["--text-model", "none/at/all"], "none/at/all: no such file or folder"),
    "no configuration": (
        lambda path: (path / "bert" / "config.json").unlink(),
        ["--text-model", "bert"],
        "--text-model bert: has no config.json; give the folder of a whole model, or its tokenizer alone",
    ),
    "another model": (
        lambda path: RobertaConfig(**TEXT).save_pretrained(path / "bert"),
        ["--text-model", "bert"],
        "--text-model bert: a roberta model, expected bert",
    ),
    "towers exchanged": (None, ["--vision-model", "bert"], "--vision-model bert: a bert model, expected vit"),
    "another size": (
        lambda path: change_json(path / "bert" / "config.json", hidden_size=64),
        ["--text-model", "bert"],
        "the text configuration says hidden_size 64, the file 128",
    ),
    "another activation": (
        lambda path: change_json(path / "vit" / "config.json", hidden_act="relu"),
        ["--vision-model", "vit", "--tokenizer", "bert"],
        "the vit configuration's hidden_act is 'relu', the legacy network's 'gelu'",
    ),
    "damaged configuration": (
        lambda path: (path / "vit" / "config.json").write_text("{"),
        ["--vision-model", "vit"],
        "--vision-model vit: cannot be read",
    ),
    "another image size": (
        lambda path: ViTImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(path / "vit"),
        ["--vision-model", "vit"],
        "its image processor gives [1, 3, 64, 64], the checkpoint expects [1, 3, 32, 32]",
    ),
    "too many tokens": (
        lambda path: write_vocabulary(path / "bert/vocab.txt", [*TOKENS, *map(str, range(1000))]),
        ["--tokenizer", "bert/vocab.txt"],
        "--tokenizer bert/vocab.txt: has 1009 tokens, and the checkpoint embeds 1000; give the tokenizer that",
    ),
    "no special tokens": (
        lambda path: write_vocabulary(path / "bert/vocab.txt", ["a", "b", "[PAD]"]),
        ["--text-model", "bert"],
        "bert/vocab.txt: no BERT vocabulary, it has no [CLS] among 3 lines",
    ),
    "empty vocabulary": (
        lambda path: (path / "bert/vocab.txt").write_text(""),
        ["--tokenizer", "bert/vocab.txt"],
        "no BERT vocabulary, it has no [CLS] among 0 lines",
    ),
    "binary vocabulary": (
        lambda path: (path / "bert/vocab.txt").write_bytes(b"\xff\xfe\0"),
        ["--tokenizer", "bert"],
        "no BERT vocabulary, a text file with one token per line",
    ),
    "the checkpoint as vocabulary": (None, ["--tokenizer", "best.pt"], "--tokenizer best.pt: no BERT vocabulary"),
    "no tokenizer there": (None, ["--tokenizer", "vit"], "--tokenizer vit: has no tokenizer (tokenizer.json, "),
    "a tokenizer without a vocabulary": (
        lambda path: (path / "vit/tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}'),
        ["--tokenizer", "vit"],
        "--tokenizer vit: ",
    ),
    "a tokenizer with code": (
        lambda path: (
            (path / "vit/tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["code.T", null]}}'),
            (path / "vit/code.py").write_text("import pathlib; pathlib.Path('executed').touch()"),
        ),
        ["--tokenizer", "vit"],
        "--tokenizer vit: ",
    ),
    "no depth encoder": (
        None,
        ["--tokenizer", "bert", "--depth-encoder", "bert"],
        "bert: a bert model, expected depth",
    ),
    "no depth repo": (
        None,
        ["--tokenizer", "bert", "--depth-encoder", "none/at/all"],
        "none/at/all: no such file or folder",
    ),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_sources_that_cannot_be_used(kind, folder, monkeypatch):
    spoil, options, said = SPOILED[kind]
    if spoil:
        spoil(folder)
    assert said in refused(folder, "best.pt", *options)


def test_a_depth_repo_without_a_processor(folder, tiny_encoder):
    tiny_encoder.save_pretrained("depth")
    (folder / "depth" / "preprocessor_config.json").unlink()
    line = refused(folder, "best.pt", "--tokenizer", "bert", "--depth-encoder", "depth")
    assert "preprocessor_config.json" in line


def test_a_training_state_that_is_not_there(folder):
    write_multimodal("bare.pt", "bare")
    line = refused(folder, "bare.pt", "--tokenizer", "bert", "--with-training-state")
    assert "bare.pt: holds no optimizer_state_dict" in line


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("visual_projection.bias", lambda t: None, "missing 'visual_projection.bias'"),
        ("text_projection.weight", lambda t: t[:, 1:], "has shape [256, 127], expected [256, 128]"),
        ("temperature", lambda t: t * torch.nan, "temperature holds NaN or infinity"),
        ("temperature", lambda t: t * 0, "temperature_init_value must be positive"),
        ("visual_projection.bias", lambda t: t + 1e5, "visual_projection.bias does not fit into float16"),
    ],
)
def test_bad_files(name, change, said, folder):
    state = multimodal_state()
    state[name] = change(state[name])
    torch.save({"model_state_dict": {n: t for n, t in state.items() if t is not None}}, "bad.pt")
    assert said in refused(folder, "bad.pt", "--tokenizer", "bert", "--dtype", "float16")


def break_a_tensor(monkeypatch):
    write = MultimodalConversion.write
    name = "visual_encoder.encoder.layer.1.output.dense.weight"
    monkeypatch.setattr(MultimodalConversion, "write", lambda c, repo, t: write(c, repo, {**t, name: t[name] * 1.01}))


def lose_a_tensor(monkeypatch):
    """Transformers fills random weights in for what is not in the file, and only says so."""
    write, name = MultimodalConversion.write, "text_projection.bias"

    def wrong(conversion, repo, tensors):
        model = write(conversion, repo, tensors)
        stored = load_file(repo / "model.safetensors")
        save_file({n: t for n, t in stored.items() if n != name}, repo / "model.safetensors", {"format": "pt"})
        return model

    monkeypatch.setattr(MultimodalConversion, "write", wrong)


def break_the_temperature(monkeypatch):
    write = MultimodalConversion.write
    monkeypatch.setattr(
        MultimodalConversion, "write", lambda c, r, t: write(c, r, {**t, "temperature": t["temperature"] + 1})
    )


def break_the_training_state(monkeypatch):
    state = multimodal.legacy_training_state

    def wrong(source):
        tensors, info = state(source)
        return {name.replace("text_projection", "text_projector"): t for name, t in tensors.items()}, info

    monkeypatch.setattr(multimodal, "legacy_training_state", wrong)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (break_a_tensor, "the image_embeds differ from the legacy network's by"),
        (lose_a_tensor, "loads with 1 missing keys, 'text_projection.bias' first"),
        (break_the_temperature, "the temperature differ from the legacy network's by"),
        (break_the_training_state, "the training state does not fit the model"),
    ],
)
def test_a_wrong_conversion_fails_and_leaves_nothing(fault, said, folder, monkeypatch):
    fault(monkeypatch)
    assert said in refused(folder, "best.pt", "--tokenizer", "bert", "--with-training-state")


@pytest.mark.numeric
@pytest.mark.parametrize(("change", "passes"), [(0.8e-5, True), (1.2e-5, False)])
def test_the_limit_is_one_in_a_hundred_thousand(change, passes, folder, monkeypatch):
    embed = reference_multimodal.embed_text
    shift = torch.zeros(256).index_fill(0, torch.tensor(0), change)
    monkeypatch.setattr(reference_multimodal, "embed_text", lambda *arguments: embed(*arguments) + shift)
    if passes:
        convert("best.pt", "--tokenizer", "bert")
    else:
        # The shift, and what rounding adds to it or takes away.
        said = r"the text_embeds differ from the legacy network's by 1\.[123]e-05, more than 1e-05"
        assert re.search(said, refusal("best.pt", "--tokenizer", "bert"))


def test_another_checkpoint_is_not_the_source(folder):
    convert("best.pt", "--tokenizer", "bert", "--no-verify")
    state = multimodal_state()
    write_multimodal("other.pt", state=state | {"text_projection.bias": state["text_projection.bias"] + 1e-3})
    line = refused(folder, "--verify", "best-hf", "--against", "other.pt")
    assert "other.pt: 'text_projection.bias' is not what best-hf holds; it is not its source" in line
    write_legacy("depth.pth")
    assert "depth.pth: " in refused(folder, "--verify", "best-hf", "--against", "depth.pth")


def test_changed_weights_are_found(folder):
    convert("best.pt", "--tokenizer", "bert", "--no-verify", "--with-training-state")
    state = folder / "best-hf" / "training_state.safetensors"
    state.write_bytes(state.read_bytes() + b" ")
    assert "its weights are not those that the conversion wrote" in refused(folder, "--verify", "best-hf")
