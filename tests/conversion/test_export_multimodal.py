"""A multimodal repo back to a legacy checkpoint: the same tensors under the legacy names, in the legacy order."""

import pytest
import torch
from transformers import AutoConfig

from hf_encoders import MultimodalEncoderModel
from tests.conftest import DATA
from tests.conversion.test_export import assert_equal_tensors, export, read, refuse
from tests.helpers.legacy_files import cast, convert, tree
from tests.helpers.multimodal_files import NAMINGS, multimodal_state, with_new_names, without_poolers, write_multimodal
from tests.helpers.multimodal_models import tiny_model

RESUME = DATA / "multimodal_resume_checkpoint.pt"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("naming", NAMINGS)
def test_there_and_back(naming, dtype, tmp_path):
    state = cast(multimodal_state(), dtype)
    checkpoint = write_multimodal(tmp_path / "best.pt", state=NAMINGS[naming](state))
    convert(checkpoint, "--allow-no-tokenizer", "--no-verify")
    out = export(tmp_path / "best-hf", tmp_path / "again.pt")
    content = read(tmp_path / "again.pt")
    # Whatever the names and the order in the source: those of transformers 4.
    assert_equal_tensors(content.pop("model_state_dict"), without_poolers(state))
    assert content == {"epoch": 2, "global_step": 30, "best_loss": 0.125}
    assert "missing: the poolers of BERT and ViT" in out and "depth" not in out


def test_the_optimizers_state_there_and_back(tmp_path):
    options = ["--allow-no-tokenizer", "--with-training-state"]
    convert(RESUME, "--output", tmp_path / "repo", *options)
    export(tmp_path / "repo", tmp_path / "again.pt")
    original, again = read(RESUME), read(tmp_path / "again.pt")
    assert list(again) == list(original)
    assert (again["epoch"], again["global_step"], again["best_loss"]) == (0, 3, original["best_loss"])
    before, after = original["optimizer_state_dict"], again["optimizer_state_dict"]
    (old,), (new,) = before["param_groups"], after["param_groups"]
    names = list(again["model_state_dict"])
    assert new.pop("params") == list(range(len(names))) and old.pop("params") and new == old
    numbers = {name: number for number, name in enumerate(original["model_state_dict"])}
    assert len(after["state"]) == len(before["state"])
    for number, entry in after["state"].items():
        expected = before["state"][numbers[names[number]]]
        assert entry.keys() == expected.keys() and all(torch.equal(entry[kind], expected[kind]) for kind in entry)
    # Torch takes it: the poolers, which it lacks, are in none of the two.
    parameters = [torch.nn.Parameter(tensor) for tensor in again["model_state_dict"].values()]
    torch.optim.AdamW(parameters).load_state_dict(after | {"param_groups": [new | {"params": list(range(len(names)))}]})
    convert(tmp_path / "again.pt", *options)
    for file in ("model.safetensors", "training_state.safetensors", "training_state.json"):
        assert (tmp_path / "repo" / file).read_bytes() == (tmp_path / "again-hf" / file).read_bytes()


def test_groups_of_parameters_there_and_back(tmp_path):
    content = read(RESUME)
    state = content["optimizer_state_dict"]
    (group,) = state["param_groups"]
    state["param_groups"] = [
        group | {"params": group["params"][:20]},
        group | {"params": group["params"][20:], "weight_decay": 0.0},
    ]
    torch.save(content, tmp_path / "groups.pt")
    convert(tmp_path / "groups.pt", "--allow-no-tokenizer", "--with-training-state", "--no-verify")
    export(tmp_path / "groups-hf", tmp_path / "again.pt")
    groups = read(tmp_path / "again.pt")["optimizer_state_dict"]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    names = list(read(tmp_path / "again.pt")["model_state_dict"])
    originals = list(content["model_state_dict"])
    assert [names[n] for n in groups[0]["params"]] == [n for n in originals[:20] if ".pooler." not in n]
    assert [names[n] for n in groups[1]["params"]] == [n for n in originals[20:] if ".pooler." not in n]


@pytest.mark.parametrize("old_names", [True, False])
def test_a_model_that_was_not_converted(old_names, tmp_path):
    """Without a report; with a depth tower; with either version's names in several files."""
    model = tiny_model(depth=True)
    model.save_pretrained(tmp_path / "repo", max_shard_size="100KB", save_original_format=old_names)
    assert len(list((tmp_path / "repo").glob("*.safetensors"))) > 1
    out = export(tmp_path / "repo", tmp_path / "again.pt")
    assert "missing: the depth tower, which the legacy layout does not have" in out
    content = read(tmp_path / "again.pt")
    assert list(content) == ["model_state_dict"] and next(iter(content["model_state_dict"])) == "temperature"
    renamed = with_new_names(content["model_state_dict"])
    expected = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("depth_")}
    assert renamed.keys() == expected.keys()
    assert all(torch.equal(renamed[name], tensor) for name, tensor in expected.items())


def test_an_existing_file_stays_unless_overwritten(tmp_path):
    tiny_model(depth=False).save_pretrained(tmp_path / "repo")
    (tmp_path / "out.pt").write_text("mine")
    assert "exists already" in refuse(tmp_path / "repo", tmp_path / "out.pt")
    assert (tmp_path / "out.pt").read_text() == "mine"
    export(tmp_path / "repo", tmp_path / "out.pt", "--overwrite")


def other_towers(repo):
    config = AutoConfig.from_pretrained(repo).to_dict()
    config["text_config"] |= {"model_type": "roberta"}
    MultimodalEncoderModel.config_class(**config).save_pretrained(repo)


@pytest.mark.parametrize(
    ("spoil", "options", "says"),
    [
        (other_towers, [], "its towers are roberta and vit; the legacy layout has bert and vit"),
        (lambda repo: (repo / "model.safetensors").unlink(), [], "of its tensors, 'temperature' among them"),
        (lambda repo: (repo / "training_state.json").write_text("{"), [], "has no training_state.safetensors"),
        (lambda repo: (repo / "conversion_report.json").write_text("{"), [], "conversion_report.json: not valid JSON"),
        (lambda repo: None, ["--autoencoder"], "has no decoder; leave --autoencoder out\n"),
    ],
)
def test_a_spoiled_repo_is_refused(spoil, options, says, tmp_path):
    tiny_model(depth=False).save_pretrained(tmp_path / "repo")
    spoil(tmp_path / "repo")
    before = tree(tmp_path)
    assert says in refuse(tmp_path / "repo", tmp_path / "out.pt", *options)
    assert tree(tmp_path) == before
