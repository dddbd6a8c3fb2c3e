"""A tower: one modality of a model, and the way from raw inputs to embeddings.

    inputs ── batches ──> prepare ──> embed ──> [N, D]
              read late,  the         the model, by PyTorch
              in threads  processor   or a compiled program

`encode` walks this way. What went through the processor before joins it behind `prepare`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar, Generic, Literal, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling as Outputs
from transformers.modeling_utils import PreTrainedModel

from .backend import Compute, chosen_backend, get_backend, input_device, on_devices
from .concurrency import evaluating, settle_forked_process
from .encoding import (
    BackendName,
    Devices,
    DtypeName,
    Encoded,
    check_options,
    check_truncation,
    encode_method,
    in_order,
    kept_inputs,
    progress_bar,
    shaped,
)
from .input_batches import Batch, Skipped, count, prepared_batches, slices, usable
from .input_errors import InputError

Modality = Literal["text", "image", "depth"]
MODALITIES: tuple[Modality, ...] = ("text", "image", "depth")
Pool = Callable[[Outputs, Mapping[str, Tensor]], Tensor]


Processor = TypeVar("Processor")


class ProcessorSource(Protocol[Processor]):
    """Where a tower finds its processor when the first raw input is read."""

    def get(self) -> Processor:
        """The processor; OSError or ValueError if there is none."""

    def set(self, processor: Processor) -> None:
        """Use another one."""


def pooler_output(outputs: Outputs, batch: Mapping[str, Tensor]) -> Tensor:
    """The pooled feature [B, D]: the models of this project, and CLIP's, project it by themselves."""
    feature = outputs.pooler_output
    if feature is None:
        raise ValueError("the model has no pooler")
    return feature


class Tower(ABC, Generic[Processor]):
    """One modality of a model. It is cheap to make: `model.tower("image")` makes a new one each time.

    Args:
        model: whose device, precision and mode of evaluation count, and whose weights a program is compiled from.
        call: the tensors of a batch → the model's outputs: the model itself, or one of its methods.
        processors: where the processor is.
        dimensions: D.
        pool: the outputs and the batch → the embedding [B, D].
        normalize: whether `encode` scales embeddings to length 1 unless told otherwise.

    Attributes:
        name: "text", "image" or "depth".
        input_names: the tensors that a compiled program takes, in order.
        processors: where the processor is.
        limit: how many tokens the tower takes at most; None for pictures, and where there is no limit.
        pooling: the name of `pool`, where a person may choose it.
        interpolate: the side of the images, where a person chose another than the model's own.
    """

    name: ClassVar[Modality]
    input_names: ClassVar[tuple[str, ...]]
    limit: int | None = None
    pooling: str | None = None
    interpolate: int | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        call: Callable[..., Outputs],
        processors: ProcessorSource[Processor],
        dimensions: int,
        *,
        pool: Pool = pooler_output,
        normalize: bool = False,
    ):
        self.model, self.dimensions, self.normalize = model, dimensions, normalize
        self._call, self.processors, self._pool = call, processors, pool

    @property
    def function(self) -> tuple[object, ...]:
        """All that decides the embeddings beside the model: a compiled program is good while this is the same."""
        return type(self), self._call, self._pool, self.input_names, self.limit

    @property
    def processor(self) -> Processor:
        """The tokenizer or image processor that prepares raw inputs. It can be set.

        Raises:
            OSError, ValueError: if there is none.
        """
        return self.processors.get()

    @processor.setter
    def processor(self, processor: Processor) -> None:
        self.processors.set(processor)

    @encode_method
    def encode(
        self,
        inputs: object,
        batch_size: int = 32,
        *,
        normalize: bool | None = None,
        truncate_dim: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to: str = "tensor",
        device: Devices | None = None,
        dtype: DtypeName | torch.dtype | None = None,
        backend: BackendName = "torch",
        on_error: str = "raise",
    ) -> Encoded:
        """Embed one input or many, raw or processed, without gradients and in evaluation mode.

        Args:
            inputs: raw inputs: one, a list, an array, a column of `datasets`, any iterable; or the processor's output.
            batch_size: how many inputs the model sees at a time; it does not change the result. A large model in
                PyTorch on a CPU sees at most 8 per thread, because more would be slower.
            normalize, truncate_dim, show_progress_bar, convert_to, device, dtype, backend, on_error: see
                `EncodeOptions`.

        Returns:
            [N, D] float32 in the order given, one row per input (a single input too), [0, D] for no input; with
            `on_error="skip"` also which inputs have a row.

        Raises:
            ValueError, TypeError: for an option out of range, or an input that cannot be used: its path or index is
                named; for weights or an embedding that holds NaN or infinity.
            ImportError: if the backend is not installed.
        """
        settle_forked_process()
        check_options(batch_size, convert_to, on_error)
        check_truncation(truncate_dim, self.dimensions)
        skipped, home = Skipped(), input_device(self.model)
        compute: Compute = self.computed
        if device is not None and not isinstance(device, (str, torch.device)):
            compute = on_devices(self, device)
        elif device is not None:
            module: nn.Module = self.model  # whose `to` has its types; transformers decorates its own
            home = input_device(module.to(device))
        ready = self.processed(inputs)
        total = count(inputs, self.is_single) if ready is None else len(next(iter(ready.values())))
        backend = chosen_backend(self, backend, dtype, total)
        with progress_bar(total, show_progress_bar) as bar:
            indices, rows = compute(
                inputs if ready is None else ready,
                batch_size,
                backend=backend,
                dtype=dtype,
                skipped=skipped if on_error == "skip" else None,
                progress=bar.update,
            )
        # Outside of inference mode, so that the result is an ordinary tensor.
        result = torch.cat(rows).to(home) if rows else torch.empty(0, self.dimensions, device=home)
        result = shaped(in_order(result, indices), truncate_dim, self.normalize if normalize is None else normalize)
        kept = kept_inputs(len(indices), skipped)
        if convert_to == "numpy":
            vectors, mask = result.cpu().numpy(), kept.numpy()
            return (vectors, mask) if on_error == "skip" else vectors
        return (result, kept) if on_error == "skip" else result

    def computed(
        self,
        inputs: object,
        batch_size: int,
        *,
        backend: BackendName = "torch",
        dtype: DtypeName | torch.dtype | None = None,
        skipped: Skipped | None = None,
        progress: Callable[[int], object] = lambda count: None,
    ) -> tuple[list[int], list[Tensor]]:
        """What `encode` computes, before it is sorted and shaped.

        Args:
            inputs, batch_size, backend, dtype: see `encode`; raw inputs may also be a `Part` of many.
            skipped: collects the inputs that cannot be used; without it they raise.
            progress: is told how many more inputs have embeddings.

        Returns:
            The indices of the inputs, in any order, and their rows [n, D] float32 in that order, in pieces.
        """
        indices: list[int] = []
        rows: list[Tensor] = []
        ready = self.processed(inputs)
        backend = chosen_backend(self, backend, dtype, None)
        with evaluating(self.model):
            computing = get_backend(self, backend, dtype)
            size = min(batch_size, computing.max_batch or batch_size)
            if ready is None:
                batches = self.batches(inputs, size, skipped)
            else:
                batches = slices(ready, len(next(iter(ready.values()))), size)
            if backend != "torch":
                batches = ((numbers, self.check_compiled(batch)) for numbers, batch in batches)
            with torch.inference_mode():
                for batch_indices, embeddings in computing.embed(batches):
                    if bad := not_finite(self.model, batch_indices, embeddings):
                        if skipped is None:
                            raise next(iter(bad.values()))
                        skipped.update(bad)
                        kept_rows = [row for row, index in enumerate(batch_indices) if index not in bad]
                        embeddings, batch_indices = embeddings[kept_rows], [batch_indices[row] for row in kept_rows]
                    rows.append(embeddings.float())
                    indices += batch_indices
                    progress(len(batch_indices))
        return indices, rows

    def batches(self, inputs: object, size: int, skipped: Skipped | None = None) -> Iterator[Batch]:
        """Raw inputs → batches of at most `size` as `embed` takes them, with the indices of their inputs.

        Args:
            inputs: raw inputs, one or many.
            size: the most inputs in a batch.
            skipped: collects the inputs that cannot be used; without it they raise.
        """
        prepare = partial(usable, prepare=self.prepare, skipped=skipped)
        return prepared_batches(inputs, size, self.is_single, prepare, self.threads())

    def embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """A prepared batch on the model's device → [B, D], not normalised; with gradients, if they are on."""
        return self.pooled(self.outputs(batch), batch)

    def pooled(self, outputs: Outputs, batch: Mapping[str, Tensor]) -> Tensor:
        """The outputs of the model for a batch → [B, D]."""
        return self._pool(outputs, batch)

    def compile(self, backend: BackendName = "openvino", dtype: DtypeName | torch.dtype | None = None) -> None:
        """Do now what the first `encode` with these options would do: load the processor, compile the tower.

        A server calls it before the first request.

        Args:
            backend: "openvino" or "onnx"; with "torch" there is nothing to compile.
            dtype: as in `encode`.

        Raises:
            ValueError: if the backend has no such precision, or needs an exported model for it.
            ImportError: if the backend is not installed.
        """
        settle_forked_process()
        with suppress(OSError, ValueError):  # a model without a processor takes what was processed elsewhere
            _ = self.processor
        with evaluating(self.model):
            get_backend(self, backend, dtype)

    def check_compiled(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of `input_names`, which a compiled program takes.

        Raises:
            ValueError: if it would not compute what PyTorch does.
        """
        return {name: batch[name] for name in self.input_names}

    def threads(self) -> int:
        """How many threads may prepare batches at a time."""
        return 1

    @abstractmethod
    def is_single(self, inputs: object) -> bool:
        """Tell one raw input, or what is meant as one, from many."""

    @abstractmethod
    def processed(self, inputs: object) -> dict[str, Tensor] | None:
        """The tensors of inputs that went through the processor before; None for raw inputs.

        Raises:
            ValueError: for a mapping that has no such tensor.
        """

    @abstractmethod
    def prepare(self, items: Sequence[object], first_index: int = 0) -> dict[str, Tensor]:
        """Raw inputs → what `embed` takes for them.

        Args:
            items: raw inputs.
            first_index: index of the first of them, which messages count from.

        Raises:
            ValueError, TypeError: for an input that cannot be used.
        """

    @abstractmethod
    def outputs(self, batch: Mapping[str, Tensor]) -> Outputs:
        """The outputs of the model for a prepared batch."""

    @abstractmethod
    def example(self) -> dict[str, Tensor]:
        """Two inputs as `prepare` makes them, which a program is compiled with: the tensors of `input_names`."""


def not_finite(model: nn.Module, indices: Sequence[int], embeddings: Tensor) -> dict[int, InputError]:
    """The inputs whose embeddings [N, D] are no numbers, and what to say of each.

    Raises:
        ValueError: if the weights are none either.
    """
    finite = embeddings.isfinite().all(dim=1)
    if embeddings.is_meta or finite.all():
        return {}
    check_weights(model)
    dtype = str(embeddings.dtype).removeprefix("torch.")
    reason = f"its embedding holds NaN or infinity, computed in {dtype}"
    hint = "bfloat16 and float32 hold larger numbers than float16"
    rows = finite.logical_not().nonzero().flatten().tolist()
    return {indices[row]: InputError(index=indices[row], reason=reason, hint=hint) for row in rows}


def check_weights(model: nn.Module) -> None:
    """Raise ValueError, with the name of a tensor, if some weights are NaN or infinite."""
    if name := not_finite_weight(model):
        raise ValueError(
            f"the model's weights hold NaN or infinity ({name}), so it embeds nothing; choose a checkpoint from before"
            " training diverged"
        )


def not_finite_weight(model: nn.Module) -> str | None:
    """The name of the first tensor that holds NaN or infinity, if there is one."""
    return next((name for name, tensor in model.state_dict().items() if not is_finite(tensor)), None)


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; true for one that is not in memory."""
    return not tensor.is_floating_point() or tensor.is_meta or bool(tensor.isfinite().all())


@runtime_checkable
class Encoder(Protocol):
    """A model that embeds: what everything in this project asks of a model."""

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration, which names the repo of the weights."""

    @property
    def device(self) -> torch.device:
        """The device of the weights, and of the embeddings."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights, by name."""

    @property
    def towers(self) -> tuple[Modality, ...]:
        """The names of the modalities that the model embeds."""

    def tower(self, name: str) -> Tower:
        """The tower of a modality; ValueError if the model has none."""


def check_tower(name: str, towers: Sequence[str]) -> None:
    """Raise ValueError, with a list of what the model embeds, if it has no such tower."""
    if name not in MODALITIES:
        raise ValueError(f"modality is one of {', '.join(MODALITIES)}, got {name!r}")
    if name not in towers:
        raise ValueError(f"the model embeds {' and '.join(towers)}, not {name}")


def prepare_towers(
    model: Encoder,
    modalities: Modality | Sequence[Modality] | None,
    backend: BackendName,
    dtype: DtypeName | torch.dtype | None,
) -> None:
    """See `MultimodalEncodingMixin.prepare`."""
    chosen = (modalities,) if isinstance(modalities, str) else model.towers if modalities is None else modalities
    for tower in [model.tower(name) for name in chosen]:
        tower.compile(backend, dtype)
