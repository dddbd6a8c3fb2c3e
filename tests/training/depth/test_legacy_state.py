"""A legacy depth run goes on: converted with its training state, it is trained on as by torch itself."""

import json

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from hf_encoders import DepthAutoencoderModel, DepthSemanticEncoderConfig
from hf_encoders.conversion.training_state import TRAINING_JSON, read_training_state
from hf_encoders.training import pretrain_depth
from hf_encoders.training.depth.trainer import DepthTrainer
from hf_encoders.training.recipe import parse
from tests.conftest import TINY
from tests.helpers.legacy_files import convert, one_thread, refusal, tiny_state
from tests.helpers.runs import forget_runs

pytestmark = pytest.mark.usefixtures("first_run")

SIZES = {"image_size": 32, "decoder_hidden_sizes": [8, 8, 8], "decoder_head_sizes": [8, 8, 8]}
RATE, DECAY, STEPS = 3e-4, 1e-5, 3


def legacy_run(**options):
    """The legacy network, and its AdamW after some steps with made-up gradients."""
    network = DepthAutoencoderModel(DepthSemanticEncoderConfig(**TINY | SIZES))
    network.load_state_dict(tiny_state(**SIZES))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY, **options)
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        for parameter in network.parameters():
            parameter.grad = 1e-2 * torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return network, optimizer


def legacy_file(path, network, optimizer, **others):
    history = {"train_loss": [0.5, 0.25], "val_loss": [0.75, 0.5]}
    content = {
        "epoch": 1, "model_state_dict": network.state_dict(), "optimizer_state_dict": optimizer.state_dict(),
        "best_loss": 0.5, "training_history": history, "config": {"image_size": 32},
    }  # fmt: skip
    torch.save(content | others, path)
    return path


def converted(path, *options):
    convert(path, "--include-decoder", "--with-training-state", "--no-verify", "--overwrite", *options)
    return path.with_name(f"{path.stem}-hf")


@pytest.fixture
def recipe(tmp_path):
    """A run of depth maps: ramps, some rising."""
    (tmp_path / "maps").mkdir()
    for number in range(12):
        ramp = np.linspace(1, 2 + number, 40 * 40, dtype=np.float32).reshape(40, 40)
        np.save(tmp_path / "maps" / f"{number:02}.npy", ramp)
    options = {
        "dataset": str(tmp_path / "maps"), "output_dir": str(tmp_path / "out"), "epochs": 3, "batch_size": 4,
        "learning_rate": RATE, "weight_decay": DECAY, "num_workers": 0, "report_to": "none",
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(options))
    return tmp_path / "recipe.yaml"


def trainer(recipe, repo, *arguments):
    words = [str(recipe), "--init_from", str(repo), "--resume_from_checkpoint", str(repo), *map(str, arguments)]
    return DepthTrainer(*parse(words, pretrain_depth.KINDS, pretrain_depth.DEFAULT_RECIPE, ""))


@pytest.mark.numeric
@pytest.mark.parametrize("options", [{}, {"amsgrad": True, "betas": (0.8, 0.99), "eps": 1e-6}])
def test_the_run_goes_on_as_torchs_own_adamw_does(options, recipe, tmp_path, capsys):
    network, optimizer = legacy_run(**options)
    repo = converted(legacy_file(tmp_path / "latest_checkpoint.pth", network, optimizer))
    with one_thread():
        run = trainer(recipe, repo)
        gradients = []

        def keep(*_):
            gradients.append({name: parameter.grad.clone() for name, parameter in run.network.named_parameters()})

        run.optimizer.optimizer.register_step_pre_hook(keep)
        run.train()
        assert (
            f"went on from {repo}: epoch 2, step 3; learning rate of the next step: 0.0003" in capsys.readouterr().out
        )
        assert len(gradients) == 2 and (run.progress.epoch, run.progress.step) == (3, STEPS + 2)
        for step in gradients:  # the legacy optimizer takes the same steps
            for name, parameter in network.named_parameters():
                parameter.grad = step[name]
            optimizer.step()
    expected = dict(network.named_parameters())
    for name, parameter in run.network.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    weights = load_file(tmp_path / "out" / "model.safetensors")  # the first epoch after the legacy run is the best
    assert all(torch.equal(weights[name], parameter) for name, parameter in expected.items())


def test_a_run_that_went_on_is_resumed_like_any_other(recipe, tmp_path, capsys):
    repo = converted(legacy_file(tmp_path / "a.pth", *legacy_run()))
    with one_thread():
        trainer(recipe, repo).train()
        forget_runs()
        words = [str(recipe), "--init_from", str(repo), "--resume_from_checkpoint", "latest", "--epochs", "4"]
        pretrain_depth.command(words)
    assert "epoch 4/4" in capsys.readouterr().out
    with pytest.raises(ValueError, match="holds the checkpoints of a run"):
        trainer(recipe, repo)


@pytest.mark.parametrize(("schedule", "rate"), [("step", 3e-4 * 0.01), ("constant", 3e-4), ("plateau", 1e-5)])
def test_the_learning_rate_is_that_after_the_legacy_epochs(schedule, rate, recipe, tmp_path):
    network, optimizer = legacy_run()
    optimizer.param_groups[0]["lr"] = 1e-5  # after drops of the legacy schedule
    repo = converted(legacy_file(tmp_path / "a.pth", network, optimizer))
    run = trainer(recipe, repo, "--lr_schedule", schedule, "--schedule_epochs", 1)
    run._go_on_from_legacy(str(repo))
    assert run.optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_what_the_repo_keeps_of_the_training(tmp_path):
    network, optimizer = legacy_run()
    out = convert(
        legacy_file(tmp_path / "a.pth", network, optimizer), "--include-decoder", "--with-training-state", "--no-verify"
    )
    assert "training state: epoch 1, step 3, AdamW's moments" in out
    tensors, info = read_training_state(tmp_path / "a-hf")
    assert info["finished_epochs"] == 2 and info["history"]["val_loss"] == [0.75, 0.5] and info["best_loss"] == 0.5
    assert info["optimizer"]["lr"] == RATE
    first = next(iter(network.named_parameters()))[0]
    assert torch.equal(tensors[f"{first}.exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"])
    assert "training_state.safetensors" in (tmp_path / "a-hf" / "README.md").read_text()
    convert("--verify", tmp_path / "a-hf", "--against", tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("others", "options", "said"),
    [
        ({"optimizer_state_dict": None}, ["--include-decoder"], "a.pth: holds no optimizer_state_dict"),
        ({}, [], "a.pth: its optimizer trained the decoder too; give --include-decoder with --with-training-state"),
    ],
)
def test_a_state_that_cannot_be_kept_is_one_line(others, options, said, tmp_path):
    path = legacy_file(tmp_path / "a.pth", *legacy_run(), **others)
    assert said in refusal(path, "--with-training-state", "--no-verify", *options)


def test_sorted_parameters_are_refused(tmp_path):
    network, optimizer = legacy_run()
    state = dict(sorted(network.state_dict().items()))
    path = legacy_file(tmp_path / "a.pth", network, optimizer, model_state_dict=state)
    said = refusal(path, "--include-decoder", "--with-training-state", "--no-verify")
    assert "its parameters are not in the network's order" in said


def test_a_run_without_an_epoch_left_is_refused(recipe, tmp_path):
    repo = converted(legacy_file(tmp_path / "a.pth", *legacy_run()))
    with pytest.raises(ValueError, match="its run had finished 2 epochs; give --epochs more than that"):
        trainer(recipe, repo, "--epochs", 2).train()


def test_several_groups_are_refused(recipe, tmp_path):
    repo = converted(legacy_file(tmp_path / "a.pth", *legacy_run()))
    info = json.loads((repo / TRAINING_JSON).read_text())
    names = [name for name, _ in legacy_run()[0].named_parameters()]
    group = {name: value for name, value in info["optimizer"].items() if name != "name"}
    groups = [group | {"parameters": names[:5]}, group | {"parameters": names[5:]}]
    (repo / TRAINING_JSON).write_text(json.dumps(info | {"optimizer": {"name": "AdamW", "groups": groups}}))
    with pytest.raises(ValueError, match="its optimizer has 2 groups of parameters, and this run has one"):
        trainer(recipe, repo).train()
