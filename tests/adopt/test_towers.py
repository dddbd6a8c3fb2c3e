"""Adopted networks as towers of a multimodal encoder, whose repo then holds the code of both."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoConfig, AutoModel, AutoProcessor

from hf_encoders import MultimodalEncoderModel, load_encoder
from hf_encoders.adopt.joining import joined_files
from hf_encoders.hub.endpoint_handler import write_handler
from hf_encoders.hub.model_card import write_card
from hf_encoders.hub.requirements import handler_requirements, write_requirements
from hf_encoders.models import multimodal_towers
from hf_encoders.models.input_errors import InputError
from tests.adopt.conftest import GREY, command
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.own_networks import TRICKY, TRICKY_NORM, built, write_project

TEXTS = ["a red chair", "a lamp"]
# Loads a joined repo as anybody does, without this package, and saves what it gives.
LOAD = """
import sys
sys.modules["hf_encoders"] = None  # any import of it fails
import torch
from datasets import Dataset
from PIL import Image
from transformers import AutoModel, AutoProcessor
repo, output, photo, *texts = sys.argv[1:]
model = AutoModel.from_pretrained(repo, trust_remote_code=True)
given = {name: tensor for name, tensor in model.visual_encoder.named_buffers()}
given |= {"image": model.encode_image([photo]), "text": model.encode_text(texts)}
processor = AutoProcessor.from_pretrained(repo, trust_remote_code=True)
given["pixels"] = processor(images=[photo])["pixel_values"]
torch.save(given, output)
model.save_pretrained(f"{output}-again")
"""
# A model with code of its own, which nobody adopted.
WAVES = {
    "configuration_waves.py": """
from transformers import PreTrainedConfig


class WavesConfig(PreTrainedConfig):
    model_type = "waves"
    hidden_size: int = 4
""",
    "modeling_waves.py": """
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from .configuration_waves import WavesConfig


class WavesModel(PreTrainedModel):
    config_class = WavesConfig
    main_input_name = "wave"

    def __init__(self, config):
        super().__init__(config)
        self.last = nn.Linear(3, config.hidden_size)
        self.post_init()

    def forward(self, wave, **_):
        return BaseModelOutputWithPooling(last_hidden_state=self.last(wave))
""",
}


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    values = np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    Image.fromarray(values).save(path)
    return str(path)


@pytest.fixture(scope="module")
def tricky(tmp_path_factory):
    """A network whose weights transformers would rename, tie or forget, in files called as those of others."""
    folder = tmp_path_factory.mktemp("tricky")
    # chars.py is also the file of the text network, tower.py one of this package.
    write_project(folder, {"chars.py": TRICKY, "tower.py": TRICKY_NORM})
    text = TRICKY_NORM + TRICKY.replace("from tower import Norm", "")
    torch.save(built(text, "Tricky").state_dict(), folder / "tricky.pt")
    command("adopt", f"{folder}/chars.py:Tricky", "--weights", folder / "tricky.pt", "--input", "1x3x32x32",
            "--embedding", "output[1]", *GREY, "--output", folder / "repo")  # fmt: skip
    return folder / "repo"


@pytest.fixture(scope="module")
def model(repos, tricky):
    torch.manual_seed(0)
    return MultimodalEncoderModel.from_towers(repos("text"), tricky, projection_dim=7, trust_remote_code=True)


@pytest.fixture(scope="module")
def joined(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined") / "repo"
    model.save_pretrained(folder)
    return folder


def buffers(network):
    return dict(network.named_buffers())


def assert_same_state(one, two):
    assert one.state_dict().keys() == two.state_dict().keys()
    for name, tensor in [*one.state_dict().items(), *buffers(one).items()]:
        assert torch.equal(tensor, dict(two.state_dict(), **buffers(two))[name]), name


def test_a_feature_is_the_embedding_that_was_adopted(model, repos, tricky, photo):
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda _, given, result, name=name: seen.update({name: given[0]}))
        for name, layer in {"text": model.text_projection, "image": model.visual_projection}.items()
    ]
    model.encode_image([photo])
    model.encode_text(TEXTS)
    for hook in hooks:
        hook.remove()
    alone = load_encoder(tricky, trust_remote_code=True), load_encoder(repos("text"), trust_remote_code=True)
    assert seen["image"].shape == (1, 5)  # last_hidden_state has 8 numbers for each patch
    assert torch.allclose(seen["image"], alone[0].encode_image([photo]), rtol=1e-5, atol=1e-6)
    assert torch.allclose(seen["text"], alone[1].encode_text(TEXTS), rtol=1e-5, atol=1e-6)


def test_a_text_without_a_mask_is_all_words(model):
    ids = torch.tensor([[2, 3, 4, 5]])
    given = model.get_text_features(ids, torch.ones_like(ids)).pooler_output
    assert torch.equal(model.get_text_features(ids).pooler_output, given)


def test_gradients_reach_both_networks(model, photo):
    inputs = model.processor(text=TEXTS, images=[photo, photo])
    model(**inputs, return_loss=True).loss.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    model.zero_grad()
    assert without == set()


def test_it_is_a_multimodal_encoder_of_its_own_type(model, joined):
    assert isinstance(model, MultimodalEncoderModel) and model.config.model_type == "joined_multimodal_encoder"
    config = json.loads((joined / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_joined_encoder.JoinedEncoderConfig",
        "AutoModel": "modeling_joined_encoder.JoinedEncoderModel",
    }
    assert config["vision_config"]["hidden_size"] == 5 and "auto_map" not in config["vision_config"]
    assert str(joined.parent.parent) not in json.dumps(config)


def test_it_loads_with_the_same_bits(model, joined, photo, tmp_path):
    loaded, info = AutoModel.from_pretrained(joined, trust_remote_code=True, output_loading_info=True)
    assert not any(info.values()) and isinstance(loaded, MultimodalEncoderModel)
    assert_same_state(loaded, model)
    assert loaded.visual_encoder.network.one.weight is loaded.visual_encoder.network.two.weight
    assert torch.allclose(loaded.encode_image([photo]), model.encode_image([photo]), rtol=1e-5, atol=1e-6)
    loaded.save_pretrained(tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} == {path.name for path in joined.iterdir()}
    assert_same_state(AutoModel.from_pretrained(tmp_path / "again", trust_remote_code=True), model)


def test_it_loads_without_this_package(model, joined, photo, tmp_path):
    words = [sys.executable, "-c", LOAD, joined, tmp_path / "given.pt", photo, *TEXTS]
    done = subprocess.run(list(map(str, words)), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    given = torch.load(tmp_path / "given.pt")
    for name, values in buffers(model.visual_encoder).items():
        assert torch.equal(given[name], values), name
    assert torch.allclose(given["image"], model.encode_image([photo]), rtol=1e-5, atol=1e-6)
    assert torch.allclose(given["text"], model.encode_text(TEXTS), rtol=1e-5, atol=1e-6)
    assert torch.equal(given["pixels"], model.processor(images=[photo])["pixel_values"])
    assert {path.name for path in (tmp_path / "given.pt-again").iterdir()} == {path.name for path in joined.iterdir()}


def test_processors_come_along_and_the_package_stays_as_it_is(model, joined, tricky):
    own = json.loads((tricky / "preprocessor_config.json").read_text())
    saved = json.loads((joined / "processor_config.json").read_text())
    assert saved["image_processor"]["image_mean"] == own["image_mean"] == [0.5, 0.5, 0.5]
    assert saved["auto_map"] == {"AutoProcessor": "processing_multimodal_encoder.MultimodalEncoderProcessor"}
    assert AutoProcessor.from_pretrained(joined).tokenizer.model_max_length == 16
    assert type(model.processor)._auto_class is None and MultimodalEncoderModel._auto_class is None


def test_files_of_one_name_lie_side_by_side(joined):
    names = {path.name for path in joined.glob("*.py")}
    assert {"chars.py", "tower.py", "own_vision_chars.py", "own_vision_tower.py"} <= names
    assert (joined / "own_vision_tower.py").read_text().strip() == TRICKY_NORM.strip()
    assert "class CharNet" in (joined / "chars.py").read_text()
    assert "from .own_vision_tower import Norm" in (joined / "own_vision_chars.py").read_text()


def test_equal_files_are_shared(model):
    files = joined_files({"text": model.text_encoder, "vision": model.text_encoder}, set())
    assert not any(name.startswith("own_") for name in files)


def test_a_taken_name_is_taken_whatever_the_file_holds(model):
    files = joined_files({"text": model.text_encoder}, {"chars.py", "own_text_adopted_network.py"})
    own = {name for name in files if "joined_encoder" not in name}
    assert own and all(name.startswith("own_text_own_text_") for name in own)


def test_loaded_models_are_joined_as_well_as_their_repos(repos, tricky, model):
    text, image = (AutoModel.from_pretrained(repo, trust_remote_code=True) for repo in (repos("text"), tricky))
    with torch.no_grad():
        image.network.scale.mul_(2)
    other = MultimodalEncoderModel.from_towers(text, image, projection_dim=7)
    assert torch.equal(other.visual_encoder.network.scale, 2 * model.visual_encoder.network.scale)
    assert other.processor.tokenizer is not None and other.processor.image_processor is not None
    again = MultimodalEncoderModel.from_towers(model.text_encoder, other.visual_encoder, projection_dim=7)
    assert torch.equal(again.visual_encoder.network.scale, other.visual_encoder.network.scale)


def test_one_network_goes_with_towers_of_transformers(tricky, photo, tmp_path):
    tiny = tiny_model()
    tiny.save_pretrained(tmp_path / "tiny")
    tiny.text_encoder.save_pretrained(tmp_path / "text")
    tiny.processor.tokenizer.save_pretrained(tmp_path / "text")
    tiny.depth_encoder.save_pretrained(tmp_path / "depth")
    model = MultimodalEncoderModel.from_towers(tmp_path / "text", tricky, tmp_path / "depth", trust_remote_code=True)
    assert model.towers == ("text", "image", "depth")
    model.save_pretrained(tmp_path / "repo")
    loaded = AutoModel.from_pretrained(tmp_path / "repo", trust_remote_code=True)
    assert_same_state(loaded, model)
    maps = [np.linspace(1, 4, 64 * 64).reshape(64, 64)]
    for one, two in (
        (loaded.encode_text(["a chair"]), model.encode_text(["a chair"])),
        (loaded.encode_image([photo]), model.encode_image([photo])),
        (loaded.encode_depth(maps), model.encode_depth(maps)),
    ):
        assert torch.allclose(one, two, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("flag", ["reads_padding", "pads_to_limit"])
def test_texts_are_padded_as_the_network_reads_them(repos, tricky, tmp_path, flag):
    repo = tmp_path / "text"
    shutil.copytree(repos("text"), repo)
    config = json.loads((repo / "config.json").read_text())
    (repo / "config.json").write_text(json.dumps(config | {flag: True}))
    MultimodalEncoderModel.from_towers(repo, tricky, trust_remote_code=True).save_pretrained(tmp_path / "joined")
    model = AutoModel.from_pretrained(tmp_path / "joined", trust_remote_code=True)
    assert model.processor(text=["ab"])["input_ids"].shape == (1, 16)
    assert getattr(model.tower("text"), flag)
    prepared = model.tower("text").prepare(["ab"])
    assert prepared["input_ids"].shape == (1, 16) and ("attention_mask" in prepared) == (flag == "pads_to_limit")


def test_no_code_runs_without_consent(tricky, joined):
    line = r"needs code of its repo \(configuration_tricky.py, .*say trust_remote_code=True to MultimodalEncoderModel"
    with pytest.raises(InputError, match=line):
        MultimodalEncoderModel.from_towers(tiny_model().text_encoder, tricky)
    with pytest.raises(InputError, match=r"needs code of its repo \(configuration_joined_encoder.py, .*--trust-remote"):
        load_encoder(joined)
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        AutoModel.from_pretrained(joined, trust_remote_code=False)


def test_code_without_this_package_joins_nothing(tricky, monkeypatch):
    monkeypatch.setattr(multimodal_towers, "_JOIN", [])
    with pytest.raises(ImportError, match="to join towers of their own code, pip install hf-encoders"):
        MultimodalEncoderModel.from_towers(tiny_model().text_encoder, tricky, trust_remote_code=True)


def test_a_network_of_something_else_is_refused(repos, tricky, tmp_path):
    text = tiny_model().text_encoder
    with pytest.raises(ValueError, match="embeds texts, expected a network of images as the vision tower"):
        MultimodalEncoderModel.from_towers(text, repos("text"), trust_remote_code=True)
    with pytest.raises(ValueError, match="no depth semantic encoder, but a network of its own code; expected one as"):
        MultimodalEncoderModel.from_towers(text, tricky, tricky, trust_remote_code=True)
    write_project(tmp_path, WAVES)
    auto = {"AutoConfig": "configuration_waves.WavesConfig", "AutoModel": "modeling_waves.WavesModel"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "waves", "auto_map": auto}))
    config = AutoConfig.from_pretrained(tmp_path, trust_remote_code=True)
    AutoModel.from_config(config, trust_remote_code=True).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="its forward needs wave, and the tower of images gets pixel_values"):
        MultimodalEncoderModel.from_towers(text, tmp_path, trust_remote_code=True)


def test_a_mean_of_tokens_is_refused(repos, tricky):
    with pytest.raises(ValueError, match="vision_pooling is 'mean', and a tricky gives an embedding of its own"):
        MultimodalEncoderModel.from_towers(repos("text"), tricky, vision_pooling="mean", trust_remote_code=True)


def test_code_that_builds_another_network_is_refused(tricky):
    image = AutoModel.from_pretrained(tricky, trust_remote_code=True)
    image.network.last = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"its code and its configuration build another network \(network.last.bias\)"):
        MultimodalEncoderModel.from_towers(tiny_model().text_encoder, image)


def test_the_commands_take_it(joined, photo, tmp_path, capsys):
    trust = "--trust-remote-code"
    shutil.copy(photo, tmp_path / "one.png")
    Image.new("RGB", (40, 36), "red").save(tmp_path / "two.png")
    command("encode", joined, photo, "--output", tmp_path / "one.npz", trust)
    assert np.load(tmp_path / "one.npz")["embeddings"].shape == (1, 7)
    command("search", joined, tmp_path, photo, trust, "-k", "1")
    assert "1.000" in capsys.readouterr().out
    command("classify", joined, tmp_path, "--labels", "chair,lamp", trust)
    assert "chair" in capsys.readouterr().out
    command("embed", joined, tmp_path, "--output", tmp_path / "all", trust)
    rows = {"image": [str(tmp_path / name) for name in ("one.png", "two.png")], "kind": ["lamp", "chair"]}
    Dataset.from_dict(rows).to_parquet(tmp_path / "rows.parquet")
    command("evaluate", joined, tmp_path / "rows.parquet", "--tasks", "zero-shot", "--label-column", "kind",
            "--split", "train", trust, "--output", tmp_path / "metrics.json")  # fmt: skip
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"]


def test_a_push_brings_the_code_and_says_so(model, joined, hub, hub_client, tmp_path):
    command("push", joined, "org/joined")
    pushed = set(hub_client.list_repo_files("org/joined")) - {".gitattributes", "README.md"}
    assert pushed == {path.name for path in joined.iterdir()} | {"requirements.txt"}
    needed = Path(hub_client.hf_hub_download("org/joined", "requirements.txt")).read_text().splitlines()[1:]
    assert "torch>=2.7" in needed and any(line.startswith("pillow>=") for line in needed)
    known = {"torch", "transformers", "huggingface_hub", "numpy", "pillow", "tqdm"}
    assert {re.split("[>=]", line)[0] for line in needed} == known
    loaded = AutoModel.from_pretrained("org/joined", trust_remote_code=True)
    assert_same_state(loaded, model)
    loaded.save_pretrained(tmp_path / "again")
    for name in ("config.json", "processor_config.json"):
        auto_maps = [json.loads((folder / name).read_text())["auto_map"] for folder in (joined, tmp_path / "again")]
        assert auto_maps[0] == auto_maps[1]
    shutil.copytree(joined, tmp_path / "repo")
    write_requirements(tmp_path / "repo")
    write_handler(tmp_path / "repo")  # over the requirements of before
    both = (tmp_path / "repo" / "requirements.txt").read_text().splitlines()
    assert len(both) == len(set(both)) and {*needed, *handler_requirements()} <= set(both)
    write_card(tmp_path / "repo", name="org/joined")
    card = (tmp_path / "repo" / "README.md").read_text()
    assert 'AutoModel.from_pretrained("org/joined", trust_remote_code=True)' in card
    assert "read it before you run it" in card and "texts (char_net) and images (tricky)" in card
    assert "space of 7 dimensions" in card and "pipeline(" not in card


def test_a_repo_of_before_is_refused(tricky, tmp_path):
    shutil.copytree(tricky, tmp_path / "old")
    base = tmp_path / "old" / "adopted_network.py"
    base.write_text(base.read_text().replace("restore(", "_restore("))
    with pytest.raises(
        ValueError, match="adopted by an older hf-encoders, so it loads by itself alone; adopt it again"
    ):
        MultimodalEncoderModel.from_towers(tiny_model().text_encoder, tmp_path / "old", trust_remote_code=True)


@pytest.mark.slow
def test_a_compiled_tower_gives_the_same(repos, photo, tmp_path):
    pytest.importorskip("openvino", reason="pip install 'hf-encoders[export]'")
    model = MultimodalEncoderModel.from_towers(repos("text"), repos("cnn"), trust_remote_code=True)
    model.save_pretrained(tmp_path / "repo")
    command("export", tmp_path / "repo", "--to", "openvino", "--tower", "image", "--output", tmp_path / "compiled",
            "--trust-remote-code")  # fmt: skip
    compiled = load_encoder(tmp_path / "compiled", trust_remote_code=True)
    given = compiled.encode_image([photo], backend="openvino")
    assert torch.allclose(given, model.encode_image([photo]), rtol=1e-3, atol=1e-4)
