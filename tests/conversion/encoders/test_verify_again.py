"""A repo is verified again as its file was converted: with what the file said beside its weights, and its family."""

from argparse import Namespace

import pytest
import torch
import torch.nn.functional as F

from hf_encoders.checkpoints.finding.choice import WeightsWanted
from hf_encoders.conversion.convert import convert
from hf_encoders.conversion.verify_repo import verify_repo
from tests.helpers.clip_network import Clip, QuickGELU, of_transformers, prefixed
from tests.helpers.small_texts import SmallBert

CLIP = prefixed("module.", Clip(QuickGELU).state_dict())
RELU = {"hidden_size": 96, "num_attention_heads": 3, "hidden_act": "relu", "layer_norm_eps": 1e-5}
FILES = {
    "an activation by name": {"name": "ViT-B-32-quickgelu-lr_1", "state_dict": CLIP},
    "an activation in the arguments": {"args": Namespace(force_quick_gelu=True), "state_dict": CLIP},
    "heads": {"config": RELU, "model": SmallBert(width=96, heads=3, act=F.relu, eps=1e-5).state_dict()},
    "names of BERT": prefixed("roberta.", SmallBert(66, 1, 1, 1e-5).state_dict()),
}


@pytest.mark.parametrize("said", FILES)
def test_what_the_file_said_is_known_again(said, tmp_path):
    path, repo = tmp_path / "checkpoint.pt", tmp_path / "repo"
    torch.save(FILES[said], path)
    convert(path, repo)
    for checkpoint in (None, path):
        verification = verify_repo(str(repo), checkpoint)
        figures = [
            entry for entry in verification.values() if isinstance(entry, dict) and "relative_difference" in entry
        ]
        assert figures and all(entry["relative_difference"] < 1e-5 for entry in figures)


@pytest.mark.parametrize(("state", "part"), [(CLIP, "visual"), (of_transformers(Clip().state_dict()), "text_model")])
def test_a_part_is_compared_with_the_part(state, part, tmp_path):
    path, repo = tmp_path / "checkpoint.pt", tmp_path / "repo"
    torch.save({"state_dict": state}, path)
    convert(path, repo, weights=WeightsWanted(part))
    for checkpoint in (None, path):
        assert verify_repo(str(repo), checkpoint)
