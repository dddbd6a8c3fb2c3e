"""What several test modules need: goldens, the real sample checkpoint and its data, and quick small networks."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from golden import golden_state_dict
from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig, DepthSemanticEncoderModel

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
SAMPLES = ROOT / "samples"
SMALL_CHECKPOINT = SAMPLES / "legacy" / "depth_autoencoder_small.pth"

torch.set_num_threads(1)  # tiny networks gain nothing from threads, and wait for each other beside other processes

TINY = {
    "hidden_size": 12, "stem_sizes": [2, 4], "hidden_sizes": [8, 8, 16, 16], "depths": [1, 2, 1, 1],
    "enhance_size": 8, "fusion_size": 4, "fc_sizes": [16, 8], "decoder_global_size": 8, "decoder_spatial_size": 4,
    "decoder_fusion_size": 8, "decoder_hidden_sizes": [8, 4, 4, 2, 2], "decoder_head_sizes": [2, 2, 2],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def golden():
    """Inputs and outputs of the full-size legacy network: pixel_values, embeddings, reconstruction."""
    return load_file(DATA / "depth_autoencoder_golden.safetensors")


@pytest.fixture(scope="session")
def golden_weights():
    """The state dict of the full-size legacy AutoEncoder behind the goldens."""
    return golden_state_dict(DATA / "depth_autoencoder_keys.tsv")


@pytest.fixture(scope="session")
def small_expected():
    """What the legacy network gives for the first maps of objects/test with the sample checkpoint."""
    return load_file(DATA / "depth_autoencoder_small_expected.safetensors")


@pytest.fixture(scope="session")
def objects_test():
    """Two hundred real depth maps with nouns and labels."""
    return Dataset.from_parquet(str(SAMPLES / "objects" / "test.parquet"))


@pytest.fixture
def tiny_config():
    return DepthSemanticEncoderConfig(**TINY)


@pytest.fixture
def tiny_encoder(tiny_config):
    return DepthSemanticEncoderModel(tiny_config).eval()


@pytest.fixture
def tiny_autoencoder(tiny_config):
    return DepthAutoencoderModel(tiny_config).eval()


@pytest.fixture
def tiny_multimodal():
    from multimodal_models import tiny_model

    return tiny_model()
