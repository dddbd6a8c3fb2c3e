"""What is around a converted encoder: its images, its labels, its card, and the way back to its file."""

import json
import re

import pytest
import torch
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, BitImageProcessorPil, ViTConfig, ViTModel
from transformers.image_utils import PILImageResampling

from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.export import export
from hf_encoders.conversion.verify_repo import verify_repo
from tests.conftest import SAMPLES
from tests.helpers.encoder_files import ResNet, randomised
from tests.helpers.legacy_files import convert as convert_command
from tests.helpers.legacy_files import refusal, tiny_state
from tests.helpers.read_checkpoint import tensors_by_path

STATE = randomised(ResNet(classes=3)).state_dict()
ONE_CHANNEL = randomised(ResNet(channels=1)).state_dict()


@pytest.fixture
def file(tmp_path):
    def save(content):
        torch.save(content, tmp_path / "a.pth")
        return tmp_path / "a.pth"

    return save


def settings(repo):
    return json.loads((repo / "preprocessor_config.json").read_text())


def test_images_are_assumed_in_print(file, tmp_path):
    out = convert_command(file({"model": STATE}), "--output", tmp_path / "repo")
    assert "warning: mean 0.485, 0.456, 0.406 and standard deviation 0.229, 0.224, 0.225 of the images assumed" in out
    assert "warning: images of 224 pixels assumed" in out and "--image-size settles it" in out
    assert "note: no file tells its licence" in out
    processor = AutoImageProcessor.from_pretrained(tmp_path / "repo")
    assert processor(Image.new("L", (300, 260)), return_tensors="pt")["pixel_values"].shape == (1, 3, 224, 224)
    assert processor.size["shortest_edge"] == 256 and processor.resample == PILImageResampling.BILINEAR


def test_images_are_as_a_person_says(file, tmp_path):
    options = ("--mean", "0.5,0.4,0.3", "--std", "0.1,0.2,0.3", "--image-size", "160", "--license", "mit")
    out = convert_command(file({"model": STATE}), "--output", tmp_path / "repo", *options)
    assert out.count("assumed") == 1 and "licence" not in out
    assert (
        "warning: the shorter side of images resized to 182 pixels (bilinear), and the middle 160 taken assumed" in out
    )
    made = settings(tmp_path / "repo")
    assert made["image_mean"] == [0.5, 0.4, 0.3] and made["image_std"] == [0.1, 0.2, 0.3]
    assert made["crop_size"] == {"height": 160, "width": 160}
    card = (tmp_path / "repo" / "README.md").read_text()
    assert "license: mit" in card and "| licence | mit |" in card


@pytest.mark.parametrize(
    ("metadata", "mean", "side", "shorter", "resample"),
    [
        ({"args": {"mean": [0.5] * 3, "std": [0.25] * 3, "img_size": 96, "crop_pct": 0.75}}, 0.5, 96, 128, 2),
        ({"config": {"image_mean": [127.5, 127.5, 127.5], "image_std": [51.0, 51.0, 51.0]}}, 0.5, 224, 256, 2),
        ({"input_size": [3, 64, 64], "interpolation": "bicubic"}, 0.485, 64, 73, 3),
        ({"args": {"mean": None, "std": None, "img_size": None}}, 0.485, 224, 256, 2),
        ({"args": {"mean": [0.1, 0.2], "std": [0.1, 0.2], "img_size": [64, 96]}}, 0.485, 224, 256, 2),
        ({"args": {"mean": [0, 0, 0], "std": [1, 1, 1]}}, 0, 224, 256, 2),
        ({"args": {"mean": [0.5] * 3, "std": [1, 1, 0]}}, 0.485, 224, 256, 2),
        ({"args": {"mean": 0.5, "std": 0.5, "img_size": "large"}}, 0.485, 224, 256, 2),
    ],
)  # fmt: skip
def test_images_are_as_the_file_says(metadata, mean, side, shorter, resample, file, tmp_path):
    convert(file({"model": STATE} | metadata), tmp_path / "repo")
    made = settings(tmp_path / "repo")
    assert made["image_mean"][0] == mean and made["crop_size"]["height"] == side
    assert (made["size"]["shortest_edge"], made["resample"]) == (shorter, resample)


def test_other_channels_have_no_processor_until_a_person_says_more(file, tmp_path):
    out = convert_command(path := file({"model": ONE_CHANNEL}), "--output", tmp_path / "repo")
    assert "warning: there is no image processor, since nothing tells what the network's channels hold" in out
    assert not (tmp_path / "repo" / "preprocessor_config.json").exists()
    out = convert_command(path, "--output", tmp_path / "repo", "--overwrite", "--mean", "0.5", "--std", "0.2")
    processor = AutoImageProcessor.from_pretrained(tmp_path / "repo")
    values = processor(Image.new("L", (300, 260), 255), return_tensors="pt")["pixel_values"]
    assert values.shape == (1, 1, 224, 224) and values.max().item() == pytest.approx(2.5)


def test_an_image_processor_is_taken_over(file, tmp_path):
    convert(path := file({"model": STATE}), tmp_path / "first")
    out = convert_command(path, "--output", tmp_path / "repo", "--image-processor", tmp_path / "first")
    assert "assumed" not in out and settings(tmp_path / "repo") == settings(tmp_path / "first")
    line = refusal(path, "--image-processor", tmp_path / "first", "--mean", "0,0,0", "--std", "1,1,1")
    assert "--image-processor says the mean, the deviation and the size; leave them out" in line
    line = refusal(file({"model": ONE_CHANNEL}), "--image-processor", tmp_path / "first")
    assert "--image-processor" in line and "image processor" in line


def test_images_of_another_size_than_the_positions_are_interpolated_later(file, tmp_path):
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 64}
    vit = ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8))
    path = file({"model": randomised(vit).state_dict()})
    line = refusal(path, "--output", tmp_path / "repo", "--image-size", "64")
    assert (
        "--image-size 64: the file's positions are those of 32 pixels; leave it out, and say --interpolate 64" in line
    )
    BitImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    line = refusal(path, "--output", tmp_path / "repo", "--image-processor", tmp_path)
    assert "the checkpoint expects [1, 3, 32, 32]; leave it out, and say --interpolate SIZE" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mean", "0.5,0.5,0.5"], "--mean and --std go together"),
        (["--mean", "0.5", "--std", "0.5"], "--mean has 1 numbers, and the network takes 3 channels"),
        (["--mean", "123,117,104"], "no list of numbers from 0 to 1"),
        (["--mean", "0,0,0", "--std", "1,1,0"], "--std holds a zero"),
        (["--image-size", "0"], "no number of pixels"),
        (["--tokenizer", str(SAMPLES / "tokenizer" / "vocab.txt")], "has no use for --tokenizer; leave it out"),
        (["--pooling", "cls"], "has no use for --pooling; leave it out"),
        (["--hidden-act", "gelu"], "a ResNet has no --hidden-act; leave it out"),
        (["--attention-heads", "2"], "a ResNet has no --attention-heads; leave it out"),
        (["--layer-norm-eps", "2"], "no number between 0 and 1"),
        (["--latent-dim", "7"], "a checkpoint of the family resnet; leave --latent-dim out"),
        (["--text-model", "."], "a checkpoint of the family resnet; leave --text-model out"),
        (["--with-remote-code"], "transformers loads its repo without further code; leave remote code out"),
        (["--layout", "vit"], "its layout is resnet, not vit"),
        (["--layout", "depth-encoder"], "its layout is resnet, not depth-encoder"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said, file, tmp_path):
    assert said in refusal(file({"model": STATE}), "--output", tmp_path / "repo", *options)
    assert not (tmp_path / "repo").exists()


def test_options_of_encoders_are_refused_for_our_own_files(tmp_path):
    torch.save(tiny_state(), tmp_path / "a.pth")
    for option in (
        ["--hidden-act", "gelu"],
        ["--without-head"],
        ["--mean", "0,0,0", "--std", "1,1,1"],
        ["--tokenizer", "."],
    ):
        assert "a depth checkpoint; leave --" in refusal(tmp_path / "a.pth", *option)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"classes": ["a", "b", "c"]}, ["a", "b", "c"]),
        ({"meta": {"dataset_meta": {"classes": ("a", "b", "c")}}}, ["a", "b", "c"]),
        ({"class_to_idx": {"b": 1, "a": 0, "c": 2}}, ["a", "b", "c"]),
        ({"hparams": {"id2label": {"0": "a", "1": "b", "2": "c"}}}, ["a", "b", "c"]),
        ({"names": {0: "a", 1: "b", 2: "c"}}, ["a", "b", "c"]),
        ({"classes": ["a", "b"]}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"classes": ["a", "a", "b"]}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
        ({"classes": 3}, ["LABEL_0", "LABEL_1", "LABEL_2"]),
    ],
)
def test_labels_are_the_files_where_it_has_them(names, expected, file, tmp_path):
    convert(file({"model": STATE} | names), tmp_path / "repo")
    assert list(AutoConfig.from_pretrained(tmp_path / "repo").id2label.values()) == expected


def test_the_tensors_go_back_under_their_old_names(file, tmp_path):
    state = {f"module.backbone.{name}": tensor for name, tensor in STATE.items()}
    path = file({"best": {"state_dict": state | {"neck.weight": torch.ones(3)}}, "epoch": 3})
    convert(path, tmp_path / "repo")
    notes = export(str(tmp_path / "repo"), tmp_path / "back.pth")
    before, after = tensors_by_path(path), tensors_by_path(tmp_path / "back.pth")
    dropped = ("best", "state_dict", "neck.weight")
    assert notes == ["missing: neck.weight, which the conversion did not keep"]
    assert after.keys() == before.keys() - {dropped}
    assert all(torch.equal(after[key], before[key]) and after[key].dtype == before[key].dtype for key in after)
    line = refusal_of_export(tmp_path)
    assert "has no decoder; leave --autoencoder out" in line


def refusal_of_export(tmp_path):
    with pytest.raises(ValueError) as error:
        export(str(tmp_path / "repo"), tmp_path / "again.pth", autoencoder=True)
    return str(error.value)


def test_a_repo_is_verified_again_alone_and_against_its_file(file, tmp_path):
    path = file({"model": STATE, "model_ema": {name: tensor.clone() for name, tensor in STATE.items()}})
    convert(path, tmp_path / "repo")
    for checkpoint in (None, path):
        verification = verify_repo(str(tmp_path / "repo"), checkpoint)
        assert all(verification[name]["relative_difference"] < 1e-5 for name in ("last_hidden_state", "logits"))
    torch.save({"other": STATE | {"fc.bias": STATE["fc.bias"] + 1}}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=re.escape("'fc.bias' is not what")):
        verify_repo(str(tmp_path / "repo"), tmp_path / "b.pth")
    torch.save(ONE_CHANNEL, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=re.escape("it is not its source")):
        verify_repo(str(tmp_path / "repo"), tmp_path / "b.pth")


def test_a_verification_notices_a_wrong_network(file, tmp_path):
    """The reference and the repo are independent: a changed setting shows."""
    state = randomised(ResNet(bottleneck=True)).state_dict()
    convert(file({"model": state}), tmp_path / "repo")
    config = tmp_path / "repo" / "config.json"
    content = json.loads(config.read_text()) | {"downsample_in_bottleneck": True}
    config.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="differ from the"):
        verify_repo(str(tmp_path / "repo"))


def test_rounded_weights_are_compared_too(file, tmp_path):
    out = convert_command(file({"model": STATE}), "--output", tmp_path / "repo", "--dtype", "float16")
    assert "rounding to float16: cosine of the pooler_output at least " in out


def test_the_code_on_the_card_runs(file, tmp_path, monkeypatch):
    for name, state in (("with-images", STATE), ("without", ONE_CHANNEL)):
        convert(file({"model": state}), tmp_path / name)
        card = (tmp_path / name / "README.md").read_text()
        monkeypatch.chdir(tmp_path)
        for code in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
            exec(code, namespace := {})
        assert namespace["features"].shape == (1, 64)
