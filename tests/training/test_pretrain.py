"""The training script: killed and resumed, asked to stop, on two processes, on bad data; its result is a repo."""

import copy
import json
import math
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoModel, AutoProcessor

from hf_encoders import MultimodalEncoderModel
from hf_encoders.hub.card_curves import read_curves
from hf_encoders.losses import RelationLoss, SoftTargetLoss
from hf_encoders.training import pretrain
from hf_encoders.training.multimodal.arguments import DataArguments
from hf_encoders.training.multimodal.trainer import Trainer, TrainingError
from hf_encoders.training.multimodal.validation import curve_names
from tests.conftest import ROOT, SAMPLES
from tests.helpers.legacy_files import refusal
from tests.helpers.multimodal_models import tiny_model
from tests.helpers.training_runs import (
    ENVIRONMENT,
    EXACT,
    RECIPE,
    SCRIPT,
    assert_equal_but_for_rounding,
    assert_equal_moments,
    command,
    run,
    run_until,
    write_recipe,
)

pytestmark = pytest.mark.usefixtures("first_run")

# Everything whose state must come back: accumulation, averages, crops, a schedule, workers.
DEMANDING = {
    "gradient_accumulation_steps": 2, "batch_size": 10, "ema_decay": 0.9, "image_scale": 0.6, "checkpoint_steps": 1,
    "keep_last": 0, "num_workers": 1, "warmup_steps": 3,
}  # fmt: skip


def weights(output, file="model.safetensors"):
    return load_file(output / file)


def assert_equal_runs(one, other):
    names = {path.name for path in (one / "checkpoints").glob("checkpoint-*")}
    last = max(names, key=lambda name: int(name.rpartition("-")[2]))
    for file in (
        "model.safetensors",
        f"checkpoints/{last}/model.safetensors",
        f"checkpoints/{last}/averaged_model.safetensors",
    ):
        torch.testing.assert_close(weights(one, file), weights(other, file), rtol=0, atol=0)


@pytest.mark.parametrize(
    "data", [{}, {"streaming": True, "max_steps": 7, "shuffle_buffer": 30}], ids=["disk", "stream"]
)
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(data, tmp_path):
    recipe = write_recipe(tmp_path, **DEMANDING, **data)
    run(recipe, tmp_path / "whole")
    status, _, error = run_until("os.rename", "/checkpoint-4", recipe, tmp_path / "killed")
    assert status == -signal.SIGKILL, error
    names = {path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()} - {"run.lock"}
    whole = {name for name in names if not name.startswith(".")}
    assert whole == {"checkpoint-1", "checkpoint-2", "checkpoint-3"}
    assert [name.partition(".partial")[0] for name in names - whole] == [".checkpoint-4"]
    printed = run(recipe, tmp_path / "killed", resume_from_checkpoint="latest")
    assert f"resumed from {tmp_path / 'killed' / 'checkpoints' / 'checkpoint-3'}" in printed
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGTERM, 0), (-signal.SIGTERM, 1), (-signal.SIGINT, 1)], ids=["it", "all", "Ctrl-C"]
)
def test_a_run_that_is_asked_to_stop_says_how_to_go_on(number, workers, tmp_path):
    """Also where the signal goes to the processes that read its rows, too."""
    recipe = write_recipe(tmp_path, **DEMANDING | {"num_workers": workers})
    status, printed, error = run_until("os.rename", "/checkpoint-2", recipe, tmp_path / "out", number=number)
    assert status == 0 and "Traceback" not in error, error
    assert "--resume_from_checkpoint latest" in printed and "stopped after step 3;" in printed
    names = {path.name for path in (tmp_path / "out" / "checkpoints").iterdir()}
    assert names == {"checkpoint-1", "checkpoint-2", "checkpoint-3", "run.lock"}


def assert_equal_steps(one, two):
    assert_equal_moments(one, two, "checkpoint-2")
    first, second = (weights(run, "checkpoints/checkpoint-2/model.safetensors") for run in (one, two))
    assert_equal_but_for_rounding(second, first, EXACT["learning_rate"])


def test_two_processes_make_the_steps_of_one(tmp_path):
    recipe = write_recipe(tmp_path, **EXACT)
    run(recipe, tmp_path / "one", batch_size=20)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    torchrun += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    words = command(recipe, tmp_path / "two", batch_size=10)[1:]
    done = subprocess.run([*torchrun, *words], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert_equal_steps(tmp_path / "one", tmp_path / "two")


@pytest.mark.numeric
@pytest.mark.parametrize(
    "options",
    [{"batch_size": 10, "gradient_accumulation_steps": 2}, {"batch_size": 20, "chunk_size": 7}],
    ids=["accumulated", "chunked"],
)
def test_accumulated_and_chunked_steps_are_those_of_the_whole_batch(options, tmp_path):
    recipe = write_recipe(tmp_path, **EXACT)
    pretrain.command([str(recipe), "--output_dir", str(tmp_path / "whole"), "--batch_size", "20"])
    flags = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    pretrain.command([str(recipe), "--output_dir", str(tmp_path / "parts"), *flags])
    assert_equal_steps(tmp_path / "whole", tmp_path / "parts")


@pytest.fixture
def trainer_options(tmp_path):
    """Arguments for a run in this process."""
    return lambda **changes: [str(write_recipe(tmp_path, **changes)), "--output_dir", str(tmp_path / "out")]


ROOMS = {"dataset": [str(SAMPLES / "rooms")], "train_split": "validation", "max_steps": 2}


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "sigmoid", "temperature": 0.1},
        {"matryoshka_dims": [4, 8], "label_smoothing": 0.1},
        {"boxes_column": "objects.box", "depth_column": "", "text_to_image_only": True},
        {"boxes_column": "objects.box", "chunk_size": 8, "batch_norm": "update_once"},
        {"mixed_precision": "bf16", "chunk_size": 10},
        {"gradient_checkpointing": True, "lr_schedule": "linear", "max_grad_norm": 0},
        {"freeze": ["visual_encoder", "depth_encoder"], "text_learning_rate": 0.1},
    ],
    ids=lambda options: "-".join(options),
)
def test_every_option_trains_what_it_should(options, trainer_options, tmp_path):
    pretrain.command(trainer_options(**ROOMS, **options))
    trainer = Trainer(*pretrain.parse(trainer_options(**ROOMS, **options), pretrain.KINDS, tmp_path, ""))
    before = trainer.plain_model.state_dict()  # as the seed gives it
    after = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name].cpu(), after[name])}
    frozen = set(options.get("freeze", ()))
    absent = {"depth_encoder", "depth_projection"} if "depth_column" in options else set()
    towers = {"text_encoder", "visual_encoder", "depth_encoder"}
    projections = {"text_projection", "visual_projection", "depth_projection"}
    # AdamW's decay shrinks what gets no gradient only where a gradient is there at all.
    assert changed - {"temperature"} == (towers | projections) - frozen - absent
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_masked_copies_are_candidates(trainer_options):
    options = {**ROOMS, "boxes_column": "objects.box", "max_steps": 1}
    losses = []
    for changes in ({}, {"boxes_column": ""}):
        arguments = trainer_options(**options | changes, output_dir="")
        trainer = Trainer(*pretrain.parse(arguments, pretrain.KINDS, pretrain.DEFAULT_RECIPE, ""))
        losses.append(trainer.step([next(iter(trainer.loaders[0]))]).loss.item())
    assert losses[0] > losses[1]  # more candidates to be mistaken for the right one


@pytest.mark.numeric
def test_a_teacher_adds_its_similarities(trainer_options, tmp_path):
    """One step's loss is the loss without it plus the divergence; in chunks, it is the same."""
    tiny_model(depth=False).save_pretrained(tmp_path / "teacher")  # smaller images, and no depth
    options = EXACT | {"max_steps": 1, "batch_size": 20, "distillation_weight": 3.0}
    losses, weights_after = {}, {}
    for name, changes in {"none": {}, "whole": {"teacher": ""}, "chunks": {"teacher": "", "chunk_size": 7}}.items():
        changes = {key: str(tmp_path / "teacher") if key == "teacher" else value for key, value in changes.items()}
        arguments = trainer_options(**options | changes)
        trainer = Trainer(*pretrain.parse(arguments, pretrain.KINDS, pretrain.DEFAULT_RECIPE, ""))
        batch = next(iter(trainer.loaders[0]))
        with torch.no_grad():
            student = trainer.plain_model(**batch["inputs"])
        output = trainer.step([batch])
        losses[name] = output.loss.item()
        weights_after[name] = trainer.plain_model.text_projection.weight.grad.clone()
        if name == "whole":
            teacher = AutoModel.from_pretrained(tmp_path / "teacher")(**batch["teacher_inputs"])
            expected = [
                torch.nn.functional.kl_div(
                    ours.log_softmax(1), theirs.log_softmax(1), reduction="batchmean", log_target=True
                )
                for ours, theirs in (
                    (student.logits_per_image, teacher.logits_per_image),
                    (student.logits_per_text, teacher.logits_per_text),
                )
            ]
            divergence = (sum(expected) / 2).item()
            assert output.parts["distillation/text-image"].item() == pytest.approx(divergence, rel=1e-4)
            assert "distillation/text-depth" not in output.parts
    assert divergence > 0.01
    assert losses["whole"] == pytest.approx(losses["none"] + 3 * divergence, rel=1e-4)
    assert losses["chunks"] == pytest.approx(losses["whole"], rel=1e-5)
    torch.testing.assert_close(weights_after["chunks"], weights_after["whole"], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights_after["none"], weights_after["whole"], rtol=1e-2)


@pytest.mark.numeric
@pytest.mark.parametrize("part", ["text_teacher", "text_teacher of words too", "depth_follows_image", "soft_targets"])
def test_relations_of_one_modality_are_learned_too(part, trainer_options, tmp_path):
    """One step's loss is the loss without it plus the divergence; in chunks, it is the same."""
    tiny_model(depth=False).save_pretrained(tmp_path / "teacher")
    added = {"text_teacher": str(tmp_path / "teacher"), "text_teacher_weight": 3.0}
    if "words" in part:
        (tmp_path / "words.txt").write_text("stool\nottoman\nbicycle\n")
        added |= {"text_teacher_words": [str(tmp_path / "words.txt")], "text_teacher_templates": ["a red {}"]}
    part = part.split()[0]
    added = added if part == "text_teacher" else {part: 3.0}
    options = EXACT | {"max_steps": 1, "batch_size": 20}
    losses, gradients = {}, {}
    for name, changes in {"none": {}, "whole": added, "chunks": added | {"chunk_size": 7}}.items():
        arguments = trainer_options(**options | changes)
        trainer = Trainer(*pretrain.parse(arguments, pretrain.KINDS, pretrain.DEFAULT_RECIPE, ""))
        batch = next(iter(trainer.loaders[0]))
        with torch.no_grad():
            student = trainer.plain_model(**batch["inputs"])
            temperature = trainer.plain_model.clamped_temperature.item()
        before = copy.deepcopy(trainer.plain_model).eval()
        output = trainer.step([batch])
        losses[name] = output.loss.item()
        towers = ("text", "visual", "depth")
        gradients[name] = {
            tower: getattr(trainer.plain_model, f"{tower}_projection").weight.grad.clone() for tower in towers
        }
        if name == "whole":
            assert bool(batch["words"]) is ("text_teacher_words" in added)
            texts = [*batch["captions"], *batch["words"]]
            teacher = AutoModel.from_pretrained(tmp_path / "teacher").encode_text(texts)
            embeds = {tower: student[f"{tower}_embeds"] for tower in ("text", "image", "depth")}
            if part == "text_teacher":
                divergence = RelationLoss()(before.encode_text(texts), 0.05, teacher).item()
            elif part == "depth_follows_image":
                divergence = RelationLoss()(embeds["depth"], temperature, embeds["image"]).item()
            else:
                divergence = SoftTargetLoss()(embeds, temperature).loss.item()
            found = [value.item() for name, value in output.parts.items() if name.startswith(part)]
            assert sum(found) / len(found) == pytest.approx(divergence, rel=1e-4)
    assert divergence > 1e-4
    assert losses["whole"] == pytest.approx(losses["none"] + 3 * divergence, rel=1e-4)
    assert losses["chunks"] == pytest.approx(losses["whole"], rel=1e-5)
    learners = {"text_teacher": ["text"], "depth_follows_image": ["depth"]}.get(part, towers)
    for tower in towers:
        torch.testing.assert_close(gradients["chunks"][tower], gradients["whole"][tower], rtol=1e-4, atol=1e-6)
        changed = not torch.allclose(gradients["none"][tower], gradients["whole"][tower], rtol=1e-4, atol=1e-7)
        assert changed is (tower in learners), tower


def test_towers_that_the_data_does_not_reach_stay(trainer_options, tmp_path):
    pretrain.command(trainer_options(**ROOMS, depth_column=""))
    pretrain.command([*trainer_options(**ROOMS), "--output_dir", str(tmp_path / "other"), "--max_steps", "1"])
    one, other = (AutoModel.from_pretrained(tmp_path / name).state_dict() for name in ("out", "other"))
    trainer = Trainer(*pretrain.parse(trainer_options(**ROOMS), pretrain.KINDS, tmp_path, ""))
    for name, tensor in trainer.plain_model.state_dict().items():
        if name.startswith("depth_") and "num_batches" not in name:
            assert torch.equal(one[name], tensor.cpu())
    assert not torch.equal(other["depth_projection.weight"], one["depth_projection.weight"])


@pytest.mark.numeric
def test_averaged_weights_have_statistics_of_their_own(trainer_options, tmp_path):
    """What is saved embeds training rows in evaluation as it does in training: BatchNorm's statistics fit."""
    arguments = trainer_options(**ROOMS | {"max_steps": 6}, ema_decay=0.9, learning_rate=0.05, batch_size=50)
    trainer = Trainer(*pretrain.parse(arguments, pretrain.KINDS, pretrain.DEFAULT_RECIPE, ""))
    trainer.train()
    saved = AutoModel.from_pretrained(tmp_path / "out")
    maps = torch.cat([batch["inputs"]["depth_values"] for batch in trainer._make_loader()])
    raw = trainer.plain_model.depth_encoder.stem[1].running_mean
    with torch.no_grad():
        expected = saved.depth_encoder.stem[0](maps).mean((0, 2, 3))  # what the first BatchNorm receives
    torch.testing.assert_close(saved.depth_encoder.stem[1].running_mean, expected, rtol=1e-3, atol=1e-4)
    assert (raw.cpu() - expected).abs().max() > 1e-2


def test_a_new_run_leaves_an_old_one_alone(trainer_options):
    pretrain.command(trainer_options(max_steps=1))
    assert "holds the checkpoints of a run" in refusal(*trainer_options(max_steps=1), main=pretrain.command)


def test_the_result_is_a_repo(trainer_options, tmp_path, capsys):
    changes = {"dataset": [str(SAMPLES / "rooms")], "train_split": "validation", "validation_split": "validation"}
    pretrain.command(trainer_options(**changes, epochs=1, report_to="tensorboard"))
    model, info = AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(model) is MultimodalEncoderModel and not any(info.values())
    assert AutoProcessor.from_pretrained(tmp_path / "out").tokenizer is not None
    progress = json.loads((tmp_path / "out/checkpoints/checkpoint-5/progress.json").read_text())
    assert progress["epoch"] == 1 and progress["best_step"] == 5 and progress["best"] is not None
    printed = capsys.readouterr()
    assert re.search(r"retrieval/image_to_depth_recall@10 +\d\.\d{3}", printed.out)
    recalls = r"\d\.\d\d/\d\.\d\d/\d\.\d\d"
    measured = rf"recall@1/5/10: text → image {recalls}, text → depth {recalls}, image → depth {recalls}"
    assert re.search(rf"before training: validation \d\.\d{{4}}, {measured}\n", printed.out)
    assert re.search(
        rf"epoch 1, step 5  loss \d\.\d{{4}}  validation \d\.\d{{4}}, {measured}  best  \d+ s\n", printed.out
    )
    assert read_curves(tmp_path / "out" / "logs", ["validation_loss"])["validation_loss"][0][0] == 0
    opening = [line for line in printed.out.splitlines() if line.startswith(("data: ", "model: ", "loss: "))]
    assert re.fullmatch(
        r"data: 100 rows of \S+/samples/rooms; text in 'caption'; image in 'image'; depth in 'depth'; validated on"
        r" 'validation'",
        opening[0],
    )
    assert re.fullmatch(r"model: MultimodalEncoderModel, new; \S+( M)? parameters", opening[1])
    assert opening[2] == "loss: infonce; 5 steps of 20 rows, AdamW at 0.001 (cosine), in float32"
    assert list((tmp_path / "out" / "logs").rglob("events.out.tfevents*"))
    card = ModelCard.load(tmp_path / "out" / "README.md")
    names = curve_names(DataArguments(depth_column="depth", validation_split="validation"), "")
    assert {"loss", "validation_loss", "retrieval/text_to_depth_recall@5"} < set(names)
    # The loss of training is logged after more steps than these.
    assert read_curves(tmp_path / "out" / "logs", names).keys() == set(names) - {"loss"}
    assert "training_curves.png" in card.text and (tmp_path / "out" / "training_curves.png").stat().st_size > 5000
    recipe = yaml.safe_load((tmp_path / "out" / "training_recipe.yaml").read_text())
    assert recipe["dataset"] == ["samples/rooms"] and recipe["seed"] == 0 and "output_dir" not in recipe
    again = pretrain.parse([str(tmp_path / "out" / "training_recipe.yaml")], pretrain.KINDS, tmp_path, "")
    assert Path(again[0].dataset[0]).resolve() == SAMPLES / "rooms" and again[1].model_config == RECIPE["model_config"]


@pytest.mark.numeric
def test_training_learns(trainer_options, tmp_path):
    colours = ["red", "orange", "green", "cyan", "blue", "purple", "gray", "brown"]
    images = [Image.new("RGB", (32, 32), colour) for colour in colours]
    Dataset.from_dict({"image": images, "caption": [f"a {colour} wall" for colour in colours]}).to_parquet(
        tmp_path / "colours.parquet"
    )
    data = {"dataset": [str(tmp_path / "colours.parquet")], "depth_column": "", "batch_size": 8}
    model_config = RECIPE["model_config"] | {"text_pooling": "mean", "vision_pooling": "mean"}
    pretrain.command(trainer_options(**data, model_config=model_config, epochs=60, learning_rate=0.01))
    model = AutoModel.from_pretrained(tmp_path / "out")
    texts = model.encode_text([f"a {colour} wall" for colour in colours])
    found = model.similarity(texts, model.encode_image(images)).argmax(dim=1)
    assert (found == torch.arange(8)).sum() >= 6


def test_a_loss_that_is_no_number_stops_the_run(trainer_options, tmp_path, monkeypatch):
    arguments = trainer_options(checkpoint_steps=1, max_steps=4)
    trainer = Trainer(*pretrain.parse(arguments, pretrain.KINDS, pretrain.DEFAULT_RECIPE, ""))
    count = iter(range(10))
    monkeypatch.setattr(
        trainer.plain_model, "get_text_features", _failing(trainer.plain_model.get_text_features, count, at=2)
    )
    with pytest.raises(TrainingError, match=r"step 3: the loss is nan, with rows \[.*\].*last checkpoint in"):
        trainer.train()
    checkpoints = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert checkpoints == ["checkpoint-1", "checkpoint-2", "run.lock"]
    assert all(
        tensor.isfinite().all()
        for tensor in weights(tmp_path / "out", "checkpoints/checkpoint-2/model.safetensors").values()
    )


def _failing(function, count, at):
    def features(*args, **kwargs):
        outputs = function(*args, **kwargs)
        if next(count) == at:
            outputs.pooler_output = outputs.pooler_output * math.nan
        return outputs

    return features


@pytest.mark.parametrize("allowed", [2, 1])
def test_unreadable_rows_are_skipped_and_counted(allowed, trainer_options, tmp_path):
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(60)).to_list()
    for index in (7, 30):
        rows[index]["image"]["bytes"] = rows[index]["image"]["bytes"][:900]
    Dataset.from_list(rows).to_parquet(tmp_path / "bad.parquet")
    arguments = trainer_options(dataset=[str(tmp_path / "bad.parquet")], epochs=1, max_bad_samples=allowed)
    if allowed == 2:
        pretrain.command(arguments)
        progress = json.loads((tmp_path / "out/checkpoints/checkpoint-3/progress.json").read_text())
        assert sorted(text.partition(":")[0] for text in progress["bad_samples"]) == ["row 30", "row 7"]
    else:
        with pytest.raises(ValueError, match="2 rows cannot be read, more than --max_bad_samples allows: row"):
            pretrain.command(arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": []}, "no data: give --dataset"),
        ({"dataset": ["/no/folder"]}, "/no/folder: no such file or folder"),
        ({"text_column": "title"}, "no column 'title'; it has image (pictures), depth (pictures), caption (text)"),
        ({"text_column": "title"}, "; say --text_column"),
        ({"depth_column": "map"}, "; say --depth_column"),
        ({"id_column": "key"}, "; say --id_column"),
        ({"batch_size": 500}, "100 rows, fewer than the 500 of a step (batch_size 500 x"),
        ({"tokenizer": ""}, "needs a --tokenizer"),
        ({"init_from": str(SAMPLES / "multimodal-rooms")}, "give one of --init_from"),
        ({"freeze": ["vision"]}, "no module 'vision'"),
        ({"learning_rat": 1}, "there is no option learning_rat"),
        ({"resume_from_checkpoint": "latest"}, "no checkpoint there yet"),
        ({"pair_weights": {"text-image": 1}}, "pair_weights has no pair with depth: add one, or leave out --depth_col"),
        ({"model_config": RECIPE["model_config"] | {"depth_config": None}}, "this model has no depth tower"),
        ({"teacher": "/no/teacher"}, "/no/teacher"),
        ({"text_teacher": "/no/teacher"}, "/no/teacher"),
        ({"soft_targets": -1.0}, "--soft_targets -1.0: a weight is a number of 0 and more"),
        ({"distillation_weight": float("nan")}, "--distillation_weight nan: a weight is a number"),
        ({"depth_follows_image": 1.0, "depth_column": ""}, "--depth_follows_image needs images and depth maps"),
    ],
)
def test_bad_options_take_one_line(changes, message, trainer_options):
    assert message in refusal(*trainer_options(**changes), main=pretrain.command)


def test_flags_overrule_the_recipe(trainer_options):
    arguments = [*trainer_options(seed=3), "--learning_rate", "3e-4", "--pair_weights", '{"text-depth": 2}']
    data, model, loss, options = pretrain.parse(arguments, pretrain.KINDS, pretrain.DEFAULT_RECIPE, "")
    assert (options.seed, options.learning_rate, loss.pair_weights) == (3, 3e-4, {"text-depth": 2})
    assert data.depth_column == "depth" and model.model_config["projection_dim"] == 8


def test_the_literal_line_works(tmp_path):
    """`accelerate launch training/pretrain.py`, cut short."""
    words = [sys.executable, "-m", "accelerate.commands.launch", "training/pretrain.py", "--max_steps", "1"]
    words += ["--output_dir", str(tmp_path / "out"), "--validation_split", "", "--report_to", "none"]
    subprocess.run(words, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    assert AutoModel.from_pretrained(tmp_path / "out").config.depth_config is not None


def test_the_script_has_its_help():
    printed = subprocess.run(
        [sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True, env=ENVIRONMENT
    ).stdout
    assert "--resume_from_checkpoint" in printed
