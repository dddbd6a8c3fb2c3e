"""A resumed run with other options: each is obeyed, refused, or kept and said; the same ones change nothing."""

import json
import shutil
from dataclasses import fields
from typing import get_args

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file

from hf_encoders.training import pretrain, pretrain_depth
from hf_encoders.training.multimodal.validation import Validation
from hf_encoders.training.resume_rules import RULES, Changes, Rule, as_kept
from tests.conftest import SAMPLES
from tests.helpers.legacy_files import refusal
from tests.helpers.multimodal_models import SPECIAL, WORDS
from tests.helpers.runs import forget_runs
from tests.helpers.training_runs import EXACT, write_recipe

pytestmark = pytest.mark.usefixtures("first_run")

ANOTHER_REPO = str(SAMPLES / "multimodal-rooms")
# 100 rows in batches of 20: five steps in an epoch.
STEPS = EXACT | {"batch_size": 20, "epochs": 2, "max_steps": 0, "checkpoint_steps": 1}


@pytest.fixture
def train(tmp_path, capsys):
    """Runs with changes of the options, from a checkpoint if one is named; returns what was printed."""

    def run(output, step=None, **changes):
        forget_runs()
        words = [str(write_recipe(tmp_path, **STEPS | changes)), "--output_dir", str(tmp_path / output)]
        if step is not None:
            words += ["--resume_from_checkpoint", str(tmp_path / "first" / "checkpoints" / f"checkpoint-{step}")]
        pretrain.command(words)
        return capsys.readouterr().out

    return run


@pytest.fixture
def first(train, tmp_path):
    """A run that stopped after two of the five steps of its first epoch."""
    train("first", max_steps=2)
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "first" / name).unlink()
    return tmp_path / "first" / "checkpoints"


def rewritten(folder, **changes):
    """Change what a checkpoint says of its run; None takes the name away."""
    path = folder / "progress.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))


def middle(checkpoints):
    """The checkpoint of the second step, as it was before the end of the run was worked off."""
    rewritten(checkpoints / "checkpoint-2", ended_step=0)
    return checkpoints / "checkpoint-2"


def progress(tmp_path, output, step):
    return json.loads((tmp_path / output / "checkpoints" / f"checkpoint-{step}" / "progress.json").read_text())


def weights(tmp_path, output, step):
    return load_file(tmp_path / output / "checkpoints" / f"checkpoint-{step}" / "model.safetensors")


def assert_same(one, other):
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def largest_change(one, other):
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


@pytest.mark.parametrize("script", [pretrain, pretrain_depth])
def test_every_option_has_a_rule(script):
    names = {one.name for kind in script.KINDS for one in fields(kind)}
    assert names <= RULES.keys()


def test_every_rule_is_for_an_option():
    names = {one.name for script in (pretrain, pretrain_depth) for kind in script.KINDS for one in fields(kind)}
    assert RULES.keys() == names and set(RULES.values()) == set(get_args(Rule))


OTHER = {
    "freeze": ["text_encoder"],
    "model_config": {"projection_dim": 9},
    "loss": "sigmoid",
    "lr_schedule": "linear",
    "report_to": "wandb",
    "mixed_precision": "bf16",
}


@pytest.mark.parametrize("script", [pretrain, pretrain_depth], ids=["multimodal", "depth"])
def test_every_option_that_changes_is_named(script):
    """Walks all options: each change is refused by its name, or in one of the lines."""
    before = [kind(**({"dataset": "maps"} if kind.__name__ == "DepthDataArguments" else {})) for kind in script.KINDS]
    kept = as_kept(before)
    for part in before:
        for one in fields(part):
            if RULES[one.name] == "not compared":
                continue
            changed = dict(kept)
            changed[one.name] = OTHER.get(one.name, _another(kept[one.name]))
            try:
                changes = Changes(before, changed)
            except ValueError as error:
                assert f"--{one.name} " in str(error) and "in the checkpoint: give what it was made with" in str(error)
                continue
            (line,) = changes.lines()
            assert f" {one.name} " in line
            settled = {name: getattr(changes.settled(part), name) for name in (one.name,)}
            is_kept = line.startswith("kept from the checkpoint: ")
            assert settled[one.name] == (changed[one.name] if is_kept else getattr(part, one.name))
    assert Changes(before, kept).lines() == []


def _another(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 or 0.5
    return f"{value}other" if isinstance(value, str) else 0.25 if value is None else [*value, "other"]


def test_a_new_learning_rate_is_obeyed_from_here_on_and_printed(first, train, tmp_path):
    middle(first)
    printed = train("again", step=2, max_steps=4, learning_rate=1e-9)
    assert "other options from here on: max_steps 4 (was 2), learning_rate 1e-09 (was 0.01)" in printed
    assert "learning rate of the next step: 1e-09" in printed
    moved = largest_change(weights(tmp_path, "again", 4), weights(tmp_path, "first", 2))
    assert 0 < moved < 1e-7
    # And the next time, it is the one of the checkpoint.
    shutil.rmtree(tmp_path / "first")
    (tmp_path / "again").rename(tmp_path / "first")
    assert "other options" not in train("more", step=4, max_steps=4, learning_rate=1e-9)


def test_the_same_rates_in_other_words_change_no_bit(first, train, tmp_path):
    middle(first)
    train("same", step=2)
    # A rate per tower splits the groups of the optimizer; the checkpoints after that are split too.
    train("split", step=2, text_learning_rate=0.01, weight_decay=0.01)
    assert_same(weights(tmp_path, "same", 10), weights(tmp_path, "split", 10))
    printed = train("towers", step=2, max_steps=4, text_learning_rate=1e-9)
    assert "learning rate of the next step: 0.01, 1e-09" in printed
    before, after = weights(tmp_path, "first", 2), weights(tmp_path, "towers", 4)
    text = [name for name in before if name.startswith("text_encoder")]
    others = [name for name in before if name.startswith("visual_encoder")]
    assert largest_change({n: before[n] for n in text}, {n: after[n] for n in text}) < 1e-7
    assert largest_change({n: before[n] for n in others}, {n: after[n] for n in others}) > 1e-3
    shutil.rmtree(tmp_path / "first")
    (tmp_path / "towers").rename(tmp_path / "first")
    assert "learning rate of the next step: 0.01" in train("joined", step=4, max_steps=6)


def test_more_steps_stretch_the_schedule_from_here_on(first, train, tmp_path):
    middle(first)
    printed = train("again", step=2, max_steps=4, lr_schedule="linear", warmup_steps=0)
    assert "learning rate of the next step: 0.005" in printed  # two of four steps are left


def test_what_is_kept_is_said(first, train, tmp_path):
    middle(first)
    train("same", step=2)
    printed = train("kept", step=2, seed=7, temperature=0.5)
    assert "kept from the checkpoint: temperature 0.07 (asked for 0.5), seed 0 (asked for 7)" in printed
    assert_same(weights(tmp_path, "same", 10), weights(tmp_path, "kept", 10))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_config": STEPS["model_config"] | {"projection_dim": 4}}, "--model_config projection_dim is 4, and 8"),
        ({"tokenizer": ANOTHER_REPO}, f"--tokenizer is {ANOTHER_REPO}, and "),
        ({"loss": "sigmoid"}, "--loss is sigmoid, and infonce in the checkpoint"),
        ({"freeze": []}, "--freeze is none, and ['depth_encoder'] in the checkpoint"),
        ({"depth_column": ""}, "--depth_column is none, and depth in the checkpoint"),
        ({"ema_decay": 0.9}, "--ema_decay is 0.9, and 0.0 in the checkpoint"),
        ({"mixed_precision": "fp16"}, "--mixed_precision is fp16, and no in the checkpoint"),
    ],
)
def test_what_the_state_would_not_fit_is_refused_in_one_line(changes, message, first, tmp_path, monkeypatch):
    forget_runs()
    if "mixed_precision" not in changes:  # before anything is loaded
        monkeypatch.setattr(
            "hf_encoders.training.multimodal.trainer.build_model", lambda *options: pytest.fail("a model was built")
        )
    recipe = write_recipe(tmp_path, **STEPS | changes)
    words = [str(recipe), "--output_dir", str(tmp_path / "first"), "--resume_from_checkpoint", "latest"]
    line = refusal(*words, main=pretrain.command)
    assert message in line and "give what it was made with, or start a new run" in line


def test_another_precision_is_said(first, train):
    middle(first)
    forget_runs()
    printed = train("again", step=2, max_steps=3, mixed_precision="bf16")
    assert "mixed precision from here on: bf16 (was no)" in printed


def test_another_batch_size_starts_the_epoch_again(first, train, tmp_path):
    middle(first)
    printed = train("again", step=2, batch_size=10)
    assert "epoch 1 starts again, after 2 of its batches: other batch_size" in printed
    # The two steps that were taken, and two epochs of ten.
    assert progress(tmp_path, "again", 12)["epoch"] == 1 and progress(tmp_path, "again", 22)["epoch"] == 2
    assert not (tmp_path / "again" / "checkpoints" / "checkpoint-23").exists()


def test_another_accumulation_keeps_the_place_in_the_epoch(first, train, tmp_path):
    middle(first)
    printed = train("again", step=2, gradient_accumulation_steps=3)
    assert "starts again" not in printed
    # One step of the three batches that are left, and one of the five of the last epoch.
    assert progress(tmp_path, "again", 4)["epoch"] == 2


@pytest.fixture
def rows(tmp_path):
    """A file of the recipe's rows that may change or move."""
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet"))
    (tmp_path / "data").mkdir()
    rows.to_parquet(tmp_path / "data" / "rows.parquet")
    return rows


def test_data_that_changed_start_the_epoch_again_and_data_that_moved_do_not(rows, train, tmp_path):
    train("first", max_steps=2, dataset=[str(tmp_path / "data" / "rows.parquet")])
    middle(tmp_path / "first" / "checkpoints")
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = [str(tmp_path / "moved" / "rows.parquet")]
    assert "starts again" not in train("again", step=2, max_steps=3, dataset=moved)
    rows.select(range(60)).to_parquet(moved[0])
    printed = train("changed", step=2, max_steps=0, dataset=moved)
    assert "epoch 1 starts again, after 2 of its batches: other data" in printed
    assert progress(tmp_path, "changed", 8)["epoch"] == 2  # 2 + 2 x 3


def test_another_vocabulary_in_a_file_of_the_same_name_is_refused(first, train, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(SPECIAL + WORDS))
    middle(first)
    with pytest.raises(ValueError, match="the tokenizer has other tokens than the one that the checkpoint was made"):
        train("again", step=2, tokenizer=str(tmp_path / "vocab.txt"))


def test_a_checkpoint_of_an_older_version_resumes_and_says_that_its_options_are_unknown(first, train, tmp_path):
    middle(first)
    train("same", step=2)
    rewritten(first / "checkpoint-2", options=None, identity=None)
    printed = train("old", step=2)
    assert "options that it was made with are unknown" in printed and "learning rate" not in printed
    assert_same(weights(tmp_path, "same", 10), weights(tmp_path, "old", 10))
    assert "learning rate of the next step: 1e-09" in train("slow", step=2, max_steps=3, learning_rate=1e-9)


def test_another_metric_forgets_the_best_value(train, tmp_path):
    data = {"dataset": [str(SAMPLES / "rooms")], "train_split": "validation", "validation_split": "validation"}
    train("first", **data, epochs=1)
    best = progress(tmp_path, "first", 5)["best"]
    rewritten(tmp_path / "first" / "checkpoints" / "checkpoint-5", best=2.0)  # no recall is as good
    metric = "retrieval/text_to_image_median_rank"
    printed = train("again", step=5, **data, epochs=2, validation_metric=metric)
    assert best < 2 and "the best value so far, 2, is forgotten: other validation_metric" in printed
    assert progress(tmp_path, "again", 10)["best"] > 1  # a rank


def test_a_rank_is_better_if_it_is_lower(train, tmp_path, monkeypatch):
    ranks = iter([6.0, 5.0, 3.0, 4.0])  # before the first step, and after each epoch
    name = "retrieval/text_to_image_median_rank"
    monkeypatch.setattr(Validation, "measure", lambda self, model: {name: next(ranks), "validation_loss": 1.0})
    data = {"dataset": [str(SAMPLES / "rooms")], "train_split": "validation", "validation_split": "validation"}
    train("first", **data, epochs=3, validation_metric=name)
    assert progress(tmp_path, "first", 15)["best"] == 3 and progress(tmp_path, "first", 15)["best_step"] == 10


def test_fewer_steps_than_were_taken_end_the_run_with_its_model(first, train, tmp_path):
    middle(first)
    train("short", step=2, max_steps=1)
    assert (tmp_path / "short" / "model.safetensors").is_file()
    assert progress(tmp_path, "short", 2)["batches"] == 2  # with more steps, it would go on there


def test_weights_that_are_no_numbers_are_not_gone_on_from(first, tmp_path):
    path = middle(first) / "model.safetensors"
    tensors = load_file(path)
    tensors["text_projection.weight"][0, 0] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    words = [str(write_recipe(tmp_path, **STEPS)), "--output_dir", str(tmp_path / "first")]
    line = refusal(*words, "--resume_from_checkpoint", "latest", main=pretrain.command)
    assert "checkpoint-2: text_projection.weight holds NaN or infinity; resume an earlier checkpoint" in line


def test_more_steps_go_on_within_the_epoch_that_max_steps_ended(first, train, tmp_path):
    train("whole")
    printed = train("out", 2)
    assert "epoch 1, step 5" in printed and "epoch 2, step 10" in printed
    assert_same(weights(tmp_path, "out", 10), weights(tmp_path, "whole", 10))
    assert "nothing is left to do: all 2 steps" in train("again", 2, max_steps=2)
