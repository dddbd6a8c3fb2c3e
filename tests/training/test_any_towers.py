"""A projection is trained on towers of every family: LiT, where the image tower stays as it is."""

import pytest
import torch
from datasets import Dataset
from transformers import AutoModel

from hf_encoders import MultimodalEncoderModel
from hf_encoders.training import pretrain
from tests.conftest import SAMPLES
from tests.helpers.any_encoders import BOTH, IMAGES, TEXTS, save_encoder

pytestmark = pytest.mark.usefixtures("first_run")

SEES = [*IMAGES, *BOTH]
READS = [*TEXTS, "clip"]  # AutoModel builds no SigLIP's tower of texts


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "rows.parquet"
    Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(8)).to_parquet(file)
    return str(file)


@pytest.mark.parametrize(
    ("text", "vision"), [*(("bert", image) for image in SEES), *((text, "vit") for text in READS if text != "bert")]
)
def test_a_locked_image_tower_of_any_family_is_read(text, vision, rows, tmp_path):
    repos = [str(save_encoder(kind, tmp_path / kind)) for kind in (text, vision)]
    options = ["--batch_size=4", "--gradient_accumulation_steps=1", "--epochs=1", "--warmup_steps=0", "--num_workers=0"]
    towers = ["--text_model", repos[0], "--vision_model", repos[1], "--projection_dim=8"]
    out = ["--output_dir", str(tmp_path / "out"), "--report_to=none", "--mixed_precision=no"]
    pretrain.command(["lit", "--dataset", rows, *towers, *options, *out])
    before = MultimodalEncoderModel.from_towers(*repos)
    after = AutoModel.from_pretrained(tmp_path / "out")
    for name, weight in after.visual_encoder.state_dict().items():
        assert weight.equal(before.visual_encoder.state_dict()[name]), name
    texts = before.text_encoder.state_dict()
    assert any(not weight.equal(texts[name]) for name, weight in after.text_encoder.state_dict().items())
    embeds = after.encode_text(["a red chair", "the small lamp"])
    assert embeds.shape == (2, 8) and not torch.allclose(embeds[0], embeds[1])
    told = [file.name for file in (tmp_path / "out").glob("*.*") if str(tmp_path).encode() in file.read_bytes()]
    assert not told  # a repo tells no folder of the machine that made it


def test_a_text_tower_that_is_not_built_alone_is_refused(tmp_path):
    repos = [save_encoder(kind, tmp_path / kind) for kind in ("siglip", "vit")]
    with pytest.raises(ValueError, match="AutoModel builds no siglip_text_model model"):
        MultimodalEncoderModel.from_towers(*repos)
