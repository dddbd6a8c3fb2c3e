"""The configuration: aliases, checks, what is saved, and that the models follow it in every number."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from torch import nn
from transformers import AutoConfig

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from tests.conftest import TINY

# Every number differs from its default and, where that is possible, from every other number.
UNUSUAL = {
    "num_channels": 3, "image_size": 96, "hidden_size": 10, "stem_sizes": [3, 5], "hidden_sizes": [12, 18, 24, 30],
    "depths": [2, 1, 3, 2], "bottleneck_expansion": 2, "gate_reduction": 6, "gate_init_value": 0.25, "se_reduction": 5,
    "enhance_size": 7, "fusion_size": 9, "pool_grid": 3, "fc_sizes": [11, 13], "hidden_dropout_prob": 0.25,
    "batch_norm_eps": 1e-3, "decoder_global_size": 14, "decoder_spatial_size": 15, "decoder_fusion_size": 16,
    "decoder_hidden_sizes": [8, 17], "decoder_gated_blocks": 1, "decoder_se_reduction": 4,
    "decoder_se_init_value": 0.75, "decoder_head_sizes": [19, 20, 21],
    "mse_loss_weight": 0.5, "l1_loss_weight": 0.6, "ssim_loss_weight": 0.7, "edge_loss_weight": 0.8,
    "ssim_window_size": 7, "ssim_sigma": 1.1,
}  # fmt: skip


def test_default_sizes_are_the_legacy_ones():
    with torch.device("meta"):
        model = DepthAutoencoderModel(DepthSemanticEncoderConfig())
    assert model.encoder.num_parameters() == 81_368_298
    assert model.num_parameters() == 132_693_016


def test_unusual_covers_every_field():
    own = set(DepthSemanticEncoderConfig.__annotations__) - {"model_type", "attribute_map"}
    assert set(UNUSUAL) == own
    defaults = DepthSemanticEncoderConfig()
    assert [name for name in own if getattr(defaults, name) == UNUSUAL[name]] == []


@pytest.mark.parametrize(
    ("weight", "shape"),
    [
        ("encoder.stem.0", [3, 3, 3, 3]),
        ("encoder.stem.3", [5, 3, 7, 7]),
        ("encoder.layer1.0.conv1", [6, 5, 1, 1]),
        ("encoder.layer1.1.conv3", [12, 6, 1, 1]),
        ("encoder.layer2.0.downsample.0", [18, 12, 1, 1]),
        ("encoder.layer3.2.conv2", [12, 12, 3, 3]),
        ("encoder.layer4.1.conv1", [15, 30, 1, 1]),
        ("encoder.attention1.channel_attention.1", [2, 12, 1, 1]),
        ("encoder.se_block.fc.0", [6, 30]),
        ("encoder.depth_enhance.3", [7, 7, 3, 3]),
        ("encoder.multiscale_fusion.0", [9, 7, 1, 1]),
        ("encoder.fc.0", [11, 30 + 9 * (30 + 9)]),
        ("encoder.fc.3", [13, 11]),
        ("encoder.fc.6", [10, 13]),
        ("decoder.global_fc.3", [14 * 4, 14]),
        ("decoder.spatial_fc.3", [15 * 4, 15]),
        ("decoder.spatial_fusion.0", [16, 29, 3, 3]),
        ("decoder.decoder_blocks.0.attention.channel_attention.1", [1, 8, 1, 1]),
        ("decoder.decoder_blocks.1.se.fc.0", [4, 17]),
        ("decoder.final_conv.5", [20, 19, 3, 3]),
        ("decoder.final_conv.7", [21, 20, 3, 3]),
        ("decoder.final_conv.9", [3, 21, 1, 1]),
    ],
)
def test_every_width_comes_from_the_configuration(weight, shape):
    with torch.device("meta"):
        model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**UNUSUAL))
    assert list(model.get_submodule(weight).weight.shape) == shape


def test_everything_else_comes_from_the_configuration():
    model = DepthAutoencoderModel(DepthSemanticEncoderConfig(**UNUSUAL)).eval()
    depths = [len(getattr(model.encoder, f"layer{index}")) for index in (1, 2, 3, 4)]
    assert depths == [2, 1, 3, 2] and len(model.decoder.decoder_blocks) == 2
    assert {module.eps for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}
    assert {module.p for module in model.modules() if isinstance(module, nn.Dropout)} == {0.25}
    parameters = dict(model.named_parameters())
    assert {value.item() for name, value in parameters.items() if name.endswith("gamma")} == {0.25}
    assert {value.item() for name, value in parameters.items() if name.endswith("alpha")} == {0.75}
    assert [isinstance(block.attention, nn.Identity) for block in model.decoder.decoder_blocks] == [False, True]
    assert model.config.reconstruction_size == 16
    assert model(torch.zeros(2, 3, 40, 32)).reconstruction.shape == (2, 3, 16, 16)


def test_legacy_names_are_aliases():
    config = DepthSemanticEncoderConfig(input_channels=3, latent_dim=5)
    assert (config.num_channels, config.hidden_size) == (3, 5)
    config.latent_dim = 6
    assert (config.hidden_size, config.latent_dim, config.input_channels) == (6, 6, 3)
    saved = config.to_dict()
    assert (saved["num_channels"], saved["hidden_size"]) == (3, 6)
    assert not {"input_channels", "latent_dim"} & set(saved)


def test_saving_and_loading_keeps_every_field(tmp_path):
    DepthSemanticEncoderConfig(**UNUSUAL).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is DepthSemanticEncoderConfig
    assert {name: getattr(loaded, name) for name in UNUSUAL} == UNUSUAL
    assert {name: saved[name] for name in UNUSUAL} == UNUSUAL


def test_lists_are_not_shared_between_configurations():
    DepthSemanticEncoderConfig().depths.append(9)
    assert DepthSemanticEncoderConfig().depths == [3, 4, 6, 3]


def test_integers_are_accepted_where_fractions_are_usual():
    config = DepthSemanticEncoderConfig(**TINY, hidden_dropout_prob=0, gate_init_value=1, mse_loss_weight=1)
    assert next(DepthSemanticEncoderModel(config).attention1.parameters()).item() == 1.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stem_sizes": [32]}, r"stem_sizes takes 2 numbers, got \[32\]"),
        ({"hidden_sizes": [1, 2, 3, 4, 5]}, "hidden_sizes takes 4 numbers"),
        ({"depths": [3, 4, 0, 3]}, r"depths must be at least 1, got \[3, 4, 0, 3\]"),
        ({"decoder_hidden_sizes": [4, 0]}, "decoder_hidden_sizes must be at least 1"),
        ({"num_channels": 0}, "num_channels must be at least 1, got 0"),
        ({"decoder_gated_blocks": -1}, "decoder_gated_blocks must be at least 0, got -1"),
        ({"ssim_window_size": 10}, "ssim_window_size must be odd, got 10"),
        ({"latent_dim": -1}, "hidden_size must be at least 1, got -1"),
        ({"fc_sizes": []}, "fc_sizes takes 2 numbers"),
    ],
)
def test_impossible_sizes_are_errors_that_name_the_field(wrong, message):
    with pytest.raises(ValueError, match=message):
        DepthSemanticEncoderConfig(**wrong)


@pytest.mark.parametrize("wrong", [{"num_channels": "1"}, {"depths": "3463"}, {"fc_sizes": [1.5, 2]}])
def test_wrong_types_are_errors_that_name_the_field(wrong):
    with pytest.raises(StrictDataclassFieldValidationError, match=next(iter(wrong))):
        DepthSemanticEncoderConfig(**wrong)
