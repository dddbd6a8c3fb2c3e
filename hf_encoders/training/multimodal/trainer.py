"""The run of `pretrain`, to be read from top to bottom: its parts are made, then its loop begins."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import NoReturn, cast

import torch
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.std import tqdm

from ...data.splits import left_out_of
from ...evaluation.tasks import is_better, metric_lines
from ...hub.push import Destination, reserve
from ...losses.batch_norm import trained_batch_norm
from ...models.modeling_multimodal_encoder import MultimodalEncoderModel
from ...progress.bars import progress_bar
from .. import checkpoints
from ..accelerator import asks_for_sharding, count_bad, make_accelerator, one_goes_first, say
from ..averaging import fit_batch_norm, make_averages
from ..checkpoints import Progress
from ..checks import check_finite, check_metric, check_room, checkpoint_size
from ..data_identity import data_identity
from ..depth_units import described, learn_percentiles
from ..division import seed_of
from ..epochs import is_stale, steps_in_all, steps_of_epoch, why_finished
from ..legacy_state import check_weights, has_legacy_state
from ..opening import data_line, loss_line, model_line, patience_line, too_few_line, warmup_line
from ..result import present, publish
from ..resume_command import resume_command
from ..resume_rules import as_kept
from ..resumption import DATA, TOKENIZER, Resumption
from ..sharding import WholeModel, is_sharded, shard
from ..stopping import Requests
from .arguments import DataArguments, LossArguments, ModelArguments, RunArguments
from .legacy_state import load_legacy_state
from .model import build_model, check_way, compile_towers, use_channels_last, use_modalities
from .optimizer import make_optimizer, parameter_groups, reset_rates, step_schedule
from .regions import make_regions
from .renaming import make_renaming
from .rows import load_rows, taken_lines, with_columns, with_validation_split
from .samples import Batch, ModelInputs, SampleMaker, Samples, make_loader, raw_maps
from .step import Step, make_loss
from .teacher import Teacher, make_added_losses, make_words
from .text_checks import all_captions, check_captions, tokenizer_identity
from .validation import curve_names, make_validations, metric_names
from .views import check_jitter, check_pairs

_STATISTICS_BATCHES = 32  # batches per epoch that give averaged weights their BatchNorm statistics


class TrainingError(ValueError):
    """A run that cannot go on; its last checkpoint is whole."""


class Trainer:
    """The parts of a run, and its loop."""

    def __init__(self, data: DataArguments, model: ModelArguments, loss: LossArguments, run: RunArguments):
        self.output_dir = Path(run.output_dir)
        self.checkpoints = self.output_dir / checkpoints.FOLDER
        kept = checkpoints.find_kept(self.output_dir, run.resume_from_checkpoint)
        self.resumption = Resumption(kept, (data, model, loss, run), keeps_rates=asks_for_sharding())
        changes = self.resumption.changes
        data, model = changes.settled(data), changes.settled(model)
        loss, run = changes.settled(loss), changes.settled(run)
        self.options = (data, model, loss, run)
        check_way(model)
        check_pairs(data.mirror_words)
        make_regions(data), make_renaming(data)  # refuse what makes no sense
        data = with_columns(with_validation_split(data))
        self.data = data
        if data.validation_split:
            check_metric(run.validation_metric, metric_names(data))
        self.accelerator = make_accelerator(run, None if kept is None else kept.precision)
        self.resumption.check_precision(self.accelerator.mixed_precision)
        is_whole = not run.chunk_size and run.gradient_accumulation_steps == 1
        self.division = self.resumption.divide(
            run.batch_size,
            run.gradient_accumulation_steps,
            self.accelerator.num_processes,
            is_stream=data.streaming,
        )
        # The options as the run has them; those that were given stay in its checkpoints.
        run = self.run = replace(
            run, batch_size=self.division.batch_size, gradient_accumulation_steps=self.division.micro_batches
        )
        self.requests = Requests(self.accelerator)
        set_seed(run.seed)
        with one_goes_first(self.accelerator, model.trust_remote_code):  # who copies the code of repos
            self.plain_model = build_model(model, loss, run.seed, all_captions(data) if model.text_words else ())
            self.added = make_added_losses(loss, data.columns, self.accelerator, model.trust_remote_code)
        set_seed(run.seed, device_specific=True)  # dropout differs from process to process
        if not is_sharded(self.accelerator):  # sharding rejects channels_last
            use_channels_last(self.plain_model)
        use_modalities(self.plain_model, data.columns)
        if "depth" in data.columns:
            learn_percentiles(self.plain_model.depth_processor, raw_maps(data))
            say(self.accelerator, described(self.plain_model.depth_processor))
        check_jitter(data.image_brightness, data.depth_scale, self.plain_model.processor.depth_image_processor)
        self.loss = make_loss(loss, data.columns).to(self.accelerator.device)
        self.validation = None
        if data.validation_split:
            self.validation = make_validations(data, self.loss, self.division.rows, self.accelerator)
        self.words = make_words(loss)
        loader = self._make_loader()
        check_captions(data, self.plain_model.processor.part("tokenizer"))
        self.identity = self._identify(loader)
        self.resumption.compare(self.identity)
        self.batches = batches = 0 if data.streaming else len(loader) // self.accelerator.num_processes
        self.total_steps = self._steps_in_all(batches, 0 if data.streaming else len(loader.dataset))  # type: ignore[arg-type]
        # Groups as in the checkpoint, which is loaded into them.
        before = self.resumption.before(run)
        optimizer = make_optimizer(self.plain_model, self.loss.parameters(), before)
        schedule = step_schedule(optimizer, before, self.total_steps)
        if run.compile:
            compile_towers(self.plain_model)
        self.plain_model.to(self.accelerator.device)
        self.averages = make_averages(self.plain_model, run.ema_decay) if run.ema_decay else None
        size = checkpoint_size(self.plain_model, self.loss, self.averages)
        check_room(self.output_dir, self.checkpoints, size, self.plain_model, self._checkpoints_at_a_time())
        self.whole = WholeModel(self.accelerator, self.plain_model)
        trained = shard(self.accelerator, self.plain_model, self.loss, self.averages)
        self.model, self.optimizer, self.schedule = self.accelerator.prepare(trained, optimizer, schedule)
        others = range(1, self.division.streams_of_a_process)
        self.loaders = [loader if data.streaming else self.accelerator.prepare(loader), *map(self._make_loader, others)]
        self.step = Step(self.accelerator, self.model, self.loss, run, self.added, self.division, is_whole)
        self.progress = Progress()
        for line in self._opening(loader):
            say(self.accelerator, line)

    def _opening(self, loader: DataLoader) -> list[str]:
        data, model, loss, run = self.options
        rows = len(loader.dataset) if isinstance(loader.dataset, Samples) else None
        mixture = loader.dataset.mixture if isinstance(loader.dataset, Samples) else None
        validated = f"validated on {self.data.validation_split!r}" if self.validation else "not validated"
        source = model.init_from or " and ".join(filter(None, [model.text_model, model.vision_model])) or "new"
        rate = f"AdamW at {run.learning_rate:g} ({run.lr_schedule})"
        precision = self.accelerator.mixed_precision
        lines = [
            *filter(None, map(left_out_of, data.dataset)),
            *taken_lines(data, self.data),
            data_line(data.dataset, rows, self.data.columns, validated),
            *([] if mixture is None else [f"an epoch takes {mixture.lines(data.dataset)}"]),
            model_line(self.plain_model, source),
            loss_line(loss.loss, self.total_steps, self.division.rows, rate, precision),
        ]
        if run.patience and not self.validation:
            lines.append(patience_line(run.patience))
        if run.warmup_steps >= self.total_steps:
            lines.append(warmup_line(run.warmup_steps, self.total_steps, run.learning_rate))
        return lines

    def _make_loader(self, part: int = 0) -> DataLoader:
        """The batches of all processes, or those of one of the parts of a stream that this process reads."""
        teacher = next((one.inputs for one in self.added if isinstance(one, Teacher)), None)
        rows = load_rows(self.data, self.data.train_split)
        make = SampleMaker(
            self.data, ModelInputs.of(self.plain_model), self.run.seed, teacher, rows.features, self.words
        )
        place = self.division.number(part, self.accelerator.process_index)
        return make_loader(rows, self.data, self.run.batch_size, make, place, self.division.streams)

    def _identify(self, loader: DataLoader) -> dict[str, str]:
        """What tells the data and the tokenizer from others; the main process looks at the files."""
        rows = len(loader.dataset) if isinstance(loader.dataset, Samples) else None
        places = [data_identity(self.data.dataset, rows) if self.accelerator.is_main_process else ""]
        tokenizer = tokenizer_identity(self.plain_model.processor.part("tokenizer"))
        return {DATA: broadcast_object_list(places)[0], TOKENIZER: tokenizer}

    def _steps_in_all(self, batches: int, rows: int) -> int:
        run, progress = self.run, self.resumption.progress
        per_epoch = batches // run.gradient_accumulation_steps
        if self.data.streaming and not run.max_steps:
            raise ValueError("no steps: a stream has no known length; give --max_steps")
        if not (self.data.streaming or per_epoch):
            raise ValueError(too_few_line(rows, self.division))
        in_all = run.max_steps or steps_in_all(progress, batches, run.gradient_accumulation_steps, run.epochs)
        return max(in_all, progress.step)

    def _checkpoints_at_a_time(self) -> int:
        run = self.run
        planned = run.epochs + (self.total_steps // run.checkpoint_steps if run.checkpoint_steps else 0)
        return min(run.keep_last + 1, planned) if run.keep_last else planned

    @property
    def _modules(self) -> dict[str, torch.nn.Module]:
        """The modules of a checkpoint that Accelerate does not save."""
        modules = {"loss": self.loss} if list(self.loss.parameters()) else {}
        return modules | ({"averaged_model": self.averages} if self.averages is not None else {})

    def train(self) -> None:
        """Run to the end, or until asked to stop.

        Raises:
            TrainingError: if the loss is not a number.
            ValueError: if too many rows cannot be read, or the result could not be pushed.
        """
        if self.run.push_to_hub and self.accelerator.is_main_process:
            reserve(Destination(self.run.push_to_hub))
        self._open()
        config = {name: str(value) for name, value in (asdict(self.run) | asdict(self.data)).items()}
        self.accelerator.init_trackers("pretrain", config=config)
        bar = progress_bar(
            self.total_steps, unit="step", initial=self.progress.step, is_shown=self.accelerator.is_main_process
        )
        with bar:  # an error closes it too, and is printed on a line of its own
            if self._is_finished():
                why = why_finished(self.progress, self.total_steps, self.run.validation_metric)
                say(self.accelerator, f"nothing is left to do: {why}")
            elif self.validation is not None and not self.progress.step:
                metrics = self._measure(self.plain_model)
                say(self.accelerator, f"before training: {self.validation.lines(metrics)}")
            while not self._is_finished():
                self._train_epoch(bar)
        self.accelerator.end_training()
        if self.progress.best_metrics:
            title = f"{self.output_dir}: the weights of step {self.progress.best_step}, on {self.data.validation_split}"
            say(self.accelerator, "\n".join(["", title, *metric_lines(self.progress.best_metrics)]))
        else:
            say(self.accelerator, f"{self.output_dir}: the weights of step {self.progress.step}")
        if self.accelerator.is_main_process:
            curves = curve_names(self.data, self.run.validation_metric) if self.validation else ["loss"]
            present(self.output_dir, self.options, curves)

    def _is_finished(self) -> bool:
        # A run may have been killed after its last step, and before its end was worked off.
        progress = self.progress
        if progress.batches and progress.ended_step < self.total_steps:
            return False
        is_validated = self.validation is not None
        return progress.step >= self.total_steps or (is_validated and is_stale(progress, self.run.patience))

    def _train_epoch(self, bar: "tqdm[NoReturn]") -> None:
        progress, run = self.progress, self.run
        self.model.train()
        began = started = time.perf_counter()
        losses: list[float] = []
        is_whole = not progress.batches
        for micro_batches in self._steps_of_epoch():
            waited = time.perf_counter() - started
            bad = [f"row {sample.index}: {sample.reason}" for batch in micro_batches for sample in batch["bad"]]
            count_bad(self.accelerator, self.progress.bad_samples, bad, self.data.max_bad_samples)
            rate = self.schedule.get_last_lr()[0]  # read before the gradients: DeepSpeed takes its step with them
            output = self.step(micro_batches, progress.step)
            if not torch.isfinite(output.loss):
                places = [row for batch in micro_batches for row in batch["rows"]]
                # Where weights are spread over processes, a resumed run keeps its learning rate.
                lower = "start again" if is_sharded(self.accelerator) else "resume it"
                raise TrainingError(
                    f"step {progress.step + 1}: the loss is {output.loss.item()}, with rows {places} on this process;"
                    f" the last checkpoint in {self.output_dir} is kept: {lower} with a lower --learning_rate"
                )
            norm = None
            if run.max_grad_norm:
                norm = self.accelerator.clip_grad_norm_(self.model.parameters(), run.max_grad_norm)
            self.optimizer.step()
            self.plain_model.clamp_temperature()
            self.schedule.step()
            self.optimizer.zero_grad()
            if self.averages is not None:
                self.averages.update_parameters(self.plain_model)
            losses.append(output.loss.item())
            progress.step += 1
            progress.batches += len(micro_batches)
            seconds = time.perf_counter() - started
            started += seconds
            bar.update()
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
            if progress.step % run.logging_steps == 0:
                rows = sum(len(batch["rows"]) for batch in micro_batches) * self.accelerator.num_processes
                values = {"loss": losses[-1], "learning_rate": rate}
                values |= {"rows_per_second": rows / seconds, "share_of_time_waiting_for_data": waited / seconds}
                values |= {f"loss/{name}": part.item() for name, part in output.parts.items()}
                values |= {} if norm is None else {"gradient_norm": float(norm)}
                self.accelerator.log(values, step=progress.step)
            request = self.requests.read()
            if request or (run.checkpoint_steps and progress.step % run.checkpoint_steps == 0):
                self._save()
            if request == "stop":
                again = resume_command()
                say(self.accelerator, f"stopped after step {progress.step}; go on with: {again}")
                sys.exit(0)
            if progress.step == self.total_steps:
                break
        # --max_steps may end a run within an epoch; with more, it goes on there. How long a stream is, nobody knows.
        if progress.step < self.total_steps or 0 < self.batches < progress.batches + run.gradient_accumulation_steps:
            progress.epoch, progress.batches = progress.epoch + 1, 0
        if is_whole and not losses and progress.step < self.total_steps:
            raise TrainingError(f"an epoch of this stream has fewer rows than a step takes, {self.division.rows}")
        if not losses and progress.ended_step == progress.step:  # a stream ended where the steps of an earlier run did
            return
        progress.ended_step = progress.step
        mean = f"{sum(losses) / len(losses):.4f}" if losses else "(before)"
        measured = self._finish_epoch()
        epoch, seconds = progress.epoch + bool(progress.batches), time.perf_counter() - began
        say(self.accelerator, f"epoch {epoch}, step {progress.step}  loss {mean}  {measured}{seconds:.0f} s")

    def _steps_of_epoch(self) -> Iterator[list[Batch]]:
        progress, per_step = self.progress, self.run.gradient_accumulation_steps
        if progress.step == self.total_steps:
            return iter(())
        return steps_of_epoch(self.loaders, progress.epoch, progress.batches, per_step)

    def _finish_epoch(self) -> str:
        """Measure, publish and save; returns what was measured, for people."""
        progress, shown = self.progress, ""
        with self.whole.of(self.plain_model if self.averages is None else self.averages.module) as whole:
            model = cast(MultimodalEncoderModel, whole)
            if self.averages is not None:
                with self.accelerator.autocast():
                    fit_batch_norm(model, self._some_inputs())
            if self.validation is None:
                self._publish(model)
            else:
                metrics = self._measured(self.validation.measure(model))
                metric = self.run.validation_metric
                shown = f"{self.validation.lines(metrics)}  "
                if is_better(metric, metrics[metric], progress.best):
                    progress.best, progress.best_step, progress.best_metrics = metrics[metric], progress.step, metrics
                    progress.best_epoch = progress.epoch + bool(progress.batches)
                    shown += "best  "
                    self._publish(model)
        self._save()
        return shown

    def _measure(self, model: torch.nn.Module) -> dict[str, float]:
        """The metrics of the validation rows, logged."""
        assert self.validation is not None
        with self.whole.of(model) as whole:
            return self._measured(self.validation.measure(cast(MultimodalEncoderModel, whole)))

    def _measured(self, metrics: dict[str, float]) -> dict[str, float]:
        self.accelerator.log(metrics, step=self.progress.step)
        return metrics

    def _some_inputs(self) -> Iterator[dict[str, Tensor]]:
        """Inputs from another loader, which leaves the run's undisturbed; its order follows from the step."""
        torch.manual_seed(seed_of(self.run.seed, self.progress.step, self.accelerator.process_index))
        for batch in islice(self._make_loader(), _STATISTICS_BATCHES):
            if batch["rows"]:
                yield {name: value.to(self.accelerator.device) for name, value in batch["inputs"].items()}

    def _publish(self, model: MultimodalEncoderModel) -> None:
        if self.accelerator.is_main_process:
            publish(model, self.output_dir, self.run.save_dtype)
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        checkpoints.save(
            self.accelerator,
            self.checkpoints,
            self.progress,
            self._modules,
            self.run.keep_last,
            as_kept(self.options),
            self.identity,
            self.division,
        )

    def _open(self) -> None:
        """Take the output folder, and go on from where the run was, if it began before."""
        wanted = self.run.resume_from_checkpoint
        is_legacy = bool(wanted) and has_legacy_state(wanted)
        self.lock, checkpoint = checkpoints.open_run(self.accelerator, self.output_dir, wanted or None, is_legacy)
        if is_legacy:
            if is_sharded(self.accelerator):
                raise ValueError(
                    "only whole weights go on from a legacy run: launch it with accelerate launch --multi_gpu"
                )
            check_weights(wanted, self.options[1].init_from)
            optimizer = self.optimizer.optimizer  # without Accelerate's wrapper
            self.progress = load_legacy_state(wanted, self.plain_model, optimizer, self.schedule)
        elif checkpoint is not None:
            self.progress = self.resumption.applied(checkpoints.restore(self.accelerator, checkpoint, self._modules))
            say(self.accelerator, f"resumed from {checkpoint}: epoch {self.progress.epoch}, step {self.progress.step}")
            layers = trained_batch_norm(self.plain_model.train()) if self.step.is_whole else []
            for line in [*self.resumption.lines(), *self.resumption.batch_norm_lines(layers)]:
                say(self.accelerator, line)
            if not is_sharded(self.accelerator):
                check_finite(self.plain_model, checkpoint, "resume an earlier checkpoint, with a lower --learning_rate")
                self._reset_rates()
        elif wanted:
            say(self.accelerator, f"{self.output_dir}: its run ended before its first checkpoint, and begins again")

    def _reset_rates(self) -> None:
        """Give the restored optimizer the learning rates and the decay of the options, where they are others."""
        optimizer = self.optimizer.optimizer  # without Accelerate's wrapper
        groups = parameter_groups(self.plain_model, self.loss.parameters(), self.run)
        schedule = reset_rates(optimizer, groups, self.run, self.total_steps, self.progress.step)
        if schedule is not None:
            self.schedule.scheduler = schedule
            rates = ", ".join(f"{rate:.4g}" for rate in dict.fromkeys(schedule.get_last_lr()))
            say(self.accelerator, f"learning rate of the next step: {rates}")
