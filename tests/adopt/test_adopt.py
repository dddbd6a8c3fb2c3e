import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoModel

from hf_encoders import load_encoder
from hf_encoders.commands import main as cli
from tests.adopt.conftest import SHAPES


@pytest.mark.parametrize("name", SHAPES)
def test_a_network_in_the_style_of_research_becomes_a_repo_with_the_same_bits(repos, projects, name):
    repo = repos(name)
    report = json.loads((repo / "conversion_report.json").read_text())
    verification = report["verification"]
    assert verification["pooler_output"]["largest_difference"] == 0
    assert verification["last_hidden_state"]["largest_difference"] == 0
    assert {shape[0] for shape in verification["inputs"]["shapes"].values()} == {1, 3}
    assert str(projects) not in (repo / "conversion_report.json").read_text() + (repo / "README.md").read_text()
    model, info = AutoModel.from_pretrained(repo, trust_remote_code=True, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with safe_open(repo / "model.safetensors", "pt") as file:
        saved = {name.removeprefix("network.") for name in file.keys()}
    assert {f"network.{name}" for name in saved} <= set(model.state_dict())


@pytest.mark.parametrize("name", ["cnn", "vit", "lit"])
def test_images_are_embedded_by_our_tools(repos, name):
    encoder = load_encoder(repos(name), trust_remote_code=True)
    images = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    embeddings = encoder.encode_image(images, convert_to="numpy")
    pixels = encoder.image_processor(images[0], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        alone = encoder.model(pixels).pooler_output
    assert np.allclose(embeddings[:1], alone.numpy(), atol=1e-5)
    assert len(embeddings) == 3 and not np.allclose(embeddings[0], embeddings[1])


def test_texts_are_embedded_by_our_tools(repos):
    encoder = load_encoder(repos("text"), trust_remote_code=True)
    both = encoder.encode_text(["a cat", "a very long dog"], convert_to="numpy")
    assert both.shape == (2, 10) and not np.allclose(both[0], both[1])


def test_what_a_checkpoint_says_and_the_class_does_not_take_is_said(repos, projects, tmp_path, capsys):
    file = projects / "vit" / "last.ckpt"
    content = torch.load(file) | {"args": {"dim": 16, "depth": 3, "num_heads": 2, "lr": 0.1}}
    torch.save(content, tmp_path / "last.ckpt")
    words = ["--kwargs-from", "args", "--input", "1x3x32x32", "--embedding", "output[0].mean(1)"]
    target = f"{projects}/vit/pkg/vit.py:ViT"
    cli.command(["adopt", target, "--weights", f"{tmp_path}/last.ckpt", *words, "--output", f"{tmp_path}/repo"])
    printed = capsys.readouterr().out
    assert "args: num_heads, lr left out: ViT does not take them" in printed
    assert "by default: heads=2, patch=8, size=32, drop_rate=0.1, which args does not tell" in printed


def test_a_saved_model_loads_again_and_keeps_its_names(repos, tmp_path):
    repo = repos("audio")
    model = AutoModel.from_pretrained(repo, trust_remote_code=True)
    assert model.network.last.weight is model.network.again.weight
    model.save_pretrained(tmp_path / "again")
    with safe_open(tmp_path / "again" / "model.safetensors", "pt") as file, \
            safe_open(repo / "model.safetensors", "pt") as first:  # fmt: skip
        assert set(file.keys()) == set(first.keys())
    wave = torch.randn(2, 200)
    again = AutoModel.from_pretrained(tmp_path / "again", trust_remote_code=True)
    assert torch.equal(model(wave).pooler_output, again(wave).pooler_output)


def test_a_file_that_lacks_weights_is_refused_at_loading(repos, tmp_path):
    from safetensors.torch import load_file, save_file

    repo = shutil.copytree(repos("lit"), tmp_path / "less")
    tensors = load_file(repo / "model.safetensors")
    del tensors["stem.bias"]
    save_file(tensors, repo / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="the file of weights lacks 'bias' of a Conv2d"):
        AutoModel.from_pretrained(repo, trust_remote_code=True)


def test_the_generated_files_read_as_a_person_would_write_them(repos):
    repo = repos("cnn")
    assert (repo / "modeling_encoder.py").read_text() == (
        '"""Encoder of net.py as a model of transformers."""\n\n'
        "from torch import Tensor, nn\n"
        "from transformers.modeling_outputs import BaseModelOutputWithPooling\n\n"
        "from .adopted_network import AdoptedModel\n"
        "from .configuration_encoder import EncoderConfig\n"
        "from .net import Encoder\n"
        "from .settings_object import Settings\n\n\n"
        "class EncoderModel(AdoptedModel):\n"
        '    """Encoder, whose output has the names that transformers gives."""\n\n'
        "    config_class = EncoderConfig\n"
        "    config: EncoderConfig\n"
        '    main_input_name = "pixel_values"\n\n'
        "    def build(self) -> nn.Module:\n"
        '        """Make the network; its weights are loaded afterwards."""\n'
        "        return Encoder(cfg=Settings(self.config.cfg))\n\n"
        "    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutputWithPooling:\n"
        '        """Run the network; pooler_output [B, 8] is the embedding."""\n'
        "        output = self.network(pixel_values)\n"
        "        state, embedding = output['vector'], output['vector']\n"
        "        return BaseModelOutputWithPooling(last_hidden_state=state, pooler_output=embedding)\n"
    )
    assert sorted(path.name for path in repo.glob("*.py")) == [
        "adopted_network.py", "configuration_encoder.py", "modeling_encoder.py", "net.py", "settings_object.py",
        "utils.py",
    ]  # fmt: skip
    assert (repo / "requirements.txt").read_text() == "pillow>=10.3\ntorch>=2.7\ntransformers>=5.18,<6\n"
