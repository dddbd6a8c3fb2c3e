"""The cases of bench_training.py, each in a process of its own: `python benchmarks/training_cases.py SETTINGS` (JSON).

All train the same towers with the same AdamW on the same batches; the last line that a case prints is its `Figures`.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from datasets import Image
from open_clip_towers import open_clip_module
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from hf_encoders.training.multimodal.arguments import DataArguments, LossArguments, ModelArguments, RunArguments
from hf_encoders.training.multimodal.model import build_model
from hf_encoders.training.multimodal.optimizer import make_optimizer, step_schedule
from hf_encoders.training.multimodal.rows import load_rows
from hf_encoders.training.multimodal.samples import Batch
from hf_encoders.training.multimodal.trainer import Trainer
from hf_encoders.training.pretrain import KINDS
from hf_encoders.training.recipe import parse

_ROWS = Path(__file__).parent.parent / "samples" / "rooms" / "train.parquet"
_SPARE_BATCHES = 8  # more than the workers read ahead, so that they are as busy at the end as before
_TEMPERATURE = 0.07  # constant: sentence-transformers does not train it


@dataclass(frozen=True)
class Settings:
    """What a case does.

    Args:
        case: a name of `CASES`.
        recipe: the recipe whose text and image tower are trained.
        batch: rows of a step.
        chunk: rows in memory at a time, for the cached losses; 0 for the plain ones.
        steps: that are timed, after
        warmup: steps that are not.
        workers: processes that load data.
        precision: "bf16" (autocast) or "no".
        device: "cpu" or "cuda".
        channels_last: the memory format of the plain loop's model.
        output_dir: where a trainer may write.
    """

    case: str
    recipe: str
    batch: int
    chunk: int
    steps: int
    warmup: int
    workers: int
    precision: str
    device: str
    channels_last: bool
    output_dir: str

    @property
    def total_steps(self) -> int:
        """With those before the timed ones."""
        return self.warmup + self.steps


@dataclass(frozen=True)
class Figures:
    """What a case measures: rates of the timed steps, memory in MiB at the start and at most, losses."""

    rows_per_second: float
    waiting: float
    start_mib: float
    peak_mib: float
    first_loss: float
    last_loss: float


class Clock:
    """Watches the steps of a case, whose model and optimizer are there already.

    Args:
        settings: of the case.
        loss: the loss module, which the case calls once a step.
    """

    def __init__(self, settings: Settings, loss: nn.Module):
        self.settings = settings
        self.steps, self.started, self.waited = 0, 0.0, 0.0
        self.losses: list[Tensor] = []
        loss.register_forward_hook(lambda module, given, output: self.losses.append(_value(output)))
        self.start_mib = _memory(settings.device, peak=False)
        self.figures: Figures | None = None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what gets the data of the next step."""
        started = time.perf_counter()
        yield
        self.waited += time.perf_counter() - started

    def step_done(self) -> None:
        """After the optimizer's step, and before the data of the next."""
        self.steps += 1
        if self.steps == self.settings.warmup:
            self.started, self.waited = self._now(), 0.0
        elif self.steps == self.settings.total_steps:
            seconds = self._now() - self.started
            self.figures = Figures(
                rows_per_second=self.settings.steps * self.settings.batch / seconds,
                waiting=self.waited / seconds,
                start_mib=self.start_mib,
                peak_mib=_memory(self.settings.device, peak=True),
                first_loss=self.losses[0].item(),
                last_loss=self.losses[-1].item(),
            )

    def _now(self) -> float:
        if self.settings.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def ours(settings: Settings) -> Clock:
    """The trainer of training/pretrain.py, as it is but for the order of the rows."""

    class InOrder(Trainer):
        clock: Clock

        def _make_loader(self, part: int = 0) -> DataLoader:
            loader: Any = super()._make_loader(part)
            loader.dataset.rows = _in_order(loader.dataset.rows, settings)
            return DataLoader(
                loader.dataset,
                loader.batch_size,
                num_workers=loader.num_workers,
                collate_fn=loader.collate_fn,
                drop_last=True,
            )

        def _steps_of_epoch(self) -> Iterator[list[Batch]]:
            steps = super()._steps_of_epoch()
            while True:
                with self.clock.waiting():
                    micro_batches = next(steps, None)
                if micro_batches is None:
                    return
                try:
                    yield micro_batches
                finally:  # also where the loop breaks
                    self.clock.step_done()

    trainer = InOrder(*_options(settings))
    trainer.clock = Clock(settings, trainer.loss)
    trainer.train()
    return trainer.clock


def open_clip(settings: Settings) -> Clock:
    """A plain loop with open_clip's ClipLoss, as in open_clip's own training: the loss under autocast, too."""
    data, model_options, loss_options, run = _options(settings)
    model = build_model(model_options, loss_options, run.seed)
    module: nn.Module = model  # whose `to` has its types; transformers decorates its own
    module.to(settings.device)
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-arg]  # documented, without a type
    optimizer = make_optimizer(model, (), run)
    schedule = step_schedule(optimizer, run, settings.total_steps)
    loader = DataLoader(
        _Pairs(_decoded_rows(data, settings), model.processor.image_processor),
        settings.batch,
        num_workers=settings.workers,
        collate_fn=_CollatePairs(model.processor.tokenizer),
        drop_last=True,
        pin_memory=settings.device == "cuda",
    )
    clip_loss = open_clip_module("loss").ClipLoss()
    clock = Clock(settings, clip_loss)
    batches = iter(loader)
    for _ in range(settings.total_steps):
        with clock.waiting():
            batch = next(batches)
        inputs = {name: value.to(settings.device, non_blocking=True) for name, value in batch.items()}
        with torch.autocast(settings.device, torch.bfloat16, enabled=settings.precision == "bf16"):
            outputs = model(**inputs)
            loss = clip_loss(outputs.image_embeds, outputs.text_embeds, 1 / model.clamped_temperature)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), run.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clock.step_done()
    return clock


def sentence_transformers(settings: Settings) -> Clock:
    """The trainer of sentence-transformers, on a model of one module that embeds both texts and images."""
    # Here, because the memory of the other cases is without them.
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.modules import Module
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )
    from transformers import TrainerCallback

    data, model_options, loss_options, run = _options(settings)

    class Towers(Module):
        modalities = ["text", "image"]

        def __init__(self) -> None:
            super().__init__()
            self.model = build_model(model_options, loss_options, run.seed)

        def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **_: Any) -> dict[str, Tensor]:
            processor = self.model.processor
            if isinstance(inputs[0], str):
                return dict(
                    processor.part("tokenizer")(list(inputs), padding=True, truncation=True, return_tensors="pt")
                )
            images = [image.convert("RGB") for image in inputs]
            return dict(processor.part("image_processor")(images, return_tensors="pt"))

        def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
            outputs = self.model(**features)
            is_text = outputs.text_embeds is not None
            return {"sentence_embedding": outputs.text_embeds if is_text else outputs.image_embeds}

        def train(self, mode: bool = True) -> Any:
            super().train(mode)
            if settings.chunk:  # ours normalises so, too: whole batches have no statistics when chunks are embedded
                for module in self.modules():
                    if isinstance(module, nn.modules.batchnorm._BatchNorm):
                        module.eval()
            return self

        def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
            raise NotImplementedError("nothing is saved")

    class InOrder(SentenceTransformerTrainer):
        def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, *_: Any, **__: Any) -> Any:
            return DefaultBatchSampler(SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last)

        def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
            with clock.waiting():
                return super().get_batch_samples(*args, **kwargs)

    class StepDone(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.step_done()

    model = SentenceTransformer(modules=[Towers()], device=settings.device)
    # Both directions, each with its own softmax: the loss of CLIP.
    shape: dict[str, Any] = {
        "scale": 1 / _TEMPERATURE,
        "directions": ("query_to_doc", "doc_to_query"),
        "partition_mode": "per_direction",
    }
    if settings.chunk:
        loss: nn.Module = CachedMultipleNegativesRankingLoss(model, mini_batch_size=settings.chunk, **shape)
    else:
        loss = MultipleNegativesRankingLoss(model, **shape)
    optimizer = make_optimizer(model, (), run)
    trainer = InOrder(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=settings.output_dir,
            max_steps=settings.total_steps,
            per_device_train_batch_size=settings.batch,
            dataloader_num_workers=settings.workers,
            dataloader_drop_last=True,
            dataloader_pin_memory=settings.device == "cuda",
            max_grad_norm=run.max_grad_norm,
            bf16=settings.precision == "bf16",
            use_cpu=settings.device == "cpu",
            logging_steps=run.logging_steps,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=_decoded_rows(data, settings),
        loss=loss,
        callbacks=[StepDone()],
        optimizers=(optimizer, step_schedule(optimizer, run, settings.total_steps)),
    )
    clock = Clock(settings, loss)
    trainer.train()
    return clock


CASES = {"ours": ours, "open_clip": open_clip, "sentence_transformers": sentence_transformers}


class _Pairs(Dataset):
    """Captions and prepared images, as a plain loop has them."""

    def __init__(self, rows: Any, image_processor: Any):
        self.rows, self.image_processor = rows, image_processor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        row = self.rows[index]
        pixels = self.image_processor(row["image"].convert("RGB"), return_tensors="pt")["pixel_values"]
        return row["caption"], pixels[0]


class _CollatePairs:
    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    def __call__(self, pairs: Sequence[tuple[str, Tensor]]) -> dict[str, Tensor]:
        captions, pixels = zip(*pairs, strict=True)
        tokens = self.tokenizer(list(captions), padding=True, truncation=True, return_tensors="pt")
        return {**tokens, "pixel_values": torch.stack(pixels)}


def _options(settings: Settings) -> tuple[DataArguments, ModelArguments, LossArguments, RunArguments]:
    """The recipe's towers for texts and images; without what is random, so that the losses can be compared."""
    _, model, _, _ = parse([settings.recipe], KINDS, settings.recipe, "")
    if model.model_config is None:
        raise ValueError(f"{settings.recipe}: its towers come from a repo; give a recipe with a model_config")
    config = {name: value for name, value in model.model_config.items() if name != "depth_config"}
    config |= {"temperature_init_value": _TEMPERATURE, "learn_temperature": False}
    config["text_config"] = config["text_config"] | {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return (
        DataArguments(dataset=[str(_ROWS)], validation_split="", num_workers=settings.workers),
        replace(model, model_config=config, depth_processor=None),
        LossArguments(learn_temperature=False),
        RunArguments(
            output_dir=settings.output_dir,
            batch_size=settings.batch,
            chunk_size=settings.chunk,
            max_steps=settings.total_steps,
            lr_schedule="constant",
            mixed_precision=settings.precision,
            report_to="none",
        ),
    )


def _decoded_rows(data: DataArguments, settings: Settings) -> Any:
    return _in_order(load_rows(data, data.train_split).cast_column("image", Image()), settings)


def _in_order(rows: Any, settings: Settings) -> Any:
    """Rows of different captions, over and over: no caption comes twice in a batch, which only our loss would mask."""
    rows = rows.select_columns(["caption", "image"])
    distinct = list({caption: index for index, caption in enumerate(rows["caption"])}.values())
    if settings.batch > len(distinct):
        raise ValueError(f"a batch of {settings.batch} is more than the {len(distinct)} rows of different captions")
    count = (settings.total_steps + _SPARE_BATCHES) * settings.batch
    return rows.select([distinct[index % len(distinct)] for index in range(count)])


def _value(output: Any) -> Tensor:
    """Of what a loss returns; ours has its parts, too."""
    return (output if isinstance(output, Tensor) else output.loss).detach()


def _memory(device: str, *, peak: bool) -> float:
    """MiB: allocated on the GPU, or resident."""
    if device == "cuda":
        return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20
    name = "VmHWM:" if peak else "VmRSS:"
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))


def main() -> None:
    """Run the case that the settings name."""
    settings = Settings(**json.loads(sys.argv[1]))
    clock = CASES[settings.case](settings)
    assert clock.figures is not None
    print(json.dumps(asdict(clock.figures)))


if __name__ == "__main__":
    main()
