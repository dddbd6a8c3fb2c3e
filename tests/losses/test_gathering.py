"""Losses over two real ranks: gradients, averaged over ranks, are those of one process with all rows."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from hf_encoders.losses.contrastive import InfoNCELoss, LossOutput, SigmoidLoss
from hf_encoders.losses.distillation import DistillationLoss
from hf_encoders.losses.gathering import gather_batch
from hf_encoders.losses.matryoshka import MatryoshkaLoss
from hf_encoders.losses.relations import RelationLoss
from hf_encoders.losses.soft_targets import SoftTargetLoss
from tests.helpers.ranks import joined, on_ranks

pytestmark = pytest.mark.numeric

MODALITIES = ("text", "image", "depth")
ROWS = 6
IDS = {"text": [0, 1, 2, 0, 4, 1], "image": [5, 6, 6, 8, 9, 5]}
LOSSES = {
    "infonce": lambda: InfoNCELoss({"text-image": 1, "text-depth": 0.5, "image-depth": 2}, label_smoothing=0.1),
    "one way": lambda: InfoNCELoss(symmetric=False),
    "sigmoid": lambda: SigmoidLoss(bias_init_value=-1.0),
    "matryoshka": lambda: MatryoshkaLoss(SigmoidLoss(bias_init_value=-1.0), [2, 4]),
    "distillation": lambda: DistillationLoss(0.2),
    "relations": RelationLoss,
    "soft targets": lambda: SoftTargetLoss(0.2),
}
# How many rows each rank has, and how many negatives.
SPLITS = {
    "even": ([3, 3], [2, 2]),
    "uneven": ([4, 2], [1, 3]),
    "one empty": ([6, 0], [0, 4]),
    "first": ([0, 6], [4, 0]),
}
CASES = [(loss, split, torch.float64) for loss in LOSSES for split in SPLITS] + [
    (loss, "uneven", torch.float32) for loss in LOSSES
]


def make_data(dtype):
    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(ROWS, 5, generator=generator).to(dtype) for name in MODALITIES}
    inputs["negatives"] = torch.randn(4, 5, generator=generator).to(dtype)
    inputs["teacher"] = F.normalize(torch.randn(ROWS, 2, 3, generator=generator).to(dtype), dim=-1)
    inputs["negative ids"] = torch.tensor([5, 20, 8, 21])  # two are images of the batch
    return inputs | {f"{name} ids": torch.tensor(values) for name, values in IDS.items()}


def gradients_of(loss, inputs, dtype):
    """By name: of three towers, temperature and bias; and the loss and its parts."""
    torch.manual_seed(0)
    model = nn.ModuleDict({name: nn.Linear(5, 4) for name in MODALITIES}).to(dtype)
    temperature = nn.Parameter(torch.tensor(0.3, dtype=dtype))
    embeds = {name: F.normalize(model[name](inputs[name]), dim=-1) for name in MODALITIES}
    if isinstance(loss, DistillationLoss):
        text, image = inputs["teacher"].unbind(1)
        output = loss(embeds, temperature.clamp(min=0.01), {"text": text, "image": image})
    elif isinstance(loss, SoftTargetLoss):
        output = loss(embeds, temperature.clamp(min=0.01), inputs["teacher"][:, 0])
    elif isinstance(loss, RelationLoss):
        output = LossOutput(loss(embeds["text"], 0.2, inputs["teacher"][:, 0]))
    else:
        output = loss(
            embeds,
            temperature.clamp(min=0.01),
            ids={name: inputs[f"{name} ids"] for name in IDS},
            negatives={"image": F.normalize(model["image"](inputs["negatives"]), dim=-1)},
            negative_ids={"image": inputs["negative ids"]},
        )
    output.loss.backward()
    named = dict(model.named_parameters()) | {"temperature": temperature} | dict(loss.named_parameters())
    gradients = {name: torch.zeros_like(one) if one.grad is None else one.grad for name, one in named.items()}
    return gradients, {"loss": output.loss.detach()} | output.parts


def run(rank):
    """What both ranks find, by case; and the message for ranks that differ."""
    results = {}
    for name, split, dtype in CASES:
        rows, negatives = SPLITS[split]
        data = make_data(dtype)
        mine = {key: tensor.split(negatives if "negative" in key else rows)[rank] for key, tensor in data.items()}
        loss = LOSSES[name]().to(dtype)
        gradients, values = gradients_of(loss, mine, dtype)
        if "bias" in gradients:
            values["own bias gradient"] = gradients["bias"].clone()
        for gradient in gradients.values():  # as DistributedDataParallel does
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
        results[name, split, str(dtype)] = gradients, values

    one = torch.ones(1, 4)
    try:
        gather_batch({"text": one, "image": one} if rank else {"text": one})
    except ValueError as error:
        results["different"] = str(error)
    # A frozen tower on one rank alone: backward must not wait for it.
    text, image = torch.eye(2)[rank][None].requires_grad_(), torch.eye(2)[rank][None]
    InfoNCELoss()({"text": text.detach() if rank else text, "image": image}, 0.5).loss.backward()
    results["of the other rank"] = text.grad
    with torch.no_grad():
        results["no grad"] = InfoNCELoss()({"text": text, "image": image}, 0.5).loss
    return results


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_ranks(__file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("name", "split", "dtype"), CASES)
def test_two_ranks_are_one_process(ranks, name, split, dtype):
    loss = LOSSES[name]().to(dtype)
    gradients, values = gradients_of(loss, make_data(dtype), dtype)
    if "bias" in gradients:
        values["own bias gradient"] = gradients["bias"]  # the same on each rank, before averaging
    tolerance = 1e-9 if dtype == torch.float64 else 1e-5
    for found_gradients, found_values in (rank[name, split, str(dtype)] for rank in ranks):
        torch.testing.assert_close(found_gradients, gradients, rtol=tolerance, atol=tolerance / 10)
        torch.testing.assert_close(found_values, values, rtol=tolerance, atol=tolerance / 10)
    compared = ("text.weight",) if name == "relations" else ("text.weight", "image.weight", "temperature")
    assert all(gradients[parameter].any() for parameter in compared)


def test_ranks_that_differ_find_out(ranks):
    for rank in ranks:
        assert rank["different"].startswith("rank 1 gives other modalities, dimensions, types, ids or negatives")


def test_no_rank_waits_for_a_frozen_one(ranks):
    assert ranks[0]["of the other rank"].any() and ranks[1]["of the other rank"] is None
    assert ranks[0]["no grad"] == ranks[1]["no grad"] > 0


if __name__ == "__main__":
    joined(run)
