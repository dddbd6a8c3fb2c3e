"""What several test modules need: goldens, the real sample checkpoint and its data, and quick small networks."""

import signal
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from huggingface_hub import HfApi, constants
from hypothesis import HealthCheck, settings
from safetensors.torch import load_file

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig, DepthSemanticEncoderModel
from tests.helpers.golden import golden_state_dict
from tests.helpers.hub import PATIENCE, serve
from tests.helpers.runs import forget_runs

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
SAMPLES = ROOT / "samples"
SMALL_CHECKPOINT = SAMPLES / "legacy" / "depth_autoencoder_small.pth"

# Drawing examples is slow on a machine that has much to do, and says nothing of what is tested.
settings.register_profile("patient", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
torch.set_num_threads(1)  # tiny networks gain nothing from threads, and wait for each other beside other processes

TINY = {
    "hidden_size": 12, "stem_sizes": [2, 4], "hidden_sizes": [8, 8, 16, 16], "depths": [1, 2, 1, 1],
    "enhance_size": 8, "fusion_size": 4, "fc_sizes": [16, 8], "decoder_global_size": 8, "decoder_spatial_size": 4,
    "decoder_fusion_size": 8, "decoder_hidden_sizes": [8, 4, 4, 2, 2], "decoder_head_sizes": [2, 2, 2],
}  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup():
    """See `_skip_without_exporters`."""
    with _skip_without_exporters():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call():
    """See `_skip_without_exporters`."""
    with _skip_without_exporters():
        return (yield)


@contextmanager
def _skip_without_exporters():
    """Skip a test that exports, with a transformers that is too old to."""
    try:
        yield
    except ImportError as error:
        is_new = tuple(map(int, version("transformers").split(".")[:2])) >= (5, 23)
        if is_new or "export needs transformers" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def first_run():
    """Each training run is the first of its process, and leaves the signals to pytest."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    forget_runs()
    yield
    forget_runs()
    for number, handler in handlers.items():
        signal.signal(number, handler)


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
    from tests.helpers.multimodal_models import tiny_model

    return tiny_model()


@pytest.fixture(scope="session")
def hub(tmp_path_factory):
    """A Hub on this machine: see tests/hub. Its repos are those of all tests of this process."""
    with serve(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture
def hub_client(hub, tmp_path, monkeypatch):
    """Lets huggingface_hub talk to the test Hub in this process too, and wait for nothing between its tries."""
    address = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    for name, value in {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": address,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(tmp_path / "hub-cache"),
        "HF_HUB_ETAG_TIMEOUT": PATIENCE,
        "HF_HUB_DOWNLOAD_TIMEOUT": PATIENCE,
    }.items():
        monkeypatch.setattr(constants, name, value)
    # transformers keeps a client of its own, with the address of its first call.
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    for module in ("utils._http", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time.sleep", lambda seconds: None)
    return HfApi(endpoint=hub.endpoint, token=hub.token)
