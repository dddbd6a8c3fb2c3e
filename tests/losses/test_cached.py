"""The cached loss: gradients of the whole batch from chunks, in one process and over two ranks."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hf_encoders.losses.cached import cached_backward, split_batch
from hf_encoders.losses.contrastive import InfoNCELoss, SigmoidLoss
from tests.helpers.multimodal_models import LENGTH, SIZE, TEXT, tiny_model
from tests.helpers.ranks import joined, on_ranks

pytestmark = pytest.mark.numeric

ROWS = 6
LOSSES = {"infonce": InfoNCELoss, "sigmoid": partial(SigmoidLoss, bias_init_value=-1.0)}
MODES = ("frozen", "update_once")


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "input_ids": torch.randint(TEXT["vocab_size"], (ROWS, LENGTH), generator=generator),
        "pixel_values": torch.randn(ROWS, 3, SIZE, SIZE, generator=generator).double(),
        "masked": torch.randn(ROWS, 3, SIZE, SIZE, generator=generator).double(),
        "depth_values": torch.rand(ROWS, 1, SIZE, SIZE, generator=generator).double() * 2 - 1,
        "ids": torch.tensor([0, 1, 0, 2, 3, 4]),
    }


def embed(model, chunk):
    """One call with the masked copies among the images, as distributed training wants it."""
    rows = len(chunk["input_ids"])
    if not rows:
        anything = {name: tensor.new_ones(1, *tensor.shape[1:]) for name, tensor in chunk.items()}
        return {name: tensor[:0] for name, tensor in embed(model, anything).items()}
    outputs = model(
        input_ids=chunk["input_ids"],
        pixel_values=torch.cat((chunk["pixel_values"], chunk["masked"])),
        depth_values=chunk["depth_values"],
    )
    images = outputs.image_embeds
    return {"text": outputs.text_embeds, "image": images[:rows], "masked": images[rows:], "depth": outputs.depth_embeds}


def loss_of(loss, model, ids, embeds):
    negatives = {"image": embeds.pop("masked")}
    temperature = getattr(model, "module", model).clamped_temperature
    return loss(embeds, temperature, ids={"text": ids}, negatives=negatives)


def gradients_of(model, loss):
    """By name, removed from the parameters."""
    named = dict(getattr(model, "module", model).named_parameters()) | dict(loss.named_parameters())
    gradients = {name: parameter.grad for name, parameter in named.items()}
    for parameter in named.values():
        parameter.grad = None
    return gradients


def cached(model, loss, batch, chunk_size, **options):
    chunks = split_batch(batch, chunk_size)
    return cached_backward(model, chunks, partial(embed, model), partial(loss_of, loss, model, batch["ids"]), **options)


def uncached(model, loss, batch, chunk_size=ROWS):
    """With the graph of everything at once; in chunks only for the sake of random numbers."""
    pieces = [embed(model, chunk) for chunk in split_batch(batch, chunk_size)]
    output = loss_of(loss, model, batch["ids"], {name: torch.cat([one[name] for one in pieces]) for name in pieces[0]})
    output.loss.backward()
    return output


def freeze_batch_norm(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def buffers_of(model):
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def assert_same(found, expected, tolerance=1e-9):
    assert all(gradient is not None for gradient in expected.values())
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module")
def double_model():
    return tiny_model().double()


@pytest.fixture
def model(double_model):
    return copy.deepcopy(double_model)


@pytest.mark.parametrize("name", LOSSES)
def test_chunks_have_the_gradients_of_the_whole_batch(model, name):
    loss, batch = LOSSES[name]().double(), make_batch()
    expected_output = uncached(model, loss, batch)
    expected = gradients_of(model, loss)
    for chunk_size in (1, 4, 100):
        output = cached(model, loss, batch, chunk_size)
        assert not output.loss.requires_grad and output.parts.keys() == expected_output.parts.keys()
        torch.testing.assert_close(output.loss, expected_output.loss.detach())
        assert_same(gradients_of(model, loss), expected)


@pytest.mark.parametrize("mode", MODES)
def test_random_states_are_replayed_with_frozen_batch_norm(model, mode):
    loss, batch = LOSSES["sigmoid"]().double(), make_batch()
    model.train()
    frozen = copy.deepcopy(model)
    freeze_batch_norm(frozen)
    torch.manual_seed(5)
    uncached(frozen, loss, batch, chunk_size=4)
    expected, state, buffers = gradients_of(frozen, loss), torch.get_rng_state(), buffers_of(model)
    torch.manual_seed(5)
    cached(model, loss, batch, 4, batch_norm=mode)
    assert_same(gradients_of(model, loss), expected)
    assert torch.equal(torch.get_rng_state(), state)  # as if the second pass had drawn nothing
    assert all(module.training for module in model.modules())
    changed = {name for name, buffer in model.named_buffers() if not torch.equal(buffer, buffers[name])}
    statistics = {name for name in buffers if "running" in name or "tracked" in name}
    assert statistics and changed == (statistics if mode == "update_once" else set())


@pytest.mark.parametrize("momentum", [0.1, None])
def test_statistics_are_updated_once(momentum):
    """As one forward pass with the whole batch; layers in evaluation mode are left alone."""
    torch.manual_seed(0)
    layers = [nn.BatchNorm2d(3, momentum=momentum), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 4)]
    model = nn.Sequential(*layers)
    model[1].eval()
    batch = {"x": torch.randn(7, 3, 2, 2) * 3 + 40}
    expected = copy.deepcopy(model[0])
    for _ in range(2):
        expected(batch["x"])
        cached_backward(
            model, split_batch(batch, 3), lambda chunk: {"text": model(chunk["x"])},
            lambda embeds: InfoNCELoss()({"text": embeds["text"], "image": torch.ones(7, 4)}, 1.0),
            batch_norm="update_once",
        )  # fmt: skip
    torch.testing.assert_close(dict(model[0].named_buffers()), dict(expected.named_buffers()))
    assert model[0].num_batches_tracked == 2 and model[1].num_batches_tracked == 0
    assert model[0].training and not model[1].training


def test_after_an_error_batch_norm_is_as_before(model):
    buffers = buffers_of(model.train())

    def broken(embeds):
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        cached_backward(model, split_batch(make_batch(), 4), partial(embed, model), broken, batch_norm="update_once")
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(buffers_of(model), buffers, rtol=0, atol=0)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_chunks_may_lack_a_name_and_towers_may_be_frozen():
    """Masked copies belong to the first chunk alone; the loss leaves one of the names alone."""
    text, image = nn.Linear(3, 4), nn.Linear(3, 4).requires_grad_(False)
    batch = {"x": torch.randn(5, 3), "y": torch.randn(5, 3)}

    def embed_some(chunk):
        embeds = {"text": text(chunk["x"]), "image": image(chunk["y"]), "unused": text(chunk["y"])}
        return embeds | ({"masked": text(chunk["y"])} if len(chunk["x"]) == 3 else {})

    def loss(embeds):
        two = {name: F.normalize(embeds[name], dim=-1) for name in ("text", "image")}
        return InfoNCELoss()(two, 0.1, negatives={"image": F.normalize(embeds["masked"], dim=-1)})

    chunks = split_batch(batch, 3)
    pieces = [embed_some(chunk) for chunk in chunks]
    names = {name: [piece[name] for piece in pieces if name in piece] for name in pieces[0]}
    loss({name: torch.cat(tensors) for name, tensors in names.items()}).loss.backward()
    expected, text.weight.grad = text.weight.grad, None
    cached_backward(nn.ModuleList([text, image]), chunks, embed_some, loss)
    torch.testing.assert_close(text.weight.grad, expected)
    assert image.weight.grad is None


def test_mixed_precision():
    """Autocast and a scaler around both passes."""
    tower, batch = nn.Linear(3, 4), {"x": torch.randn(4, 3)}
    other = F.normalize(torch.randn(4, 4), dim=-1)

    def embed_text(chunk):
        return {"text": F.normalize(tower(chunk["x"]), dim=-1)}

    def loss(embeds):
        return InfoNCELoss()({"text": embeds["text"], "image": other.to(embeds["text"].dtype)}, 1.0)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss(embed_text(batch)).loss.backward()
    expected, tower.weight.grad = tower.weight.grad, None
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = cached_backward(tower, split_batch(batch, 2), embed_text, loss, scaler=scaler)
    torch.testing.assert_close(tower.weight.grad / 8, expected, rtol=0.05, atol=1e-3)
    assert output.loss < 3  # not scaled


def test_each_chunk_may_have_its_own_batch_norm(model):
    """As on ranks that share a batch, where the first one's running statistics are kept."""
    loss, batch = InfoNCELoss(), make_batch()
    first = copy.deepcopy(model).train()
    model.train()
    torch.manual_seed(0)
    embed(first, split_batch(batch, 4)[0])
    other = copy.deepcopy(model)
    torch.manual_seed(0)
    expected_output = uncached(other, loss, batch, 4)
    torch.manual_seed(0)
    output = cached(model, loss, batch, 4, batch_norm="each")
    torch.testing.assert_close(output.loss, expected_output.loss.detach())
    assert_same(gradients_of(model, loss), gradients_of(other, loss))
    torch.testing.assert_close(buffers_of(model), buffers_of(first), rtol=0, atol=0)
    assert all(layer.track_running_stats for layer in model.modules() if isinstance(layer, nn.BatchNorm2d))


def test_errors(model):
    chunks = split_batch(make_batch(), 4)
    with pytest.raises(ValueError, match="no chunks: a rank without samples gives one"):
        cached_backward(model, [], embed, InfoNCELoss())
    with pytest.raises(ValueError, match="the loss has no gradient"):
        cached_backward(model, chunks, partial(embed, model), lambda embeds: InfoNCELoss()(
            {"text": torch.ones(1, 2), "image": torch.ones(1, 2)}, 1.0))  # fmt: skip
    with pytest.raises(ValueError, match="batch_norm is 'frozen' or 'update_once' or 'each', got 'once'"):
        cached_backward(model, chunks, embed, InfoNCELoss(), batch_norm="once")
    model.train()
    with pytest.raises(ValueError, match=r"BatchNorm layers are in train mode, such as 'depth_encoder\.(.*)Choose"):
        cached_backward(model, chunks, embed, InfoNCELoss())
    unsteady = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False))
    for mode in (None, *MODES):
        with pytest.raises(ValueError, match="BatchNorm layer '0' has no running statistics"):
            cached_backward(unsteady, chunks, embed, InfoNCELoss(), batch_norm=mode)
    for batch, size, message in (
        ({"x": torch.ones(2)}, 0, "chunk_size must be at least 1, got 0"),
        ({"x": torch.ones(2), "y": torch.ones(3)}, 1, "equally many rows of everything, got {'x': 2, 'y': 3}"),
        ({}, 1, "equally many rows of everything, got nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            split_batch(batch, size)


# Step → the rows of each rank. A rank with fewer chunks must not wait, nor one without any row.
SHARES = ([4, 2], [6, 0])


def run(rank):
    """Two steps of each loss, in chunks of 2, on a wrapped model; the wrapper averages gradients."""
    results = {}
    for name in LOSSES:
        torch.manual_seed(0)
        inner = tiny_model().double()
        options = {}
        if name == "sigmoid":
            model = DistributedDataParallel(inner, find_unused_parameters=True)
        else:
            accelerator = Accelerator(cpu=True)
            model = accelerator.prepare(inner)
            assert isinstance(model, DistributedDataParallel)
            options["no_sync"] = partial(accelerator.no_sync, model)
        loss = LOSSES[name]().double()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.train()
        for step, shares in enumerate(SHARES):
            batch = {key: tensor.split(shares)[rank] for key, tensor in make_batch().items()}
            before = buffers_of(inner)
            cached(model, loss, batch, 2, batch_norm="update_once", **options)
            results[name, step] = gradients_of(model, loss), buffers_of(inner)
            inner.load_state_dict(before, strict=False)
    return results


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_ranks(__file__, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_are_one_process(ranks, model, name):
    loss, batch = LOSSES[name]().double(), make_batch()
    uncached(model, loss, batch)
    expected = gradients_of(model, loss)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.train()
    cached(model, loss, batch, 3, batch_norm="update_once")
    for rank in ranks:
        for step in range(len(SHARES)):
            gradients, buffers = rank[name, step]
            assert_same(gradients, expected)
            torch.testing.assert_close(buffers, buffers_of(model), rtol=1e-9, atol=1e-9)


if __name__ == "__main__":
    joined(run)
