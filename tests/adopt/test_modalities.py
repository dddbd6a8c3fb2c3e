"""Depth maps and texts: what a processor and a mask mean is checked, and our tools take the repo."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hf_encoders import load_encoder
from hf_encoders.adopt.errors import AdoptError
from tests.adopt.conftest import command
from tests.helpers.own_networks import imported, trained, write_project

DEPTH_NET = """
from torch import nn


class Range(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(1, width, 4, 4)

    def forward(self, x):
        return self.conv(x).tanh().mean((2, 3))
"""
TEXT_NET = """
import torch
from torch import nn


class Words(nn.Module):
    def __init__(self, words=7, padding_idx=0):
        super().__init__()
        self.table = nn.Embedding(words, 4, padding_idx=padding_idx)

    def forward(self, tokens, {name}):
        keep = {keep}
        x = self.table(tokens).masked_fill(~keep[..., None], 0)
        return x.sum(1) / keep.sum(1, keepdim=True)
"""
WORDS = {"<pad>": 0, "<unk>": 1, "a": 2, "b": 3, "c": 4, " ": 5}


@pytest.fixture
def ranges(tmp_path):
    """A network of depth maps with its weights, and a map in millimetres."""
    write_project(tmp_path, {"range.py": DEPTH_NET})
    torch.save(trained(imported(tmp_path / "range.py", "Range")()).state_dict(), tmp_path / "range.pt")
    values = np.random.default_rng(0).integers(500, 4000, (20, 30)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "map.png")
    return tmp_path


def adopt_range(folder, *words, output="repo"):
    command("adopt", f"{folder}/range.py:Range", "--weights", folder / "range.pt", "--input", "1x1x16x16",
            "--modality", "depth", "--license", "mit", "--output", folder / output, *words)  # fmt: skip


def test_depth_maps_are_embedded_in_their_unit(ranges):
    adopt_range(ranges, "--unit-scale", "0.001", "--value-range", "0", "5")
    encoder = load_encoder(ranges / "repo", trust_remote_code=True)
    assert encoder.towers == ("depth",)
    embedding = encoder.encode_depth([str(ranges / "map.png")], convert_to="numpy")
    settings = json.loads((ranges / "repo" / "preprocessor_config.json").read_text())
    assert (settings["unit_scale"], settings["value_range"]) == (0.001, [0, 5])
    needs = (ranges / "repo" / "requirements.txt").read_text().split()
    assert needs == ["numpy>=2.0", "pillow>=10.3", "torch>=2.7", "transformers>=5.18,<6"]
    pixels = encoder.image_processor.preprocess([str(ranges / "map.png")])["pixel_values"]
    assert -1 < pixels.min() and pixels.max() < 1
    with torch.inference_mode():
        assert np.allclose(encoder.model(pixels).pooler_output.numpy(), embedding, atol=1e-6)


def test_depth_maps_in_metres_stay_as_they_are(ranges):
    adopt_range(ranges, "--unit-scale", "0.001", "--metres")
    encoder = load_encoder(ranges / "repo", trust_remote_code=True)
    pixels = encoder.image_processor.preprocess([str(ranges / "map.png")])["pixel_values"]
    assert 0.5 < pixels.min() < pixels.max() < 4 and pixels.max() > 2


def test_the_proof_takes_an_example_of_a_persons_own(ranges, capsys):
    adopt_range(ranges, "--example", ranges / "map.png")
    report = json.loads((ranges / "repo" / "conversion_report.json").read_text())
    assert report["adopted"]["example"] == "map.png"
    assert report["verification"]["inputs"]["shapes"] == {"0.pixel_values": [1, 1, 16, 16],
                                                          "1.pixel_values": [3, 1, 16, 16]}  # fmt: skip
    assert "`map.png`" in (ranges / "repo" / "README.md").read_text()
    assert "each depth map is stretched" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["x.npy", "x.pt", "x.safetensors"])
def test_an_array_or_a_tensor_is_an_example_and_tells_its_shape(ranges, name):
    from safetensors.torch import save_file

    values = torch.rand(2, 1, 8, 12, dtype=torch.float64)
    if name == "x.npy":
        np.save(ranges / name, values.numpy())
    elif name == "x.pt":
        torch.save(values, ranges / name)
    else:
        save_file({"image": values}, ranges / name)
    command("adopt", f"{ranges}/range.py:Range", "--weights", ranges / "range.pt", "--example", ranges / name,
            "--output", ranges / "repo")  # fmt: skip
    shapes = json.loads((ranges / "repo" / "conversion_report.json").read_text())["verification"]["inputs"]["shapes"]
    assert shapes == {"0.x": [2, 1, 8, 12], "1.x": [4, 1, 8, 12]}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metres", "--value-range", "0", "5"], "--metres takes depths as they are; leave --value-range out"),
        (["--mean", "0.5", "--std", "0.5"], "--mean goes with --modality image"),
        (["--value-range", "5", "0"], "--modality depth: "),
        (["--input", "y=1x1"], "--input y: forward takes x"),
    ],
)
def test_options_of_depth_maps_that_do_not_fit_are_refused(ranges, words, message):
    with pytest.raises((AdoptError, ValueError)) as error:
        adopt_range(ranges, *words)
    assert message in str(error.value) and not (ranges / "repo").exists()


def text_net(folder, name="mask", keep="mask == 1", **arguments):
    write_project(folder, {"words.py": TEXT_NET.format(name=name, keep=keep)})
    network = trained(imported(folder / "words.py", "Words")(**arguments))
    with torch.no_grad():
        network.table.weight[0] = 3  # padding that is read would show
    torch.save(network.state_dict(), folder / "words.pt")
    (folder / "words.json").write_text(json.dumps(WORDS))


def adopt_words(folder, mask="mask=2x9", *words):
    inputs = ["--input", "2x9", *(["--input", mask] if mask else [])]
    command("adopt", f"{folder}/words.py:Words", "--weights", folder / "words.pt", *inputs, "--modality", "text",
            "--tokenizer", folder / "words.json", "--output", folder / "repo", *words)  # fmt: skip


@pytest.mark.parametrize(
    ("keep", "mask"),
    [
        ("mask == 1", "mask=2x9"),
        ("mask", "mask=2x9:bool"),
        ("mask > 0.5", "mask=2x9:float32"),
        ("~mask", "~mask=2x9:bool"),
        ("mask == 0", "~mask=2x9"),
    ],
)
def test_a_mask_means_the_same_for_the_network_and_for_the_tokenizer(tmp_path, keep, mask):
    text_net(tmp_path, keep=keep)
    adopt_words(tmp_path, mask)
    encoder = load_encoder(tmp_path / "repo", trust_remote_code=True)
    both = encoder.encode_text(["abc", "a cab cab"], convert_to="numpy")
    alone = encoder.encode_text(["abc"], convert_to="numpy")
    table = encoder.model.network.table.weight.detach().numpy()
    assert np.allclose(both[:1], alone, atol=1e-6)
    assert np.allclose(alone[0], table[[2, 3, 4]].mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("keep", "mask", "message"),
    [
        ("~mask", "mask=2x9:bool", "is 1 in mask a word? --input '~mask=...' takes it the other way round"),
        ("(mask == 0) | (tokens * 0 == mask.sum(1, keepdim=True) - 9)", "mask=2x9", "say --input '~mask=...'"),
        ("mask == 1", "~mask=2x9", "is 1 in mask a word?"),
    ],
)
def test_a_mask_that_hides_the_words_is_refused(tmp_path, keep, mask, message):
    text_net(tmp_path, keep=keep)
    with pytest.raises(AdoptError) as error:
        adopt_words(tmp_path, mask)
    assert message in str(error.value) and not (tmp_path / "repo").exists()


def test_a_mask_that_hides_nothing_is_said_and_texts_are_padded(tmp_path, capsys):
    text_net(tmp_path, keep="torch.ones_like(tokens) == 1")
    adopt_words(tmp_path)
    assert "texts are padded to 9 words: the embedding changes by" in capsys.readouterr().out
    encoder = load_encoder(tmp_path / "repo", trust_remote_code=True)
    both = encoder.encode_text(["abc", "a cab cab"], convert_to="numpy")
    assert np.allclose(both[:1], encoder.encode_text(["abc"], convert_to="numpy"), atol=1e-6)


def test_without_a_mask_texts_are_padded_as_they_were(tmp_path, capsys):
    text_net(tmp_path, "mask=None", "tokens >= 0")
    adopt_words(tmp_path, "")
    assert "texts are padded to 9 words: the network gets no mask; forward takes mask" in capsys.readouterr().out
    encoder = load_encoder(tmp_path / "repo", trust_remote_code=True)
    table = encoder.model.network.table.weight.detach().numpy()
    alone = encoder.encode_text(["abc"], convert_to="numpy")[0]
    assert np.allclose(alone, table[[2, 3, 4, 0, 0, 0, 0, 0, 0]].mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"words": 5}, "has 6 words, and the network's table 5"),
        ({"padding_idx": 1}, "pads with 0, and the network's table with 1"),
    ],
)
def test_a_tokenizer_that_does_not_fit_the_table_is_refused(tmp_path, arguments, message):
    text_net(tmp_path, **arguments)
    with pytest.raises(AdoptError) as error:
        adopt_words(tmp_path, "mask=2x9", "--kwargs", json.dumps(arguments))
    assert message in str(error.value)


def test_a_mask_of_something_else_is_not_turned_round(ranges):
    words = ("--weights", ranges / "range.pt", "--input", "~x=1x1x16x16", "--output", ranges / "repo")
    with pytest.raises(AdoptError, match="only the mask of a text is turned round"):
        command("adopt", f"{ranges}/range.py:Range", *words)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda file: np.save(file, np.array([{}], dtype=object), allow_pickle=True), "no array that can be read"),
        (lambda file: np.save(file, np.zeros((2, 3), dtype=complex)), "holds torch.complex128, which no input has"),
        (lambda file: np.save(file, np.zeros(3)), "is 3, expected a batch such as 1x3x224x224"),
        (lambda file: np.save(file, np.zeros((1, 2, 16, 16))), "x is 1x2x16x16:float32, and --input says 1x1x16x16"),
    ],
)
def test_an_example_that_does_not_fit_is_refused(ranges, make, message):
    make(ranges / "x.npy")
    with pytest.raises(AdoptError) as error:
        adopt_range(ranges, "--example", ranges / "x.npy")
    assert message in str(error.value) and not (ranges / "repo").exists()


def test_a_picture_needs_a_modality_and_a_size(ranges):
    words = ["adopt", f"{ranges}/range.py:Range", "--weights", ranges / "range.pt", "--output", ranges / "repo"]
    with pytest.raises(AdoptError, match="a picture, so --input 1x3xHxW says which size"):
        command(*words, "--example", ranges / "map.png")
    with pytest.raises(AdoptError, match="a picture, which --modality image or depth reads"):
        command(*words, "--example", ranges / "map.png", "--input", "1x1x16x16")
    with pytest.raises(AdoptError, match="give --input, such as 1x3x224x224, or --example"):
        command(*words)


def test_an_example_of_several_inputs_has_their_names(tmp_path):
    net = DEPTH_NET.replace("self, x)", "self, x, scale)").replace("self.conv(x)", "(self.conv(x) * scale[:, None])")
    write_project(tmp_path, {"range.py": net})
    torch.save(nn.ModuleDict({"conv": nn.Conv2d(1, 4, 4, 4)}).state_dict(), tmp_path / "range.pt")
    torch.save({"x": torch.rand(2, 1, 8, 8), "scale": torch.rand(2, 1, 1)}, tmp_path / "x.pt")
    command("adopt", f"{tmp_path}/range.py:Range", "--weights", tmp_path / "range.pt", "--example", tmp_path / "x.pt",
            "--output", tmp_path / "repo")  # fmt: skip
    shapes = json.loads((tmp_path / "repo" / "conversion_report.json").read_text())["verification"]["inputs"]["shapes"]
    assert shapes["0.scale"] == [2, 1, 1] and shapes["1.scale"] == [4, 1, 1]
    with pytest.raises(AdoptError, match="z is no input; there are x, scale"):
        torch.save({"x": torch.rand(2, 1, 8, 8), "z": torch.rand(2, 1, 1)}, tmp_path / "z.pt")
        command("adopt", f"{tmp_path}/range.py:Range", "--weights", tmp_path / "range.pt", "--input", "2x1x8x8",
                "--input", "2x1x1", "--example", tmp_path / "z.pt", "--output", tmp_path / "other")  # fmt: skip
