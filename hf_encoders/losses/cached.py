"""Contrastive losses of batches larger than memory: gradient caching (Gao et al., https://arxiv.org/abs/2101.06983).

A first pass embeds the batch in chunks without a graph. Then the loss and its gradient are computed for the embeddings.
A second pass embeds each chunk again, now with a graph, and sends the gradient of its rows through it. Memory is that
of one chunk, gradients are those of the whole batch.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from .batch_norm import BatchNormChoice, frozen_batch_norm
from .contrastive import LossOutput

Chunk = TypeVar("Chunk")


def cached_backward(
    model: nn.Module,
    chunks: Sequence[Chunk],
    embed: Callable[[Chunk], Mapping[str, Tensor]],
    loss: Callable[[dict[str, Tensor]], LossOutput],
    *,
    batch_norm: BatchNormChoice | None = None,
    no_sync: Callable[[], AbstractContextManager] | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> LossOutput:
    """Add the gradients of a batch's loss to the parameters, in place of `loss.backward()`.

    Every rank calls this with at least one chunk; their numbers may differ. On a rank without samples, `embed` embeds
    anything and returns no row of it, `[:0]`: transformers' towers cannot embed nothing, and the wrapper waits for a
    gradient of each rank, even of zeros.

    Args:
        model: the model that is trained, plain or wrapped. Only the backward pass of the last chunk synchronises its
            gradients.
        chunks: the batch, as `split_batch` divides it. Each chunk is taken twice, so a lazy sequence may read it again.
        embed: chunk → name → [rows, D]. It must be deterministic; the random states of the CPU and of CUDA, for
            example for dropout, are replayed.
        loss: name → [B, D] of all chunks together → their loss. Parameters that it uses (temperature, bias) get their
            gradient too, as long as it reads them from the model or the loss module.
        batch_norm: what BatchNorm layers in train mode do, because their outputs would depend on the chunks. The
            first two choices normalise with their running statistics. "frozen" leaves these as they are. "update_once"
            updates them once at the end, as one forward pass with the rows of all chunks and ranks would: with the mean
            and the variance of what the layers received in the first pass. "each" normalises each chunk with its own
            statistics, as ranks do with their parts of a batch, and the first chunk updates the running ones. Layers in
            evaluation mode are never touched.
        no_sync: makes a context without synchronisation where the model has no `no_sync` of its own:
            `lambda: accelerator.no_sync(model)`.
        scaler: the scaler of float16 training (`accelerator.scaler`); its `scale` is applied to the loss.

    Returns:
        The loss, without a graph.

    Raises:
        ValueError: if there is no chunk, nothing needs a gradient, or a BatchNorm layer is in train mode without a
            choice, or has no running statistics.
    """
    if not len(chunks):
        raise ValueError("no chunks: a rank without samples gives one whose embeddings are cut to no row")
    own_no_sync: Callable[[], AbstractContextManager] = getattr(model, "no_sync", contextlib.nullcontext)
    not_synchronised = no_sync or own_no_sync
    devices = {parameter.device for parameter in model.parameters()}

    with frozen_batch_norm(model, batch_norm) as recording:
        states, pieces = [], []
        for index in range(len(chunks)):
            states.append(_random_states(devices))
            with recording() as discard, torch.no_grad():
                pieces.append(dict(embed(chunks[index])))
                if not any(map(len, pieces[-1].values())):  # the chunk of a rank without samples
                    discard()
        torch.clear_autocast_cache()  # older torch reuses weights that were cast without a graph
        output, gradients, loss_parameters = _gradients(pieces, loss, scaler)
        del pieces

        for index, state in enumerate(states):
            is_last = index == len(states) - 1
            with contextlib.nullcontext() if is_last else not_synchronised(), _replayed(state):
                # With the last chunk, so that the loss's own parameters are synchronised too.
                _backward(embed(chunks[index]), gradients[index], loss_parameters if is_last else [])
    return replace(output, loss=output.loss.detach())


def split_batch(batch: Mapping[str, Tensor], chunk_size: int) -> list[dict[str, Tensor]]:
    """Divide a batch, with equally many rows per name, into chunks; the last one may be smaller. Nothing is copied.

    Raises:
        ValueError: if rows differ in number, there is no name, or the chunk size is below 1.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    rows = {name: len(tensor) for name, tensor in batch.items()}
    if len(set(rows.values())) != 1:
        raise ValueError(f"a batch needs equally many rows of everything, got {rows or 'nothing'}")
    split = [tensor.split(chunk_size) for tensor in batch.values()]
    return [dict(zip(batch, tensors, strict=True)) for tensors in zip(*split, strict=True)]


def _gradients(
    pieces: list[dict[str, Tensor]],
    loss: Callable[[dict[str, Tensor]], LossOutput],
    scaler: torch.amp.GradScaler | None,
) -> tuple[LossOutput, list[dict[str, Tensor]], list[tuple[Tensor, Tensor]]]:
    """The loss of all chunks; each chunk's gradient by name; and the parameters of the loss itself with gradients."""
    names = dict.fromkeys(name for piece in pieces for name in piece)
    embeds = {name: torch.cat([piece[name] for piece in pieces if name in piece]).requires_grad_() for name in names}
    with torch.enable_grad():
        output = loss(dict(embeds))
        value = output.loss if scaler is None else scaler.scale(output.loss)
    if not value.requires_grad:
        raise ValueError("the loss has no gradient: it does not depend on the embeddings that it was given")
    leaves = set(embeds.values())
    parameters = [leaf for leaf in _leaves(value) if leaf not in leaves]
    found = torch.autograd.grad(value, [*embeds.values(), *parameters], allow_unused=True)

    split: list[dict[str, Tensor]] = [{} for _ in pieces]
    for name, gradient in zip(embeds, found, strict=False):
        if gradient is not None:  # the loss uses this name
            holders = [index for index, piece in enumerate(pieces) if name in piece]
            rows = [len(pieces[index][name]) for index in holders]
            for index, part in zip(holders, gradient.split(rows), strict=True):
                split[index][name] = part
    parameter_gradients = [
        (parameter, gradient)
        for parameter, gradient in zip(parameters, found[len(embeds) :], strict=True)
        if gradient is not None
    ]
    return output, split, parameter_gradients


def _backward(
    embeds: Mapping[str, Tensor], gradients: Mapping[str, Tensor], loss_parameters: list[tuple[Tensor, Tensor]]
) -> None:
    """Send a chunk's gradients through its graph."""
    roots = [(embeds[name], gradient) for name, gradient in gradients.items() if embeds[name].requires_grad]
    roots += loss_parameters
    if roots:
        tensors, tensor_gradients = zip(*roots, strict=True)
        torch.autograd.backward(tensors, tensor_gradients)


def _leaves(value: Tensor) -> list[Tensor]:
    """All tensors that a gradient of `value` would be added to, always in the same order."""
    leaves, seen, waiting = [], set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return leaves


def _random_states(devices: set[torch.device]) -> dict[torch.device, Tensor]:
    """The random states of the CPU and of the CUDA devices among these."""
    states = {torch.device("cpu"): torch.get_rng_state()}
    return states | {device: torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"}


@contextlib.contextmanager
def _replayed(states: dict[torch.device, Tensor]) -> Iterator[None]:
    """Draw the same random numbers again; afterwards, go on as if nothing had been drawn."""
    with torch.random.fork_rng([device for device in states if device.type == "cuda"], device_type="cuda"):
        for device, state in states.items():
            if device.type == "cuda":
                torch.cuda.set_rng_state(state, device)
            else:
                torch.set_rng_state(state)
        yield
