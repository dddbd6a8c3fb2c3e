"""Every recipe, on tiny networks and real rows: a run that is killed and resumed ends like one that was not."""

import shutil
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from safetensors.torch import load_file

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig
from hf_encoders.training import pretrain, pretrain_depth
from hf_encoders.training.depth.trainer import DepthTrainer
from hf_encoders.training.multimodal.trainer import Trainer
from hf_encoders.training.recipe import find_recipe, parse, recipe_names
from tests.conftest import SAMPLES, TINY
from tests.helpers.multimodal_models import SIZE, tiny_model
from tests.helpers.training_runs import RECIPE

pytestmark = pytest.mark.usefixtures("first_run")

BUNDLED = {name: Path(find_recipe(name)) for name in recipe_names()}
DEPTH = {"image_size": 32, "decoder_hidden_sizes": [8, 8, 8], "decoder_head_sizes": [8, 8, 8]}
STEPS, KILLED_AT = 4, 3


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing handles it."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What stands for the models and data that the recipes name: a folder each, and 24 rows."""
    folder = tmp_path_factory.mktemp("parts")
    model = tiny_model(depth=False)
    model.save_pretrained(folder / "multimodal")
    for name, tower in (("text", model.text_encoder), ("vision", model.visual_encoder)):
        tower.save_pretrained(folder / name)
    model.processor.tokenizer.save_pretrained(folder / "text")
    model.processor.image_processor.save_pretrained(folder / "vision")
    depth = DepthAutoencoderModel(DepthSemanticEncoderConfig(**TINY | {"image_size": SIZE}))
    depth.save_pretrained(folder / "depth")
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(24))
    rows = rows.add_column("captions", [[caption, f"a photo of {caption}"] for caption in rows["caption"]])
    (folder / "rows").mkdir()
    for split in ("train", "validation"):
        rows.to_parquet(folder / "rows" / f"{split}.parquet")
    return folder


def changes_of(name, parts):
    """What makes a recipe small: tiny towers in place of those that it names, few rows, and a checkpoint a step."""
    recipe = yaml.safe_load(BUNDLED[name].read_text())
    changes = {"dataset": [str(parts / "rows")], "checkpoint_steps": 1, "num_workers": 0, "report_to": "none"}
    if "decoder_fusion_size" in recipe.get("model_config", {}):
        maps = str(parts / "rows" / "train.parquet")
        return changes | {"dataset": maps, "model_config": TINY | DEPTH, "batch_size": 8, "epochs": 2}
    per_step = recipe.get("gradient_accumulation_steps", 1)
    changes |= {"batch_size": 8 // per_step, "max_steps": STEPS, "keep_last": 0}
    if "text_layers" in recipe:  # a part of a text model, and new towers of pictures
        towers = {part: value for part, value in RECIPE["model_config"].items() if part != "text_config"}
        changes |= {"text_model": str(parts / "text"), "text_layers": [0], "text_teacher": str(parts / "text")}
        changes |= {"model_config": towers, "image_processor": None, "depth_processor": None, "depth_scale": 0}
        changes |= {"validation_split": "validation"}
    elif "model_config" in recipe:
        changes |= {"model_config": RECIPE["model_config"], "image_processor": None, "depth_processor": None}
    elif "text_model" in recipe:
        changes |= {"text_model": str(parts / "text"), "vision_model": str(parts / "vision")}
    else:
        changes |= {"init_from": str(parts / "multimodal"), "depth_model": str(parts / "depth")}
    return changes


def trainer(name, parts, output, **options):
    """A run in this process, of the recipe with the changes."""
    recipe = Path(output).parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(yaml.safe_load(BUNDLED[name].read_text()) | changes_of(name, parts)))
    words = [str(recipe), "--output_dir", str(output)]
    words += [word for key, value in options.items() for word in (f"--{key}", str(value))]
    if "decoder_fusion_size" in recipe.read_text():
        return DepthTrainer(*parse(words, pretrain_depth.KINDS, recipe, ""))
    return Trainer(*parse(words, pretrain.KINDS, recipe, ""))


@pytest.mark.parametrize("name", BUNDLED)
def test_a_killed_run_of_it_ends_like_a_whole_one(name, parts, tmp_path, monkeypatch):
    trainer(name, parts, tmp_path / "whole").train()
    killed = trainer(name, parts, tmp_path / "killed")
    step = killed.optimizer.step

    def dies_at_a_step(*args, **kwargs):
        if killed.progress.step + 1 == KILLED_AT:
            raise Killed
        return step(*args, **kwargs)

    monkeypatch.setattr(killed.optimizer, "step", dies_at_a_step)
    with pytest.raises(Killed):
        killed.train()
    shutil.rmtree(tmp_path / "killed" / "checkpoints" / "checkpoint-1", ignore_errors=True)
    resumed = trainer(name, parts, tmp_path / "killed", resume_from_checkpoint="latest")
    resumed.train()
    assert resumed.progress.step > KILLED_AT
    for file in sorted((tmp_path / "whole").rglob("*.safetensors")):
        if f"checkpoint-{KILLED_AT - 1}" in str(file) or "checkpoint-1/" in str(file):
            continue
        one, other = load_file(file), load_file(tmp_path / "killed" / file.relative_to(tmp_path / "whole"))
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in one), file


def test_no_recipe_is_left_out():
    assert {"sample", "rooms", "lit", "siglip", "legacy", "depth_to_words", "depth_sample"} <= BUNDLED.keys()
