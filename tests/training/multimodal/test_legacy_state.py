"""A legacy run goes on: the real checkpoint, converted with its training state, makes the legacy run's next step."""

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from hf_encoders.commands.convert import command as convert_main
from hf_encoders.conversion.families.legacy.multimodal_layouts import model_name
from hf_encoders.conversion.training_state import TRAINING_TENSORS
from hf_encoders.training.legacy_state import has_legacy_state
from hf_encoders.training.multimodal.arguments import LossArguments, RunArguments
from hf_encoders.training.multimodal.legacy_state import load_legacy_state
from hf_encoders.training.multimodal.step import Step, make_loss
from tests.conftest import DATA
from tests.helpers.legacy_files import convert
from tests.helpers.legacy_step import LEGACY_ROUNDING, assert_legacy_update

pytestmark = pytest.mark.numeric


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume") / "repo"
    convert(
        DATA / "multimodal_resume_checkpoint.pt",
        "--output",
        folder,
        "--with-training-state",
        "--allow-no-tokenizer",
        main=convert_main,
    )
    return folder


def test_the_next_step_is_the_legacy_runs(repo):
    """In double precision: what differs is the legacy run's rounding alone, on every processor by the same."""
    expected = load_file(DATA / "multimodal_resume_expected.safetensors")
    batch = {name.removeprefix("batch."): tensor for name, tensor in expected.items() if name.startswith("batch.")}
    batch = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in batch.items()}
    # In evaluation mode: the legacy run had no dropout.
    model = AutoModel.from_pretrained(repo, dtype=torch.float64)
    optimizer = torch.optim.AdamW(reversed(list(model.parameters())), lr=1e-4, weight_decay=0.01, fused=True)
    assert has_legacy_state(str(repo))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    progress = load_legacy_state(str(repo), model, optimizer, schedule)
    assert progress.step == schedule.last_epoch == 3
    accelerator = Accelerator(cpu=True)
    loss = make_loss(LossArguments(text_to_image_only=True), ["text", "image"])
    step = Step(accelerator, model, loss, RunArguments())
    texts = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    masked = next(tensor for name, tensor in batch.items() if "mask" in name and tensor.ndim == 4)
    inputs = texts | {"pixel_values": batch["pixel_values"]}
    batch_of_step = {"inputs": inputs, "teacher_inputs": {}, "captions": [], "ids": {}}
    batch_of_step |= {"words": [], "word_inputs": {}}
    output = step([batch_of_step | {"masked": masked, "rows": list(range(4)), "bad": []}])
    assert output.loss.item() == pytest.approx(expected["loss"].item(), abs=LEGACY_ROUNDING)
    optimizer.step()
    after = {
        model_name(name.removeprefix("after.")): tensor
        for name, tensor in expected.items()
        if name.startswith("after.") and ".pooler." not in name
    }
    parameters = dict(model.named_parameters())
    assert after.keys() - {"temperature"} == parameters.keys()
    assert_legacy_update(parameters, after)


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("text_projection.weight", "lacks text_projection.weight"),
        (None, "includes extra.weight, which is not trained here"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(lost, message, repo, tmp_path):
    for path in repo.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(repo / TRAINING_TENSORS)
    if lost:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{lost}.")}
    else:
        tensors |= {f"extra.weight.{kind}": torch.ones(()) for kind in ("exp_avg", "exp_avg_sq", "step")}
    save_file(tensors, tmp_path / TRAINING_TENSORS)
    model = AutoModel.from_pretrained(repo)
    with pytest.raises(ValueError, match=message):
        load_legacy_state(str(tmp_path), model, torch.optim.AdamW(model.parameters()), None)
