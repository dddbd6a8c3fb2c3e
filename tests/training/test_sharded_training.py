"""FSDP2 and DeepSpeed under `accelerate launch`, on two CPU processes: curves, weights and checkpoints of one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.utils import is_deepspeed_available
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModel

from hf_encoders.hub.card_curves import read_curves
from hf_encoders.training import pretrain
from tests.conftest import ROOT, SAMPLES
from tests.helpers.legacy_files import refusal
from tests.helpers.runs import forget_runs
from tests.helpers.training_runs import ENVIRONMENT, EXACT, RECIPE, assert_equal_but_for_rounding

# Many rows are skipped, so that the processes have different numbers of rows, chunks and masked copies.
COMMON = EXACT | {"max_bad_samples": 99, "report_to": "tensorboard", "logging_steps": 1, "max_steps": 2}
PLAIN = {
    "boxes_column": "objects.box", "loss": "sigmoid", "checkpoint_steps": 0, "max_steps": 0, "epochs": 1,
    "validation_split": "validation", "validation_metric": "retrieval/image_to_text_recall@1",
}  # fmt: skip
RUNS = {
    # BatchNorm of a trained depth tower sees the rows of its process, unless cached chunks go by its statistics.
    "fsdp2": {"averaged": {"freeze": ["text_encoder.embeddings"], "chunk_size": 6, "ema_decay": 0.5}, "plain": PLAIN},
    "deepspeed_zero2": {"averaged": {"ema_decay": 0.5}, "plain": PLAIN},
}
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--mixed_precision", "no"]
LAUNCH += ["--main_process_port", "0", "--config_file"]
# Of the Makefile. Beside all else, Accelerate and transformers would import it in every test.
DEEPSPEED = Path(sys.prefix) / "deepspeed"


@pytest.fixture(scope="module", params=RUNS)
def runs(request, tmp_path_factory):
    """A folder with `one/NAME`, of one process, and `two/NAME`, of two; what two said; and the kind."""
    environment = ENVIRONMENT
    if request.param == "deepspeed_zero2":
        if not DEEPSPEED.exists():
            pytest.skip(f"no DeepSpeed in {DEEPSPEED}")
        environment = ENVIRONMENT | {"PYTHONPATH": str(DEEPSPEED)}
    folder = tmp_path_factory.mktemp("sharded")
    rows = Dataset.from_parquet(str(SAMPLES / "rooms" / "validation.parquet")).select(range(40)).to_list()
    whole = [dict(row) for row in rows]
    for row in rows[::3]:
        row["image"] = {"bytes": row["image"]["bytes"][:900], "path": None}
    for name, part in {"train": rows, "validation": whole}.items():
        (folder / "data").mkdir(exist_ok=True)
        Dataset.from_list(part).to_parquet(folder / "data" / f"{name}.parquet")
    lines = {}
    for name, changes in RUNS[request.param].items():
        recipe = folder / f"{name}.yaml"
        recipe.write_text(yaml.safe_dump(RECIPE | COMMON | changes | {"dataset": [str(folder / "data")]}))
        forget_runs()
        pretrain.command([str(recipe), "--output_dir", str(folder / "one" / name), "--batch_size", "20"])
        lines[name] = [str(recipe), "--output_dir", str(folder / "two" / name), "--batch_size", "10"]
    first = folder / "two" / "averaged" / "checkpoints" / "checkpoint-1"
    resumed = ["--resume_from_checkpoint", str(first), "--output_dir", str(folder / "two" / "resumed")]
    calls = [
        *(("pretrain", line) for line in [*lines.values(), [*lines["averaged"], *resumed]]),
        ("pretrain_depth", []),
    ]
    (folder / "lines.json").write_text(json.dumps(calls))
    script = Path(__file__).parent / "sharded_rank.py"
    config = ROOT / "training" / "configs" / f"{request.param}.yaml"
    command = [*LAUNCH, str(config)]
    script_words = [str(script), str(folder / "lines.json")]
    done = subprocess.run([*command, *script_words], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    alone = ["--resume_from_checkpoint", str(first), "--output_dir", str(folder / "two" / "alone")]
    (folder / "lines.json").write_text(json.dumps([("pretrain", [*lines["averaged"], *alone])]))
    alone = subprocess.run(
        [*command, "--num_processes", "1", *script_words], env=environment, capture_output=True, text=True
    )
    assert alone.returncode == 0, alone.stderr[-3000:]
    return folder, done.stdout, request.param, alone.stdout


@pytest.mark.parametrize("name", ["averaged", "plain"])
def test_the_curves_are_those_of_one_process(name, runs):
    names = ["loss", "gradient_norm", "retrieval/image_to_text_median_rank"]
    one, two = (read_curves(runs[0] / side / name / "logs", names) for side in ("one", "two"))
    assert len(one["loss"]) == 2 and set(one) == set(two)
    # Rounding of cosines, divided by the temperature; and what AdamW made of rounding in the step before.
    for curve, tolerance in {"loss": 1e-4, "gradient_norm": 1e-3}.items():  # of the temperature's gradient, too
        assert [value for _, value in two[curve]] == pytest.approx([value for _, value in one[curve]], rel=tolerance)


@pytest.mark.parametrize("name", ["averaged", "plain"])
def test_the_repo_is_that_of_one_process(name, runs):
    model, info = AutoModel.from_pretrained(runs[0] / "two" / name, output_loading_info=True)
    assert not any(info.values())
    one = AutoModel.from_pretrained(runs[0] / "one" / name)
    # Parameters alone: averages fit BatchNorm's statistics to the batches of a process.
    found, expected = (dict(one.named_parameters()) for one in (model, one))
    assert_equal_but_for_rounding(found, expected, EXACT["learning_rate"])
    assert model.temperature != 0.07


def test_it_was_this_that_trained(runs):
    folder = runs[0] / "two" / "averaged" / "checkpoints" / "checkpoint-1"
    parts = {"fsdp2": ["pytorch_model_fsdp.bin"]}.get(
        runs[2], [f"pytorch_model/zero_pp_rank_{rank}_mp_rank_00_optim_states.pt" for rank in range(2)]
    )
    assert all((folder / part).is_file() for part in parts)


def test_a_resumed_run_ends_with_the_same_weights(runs):
    whole, resumed = (load_file(runs[0] / "two" / name / "model.safetensors") for name in ("averaged", "resumed"))
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


def test_fewer_processes_go_on_with_fsdp_and_are_refused_with_deepspeed(runs):
    if runs[2] == "deepspeed_zero2":
        refused = (
            "refused: {}: written by 2 processes, this run has 1, and DeepSpeed keeps a part of the state for each"
        )
        assert refused.format(runs[0] / "two" / "averaged" / "checkpoints" / "checkpoint-1") in runs[3]
        return
    assert "goes on with 1 process instead of 2: 20 rows per process and step instead of 10" in runs[3]
    whole, alone = (AutoModel.from_pretrained(runs[0] / "two" / name) for name in ("averaged", "alone"))
    assert_equal_but_for_rounding(*(dict(one.named_parameters()) for one in (alone, whole)), EXACT["learning_rate"])


def test_a_checkpoint_is_of_the_kind_of_its_run(runs, tmp_path):
    first = runs[0] / "two" / "averaged" / "checkpoints" / "checkpoint-1"
    words = [str(runs[0] / "averaged.yaml"), "--output_dir", str(tmp_path / "out"), "--batch_size", "10"]
    forget_runs()
    line = refusal(*words, "--resume_from_checkpoint", str(first), main=pretrain.command)
    kind = {"fsdp2": "FSDP", "deepspeed_zero2": "DeepSpeed"}[runs[2]]
    assert f"checkpoint-1: written with {kind}, and this run has no sharding: start it with the configuration" in line


def test_what_does_not_shard_is_refused(runs):
    name = {"fsdp2": "FSDP", "deepspeed_zero2": "DeepSpeed"}[runs[2]]
    assert (
        runs[1].count(f"refused: this script does not train with {name}: launch it with accelerate launch --multi_gp")
        == 2
    )


@pytest.mark.parametrize(
    ("options", "stage", "says"),
    [
        (["--chunk_size", "4"], 2, "DeepSpeed takes a batch at once: leave out --chunk_size"),
        (["--mixed_precision", "bf16"], 2, "DeepSpeed would cast all weights to that precision"),
        ([], 3, "ZeRO of stage 3 is not supported: its weights are whole inside of DeepSpeed alone"),
        ([], 3, "take FSDP of version 2, which spreads weights too (training/configs/fsdp2.yaml), or zero_stage 2"),
    ],
)
def test_what_deepspeed_cannot_do_is_refused(options, stage, says, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(stage))
    assert says in refusal("--max_steps", "1", *options, main=pretrain.command)


@pytest.mark.skipif(is_deepspeed_available(), reason="it is there")
def test_deepspeed_that_is_not_there_takes_one_line(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert "DeepSpeed is not installed" in refusal("--max_steps", "1", main=pretrain.command)
