"""The processor beside the weights: found by `encode`, shared by the models, saved with them."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModel

from hf_encoders import (
    DepthAutoencoderModel,
    DepthImageProcessor,
    DepthSemanticEncoderConfig,
    DepthSemanticEncoderForImageClassification,
    DepthSemanticEncoderModel,
)
from tests.conftest import TINY

pytestmark = pytest.mark.numeric

MODELS = [DepthSemanticEncoderModel, DepthAutoencoderModel, DepthSemanticEncoderForImageClassification]
SPECIAL = {"size": 64, "unit_scale": 0.5, "normalization": "range", "value_range": [0, 4], "invalid_values": [2.5]}


def random_maps():
    """Values from 1 to 3, some of them those that SPECIAL takes for invalid."""
    maps = np.random.default_rng(0).uniform(1, 3, (3, 40, 48)).astype(np.float32)
    maps[:, :10] = 2.5
    return maps


def forget(folder):
    (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize("model_class", MODELS)
def test_special_settings_travel_with_the_weights(model_class, tmp_path):
    special = DepthImageProcessor(**SPECIAL)
    model = model_class(DepthSemanticEncoderConfig(**TINY)).eval()
    model.processor = special
    model.save_pretrained(tmp_path / "a")
    loaded = model_class.from_pretrained(tmp_path / "a")
    assert AutoImageProcessor.from_pretrained(tmp_path / "a").to_dict() == special.to_dict()
    assert loaded.processor.to_dict() == special.to_dict()

    encoder = loaded.base_model
    expected = encoder(**special(random_maps())).pooler_output
    torch.testing.assert_close(encoder.encode(random_maps()), expected)
    usual = encoder(**DepthImageProcessor()(random_maps())).pooler_output
    assert (usual - expected).abs().max() > 0.01 * expected.abs().max()

    # Saved elsewhere without having been used, it goes along.
    model_class.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    assert AutoImageProcessor.from_pretrained(tmp_path / "b").to_dict() == special.to_dict()


def test_a_model_from_no_repo_gets_one_that_fits_it():
    config = DepthSemanticEncoderConfig(**TINY | {"image_size": 96, "num_channels": 3})
    model = DepthSemanticEncoderModel(config)
    assert model.processor.to_dict() == DepthImageProcessor(size=96, num_channels=3).to_dict()
    assert model.encode(random_maps()).shape == (3, 12)


@pytest.mark.parametrize("model_class", MODELS[1:])
def test_a_model_and_its_encoder_have_one_processor(model_class):
    model = model_class(DepthSemanticEncoderConfig(**TINY))
    assert model.encoder.processor is model.processor
    model.processor = DepthImageProcessor(**SPECIAL)
    assert model.encoder.processor is model.processor and model.processor.unit_scale == 0.5


def test_a_repo_without_processor_is_not_guessed_at(tiny_encoder, tmp_path, caplog):
    tiny_encoder.save_pretrained(tmp_path / "a")
    forget(tmp_path / "a")
    loaded = DepthSemanticEncoderModel.from_pretrained(tmp_path / "a")
    assert f"{tmp_path / 'a'}: has no processor that can be read" in caplog.text
    with pytest.raises(OSError, match="image processor"):
        loaded.encode(random_maps())
    pixel_values = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(loaded.encode(pixel_values), tiny_encoder.encode(pixel_values))

    with pytest.raises(OSError, match="not saved, because the model has no processor"):
        loaded.save_pretrained(tmp_path / "b")
    assert not (tmp_path / "b").exists()
    loaded.processor = tiny_encoder.processor
    loaded.save_pretrained(tmp_path / "b")
    assert (tmp_path / "b" / "preprocessor_config.json").is_file()


def test_what_happens_to_a_folder_later_changes_nothing(tmp_path, monkeypatch):
    model = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY)).eval()
    model.processor = DepthImageProcessor(**SPECIAL)
    model.save_pretrained(tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path / "models")
    loaded = AutoModel.from_pretrained("mine")
    # Elsewhere another model has that name.
    other = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY))
    other.save_pretrained(tmp_path / "elsewhere" / "mine")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert loaded.processor.unit_scale == 0.5
    shutil.rmtree(tmp_path / "models")
    torch.testing.assert_close(loaded.encode(random_maps()), model.encode(random_maps()))


@pytest.mark.parametrize("model_class", [AutoModel, DepthSemanticEncoderModel])
def test_a_subfolder_has_its_own_processor(model_class, tmp_path):
    model = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY))
    for name, scale in {"": 1.0, "depth": 0.5}.items():
        model.processor = DepthImageProcessor(**SPECIAL | {"unit_scale": scale})
        model.save_pretrained(tmp_path / name)
    assert model_class.from_pretrained(tmp_path).processor.unit_scale == 1
    assert model_class.from_pretrained(tmp_path, subfolder="depth").processor.unit_scale == 0.5


@pytest.mark.parametrize("model_class", [AutoModel, DepthSemanticEncoderModel])
@pytest.mark.parametrize("way", ["revision", "pushed to since", "offline"])
def test_the_processor_is_that_of_the_commit(model_class, way, hub, hub_client, tmp_path, monkeypatch):
    name = f"org/pinned-{model_class.__name__}-{way.replace(' ', '-')}".lower()
    model = DepthSemanticEncoderModel(DepthSemanticEncoderConfig(**TINY))

    def push(unit_scale):
        model.processor = DepthImageProcessor(**SPECIAL | {"unit_scale": unit_scale})
        return model.push_to_hub(name).oid

    first = push(0.5)
    options = {"cache_dir": tmp_path / "my cache"}
    if way == "revision":
        push(0.25)
        options["revision"] = first
    loaded = model_class.from_pretrained(name, **options)
    if way == "pushed to since":
        push(0.25)
    if way == "offline":
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert loaded.processor.unit_scale == 0.5
    assert (loaded.source.revision, loaded.config._commit_hash) == (first, first)
    assert not list((tmp_path / "hub-cache").rglob("preprocessor_config.json"))


def test_a_broken_processor_file_is_reported_not_replaced(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(OSError, match="not a valid JSON file"):
        DepthSemanticEncoderModel.from_pretrained(tmp_path).encode(random_maps())


def test_a_token_stays_out_of_what_is_shown_and_pickled(tiny_encoder, tmp_path):
    tiny_encoder.save_pretrained(tmp_path)
    loaded = DepthSemanticEncoderModel.from_pretrained(tmp_path, token="hf_secret")
    assert loaded.source.arguments["token"] == "hf_secret"
    assert "hf_secret" not in repr(loaded.source) and b"hf_secret" not in pickle.dumps(loaded)
