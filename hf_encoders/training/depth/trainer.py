"""The run of `pretrain_depth`, to be read from top to bottom: its parts are made, then its loop begins."""

import contextlib
import math
import time
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from accelerate.utils import broadcast, broadcast_object_list, gather_object, set_seed
from torch.utils.data import DataLoader, Subset
from tqdm.std import tqdm

from ...losses.batch_norm import kept_statistics, trained_batch_norm
from ...models.modeling_depth_autoencoder import reconstruction_loss
from ...plurals import counted
from ...progress.bars import progress_bar
from .. import checkpoints
from ..accelerator import count_bad, make_accelerator, say, without_sync
from ..checkpoints import Progress
from ..checks import check_finite, check_room, checkpoint_size
from ..data_identity import data_identity
from ..depth_units import described, learn_percentiles, spread
from ..division import seed_of
from ..epochs import is_stale, steps_of_epoch
from ..legacy_state import check_weights, has_legacy_state
from ..opening import data_line, loss_line, model_line
from ..result import present, publish
from ..resume_command import resume_command
from ..resume_rules import as_kept
from ..resumption import DATA, Resumption
from ..stopping import Requests, outlive_a_stop
from .arguments import LEAST_MAPS, DepthDataArguments, DepthModelArguments, DepthRunArguments
from .legacy_state import load_legacy_state
from .maps import DepthBatch, collate, open_maps
from .model import build_autoencoder
from .schedule import epoch_schedule, reset_rates


class DepthTrainer:
    """The parts of a run, and its loop."""

    def __init__(self, data: DepthDataArguments, model: DepthModelArguments, run: DepthRunArguments):
        self.output_dir = Path(run.output_dir)
        self.checkpoints = self.output_dir / checkpoints.FOLDER
        self.is_legacy = bool(run.resume_from_checkpoint) and has_legacy_state(run.resume_from_checkpoint)
        if self.is_legacy:
            check_weights(run.resume_from_checkpoint, model.init_from)
        if self.is_legacy or not run.resume_from_checkpoint:
            checkpoints.refuse_old(self.checkpoints)
            # A model beside the folder of checkpoints is this run's own, which was killed before its first checkpoint.
            if (self.output_dir / "config.json").exists() and not self.checkpoints.is_dir():
                raise ValueError(f"{self.output_dir}: holds a model; choose another --output_dir")
        kept = checkpoints.find_kept(self.output_dir, run.resume_from_checkpoint)
        self.resumption = Resumption(kept, (data, model, run))
        changes = self.resumption.changes
        data, model, run = changes.settled(data), changes.settled(model), changes.settled(run)
        self.options = (data, model, run)
        self.accelerator = make_accelerator(run, None if kept is None else kept.precision)
        processes = self.accelerator.num_processes
        self.division = self.resumption.divide(run.batch_size, 1, processes, least=LEAST_MAPS)
        # The options as the run has them; those that were given stay in its checkpoints.
        run = replace(run, batch_size=self.division.batch_size)
        self.data, self.run = data, run
        self.resumption.check_precision(self.accelerator.mixed_precision)
        self.requests = Requests(self.accelerator)
        set_seed(run.seed)
        self.network = build_autoencoder(model)
        check_finite(self.network, model.init_from or "the network", "give weights from before they diverged")
        self.maps, validation_maps = open_maps(data, self.network.processor, run.seed)
        learn_percentiles(self.network.processor, self.maps.raw_maps(spread(len(self.maps))))
        if self.maps.source.left_out:
            say(self.accelerator, self.maps.source.left_out)
        say(self.accelerator, described(self.network.processor))
        make_loader = partial(
            DataLoader, collate_fn=collate, num_workers=data.num_workers, worker_init_fn=outlive_a_stop
        )
        loader = make_loader(self.maps, run.batch_size, shuffle=True, drop_last=True)
        # Each process validates its own maps, so that none is repeated to fill the last batch.
        own = range(self.accelerator.process_index, len(validation_maps), self.accelerator.num_processes)
        self.validation_loader = make_loader(Subset(validation_maps, own), run.batch_size)
        places = [data_identity([data.dataset], len(self.maps)) if self.accelerator.is_main_process else ""]
        self.identity = {DATA: broadcast_object_list(places)[0]}
        self.resumption.compare(self.identity)
        optimizer = torch.optim.AdamW(self.network.parameters(), run.learning_rate, weight_decay=run.weight_decay)
        self.model, self.optimizer, self.schedule, self.loader = self.accelerator.prepare(
            self.network, optimizer, epoch_schedule(optimizer, run), loader
        )
        if not self._steps_per_epoch:
            raise ValueError(
                f"{counted(len(self.maps), 'map')} to train on: fewer than a batch of all processes"
                f" ({self.division.rows}): lower --batch_size"
            )
        self._check_room()
        self.progress = Progress()
        for line in self._opening(len(validation_maps)):
            say(self.accelerator, line)

    def _opening(self, validation_maps: int) -> list[str]:
        data, model, run = self.options
        config = self.network.config
        parts = {"MSE": "mse", "L1": "l1", "SSIM": "ssim", "edges": "edge"}
        weights = " + ".join(f"{getattr(config, f'{name}_loss_weight'):g} {shown}" for shown, name in parts.items())
        rate = f"AdamW at {run.learning_rate:g} ({run.lr_schedule})"
        return [
            data_line([data.dataset], len(self.maps), {}, f"{counted(validation_maps, 'map')} to validate on"),
            model_line(self.network, model.init_from or "new"),
            loss_line(
                weights, self._steps_per_epoch * run.epochs, self.division.rows, rate, self.accelerator.mixed_precision
            ),
        ]

    @property
    def _steps_per_epoch(self) -> int:
        return len(self.loader) // self.division.micro_batches

    def _check_room(self) -> None:
        run, size = self.run, checkpoint_size(self.network)
        check_room(self.output_dir, self.checkpoints, size, self.network, run.keep_last + 1)

    def train(self) -> None:
        """Run to the end, or until asked to stop.

        Raises:
            ValueError: if a loss or gradient is not a number, or too many maps cannot be read.
        """
        progress, run = self.progress, self.run
        wanted = run.resume_from_checkpoint or None
        self.lock, folder = checkpoints.open_run(self.accelerator, self.output_dir, wanted, self.is_legacy)
        if wanted and self.is_legacy:
            progress = self._go_on_from_legacy(wanted)
        elif folder is not None:
            progress = self.progress = self.resumption.applied(checkpoints.restore(self.accelerator, folder))
            say(self.accelerator, f"resumed from {folder}: epoch {progress.epoch}, step {progress.step}")
            for line in [*self.resumption.lines(), *self.resumption.batch_norm_lines(trained_batch_norm(self.network))]:
                say(self.accelerator, line)
            check_finite(self.network, folder, "resume an earlier checkpoint, with a lower --learning_rate")
            self._reset_rates()
        elif wanted:
            say(self.accelerator, f"{self.output_dir}: its run ended before its first checkpoint, and begins again")
        config = {name: str(value) for name, value in (asdict(run) | asdict(self.data)).items()}
        self.accelerator.init_trackers("pretrain_depth", config=config)
        if self._is_finished():
            done = f"all {progress.epoch} epochs are trained; more with --epochs"
            stale = "the validation loss got no better; more with --patience"
            say(self.accelerator, f"nothing is left to do: {done if progress.epoch >= run.epochs else stale}")
        while not self._is_finished():
            if not self._train_epoch():
                again = resume_command()
                say(self.accelerator, f"stopped after step {progress.step}; go on with: {again}")
                self.accelerator.end_training()
                return
        say(
            self.accelerator,
            f"{self.output_dir}: the model of epoch {progress.best_epoch}, validation {progress.best:.4f}",
        )
        self.accelerator.end_training()
        if self.accelerator.is_main_process:
            present(self.output_dir, self.options, ["loss", "validation_loss"])

    def _go_on_from_legacy(self, repo: str) -> Progress:
        """Take over the optimizer's state and the progress of a converted repo."""
        optimizer = self.optimizer.optimizer  # without Accelerate's wrapper
        self.progress, self.schedule.scheduler = load_legacy_state(
            repo, self.network, optimizer, self.schedule.scheduler, self.run
        )
        rate = optimizer.param_groups[0]["lr"]
        done = f"epoch {self.progress.epoch}, step {self.progress.step}"
        say(self.accelerator, f"went on from {repo}: {done}; learning rate of the next step: {rate:.4g}")
        return self.progress

    def _is_finished(self) -> bool:
        return self.progress.epoch >= self.run.epochs or is_stale(self.progress, self.run.patience)

    def _reset_rates(self) -> None:
        """Give the restored optimizer the learning rate and the decay of the options, where they are others."""
        resumption, run = self.resumption, self.run
        has_other_end = run.lr_schedule == "cosine" and "epochs" in resumption.changes.names()
        if not (resumption.changes.of("rate") or has_other_end or resumption.is_of_older_version):
            return
        kept = None if resumption.is_of_older_version else resumption.before(run)
        optimizer = self.optimizer.optimizer  # without Accelerate's wrapper
        self.schedule.scheduler = reset_rates(optimizer, self.schedule.scheduler, run, kept, self.progress.epoch)
        say(self.accelerator, f"learning rate of the next step: {optimizer.param_groups[0]['lr']:.4g}")

    def _train_epoch(self) -> bool:
        """Train to the end of an epoch; returns False if the run was asked to stop before."""
        progress, started, losses = self.progress, time.perf_counter(), []
        self.model.train()
        with self._bar() as bar:
            per_step = self.division.micro_batches
            for batches in steps_of_epoch([self.loader], progress.epoch, progress.batches, per_step):
                loss = self._step(batches)
                progress.batches += per_step
                bar.update()
                if loss is not None:
                    losses.append(loss)
                    bar.set_postfix(loss=f"{loss:.4f}")
                request, every = self.requests.read(), self.run.checkpoint_steps
                if request or (loss is not None and every and progress.step % every == 0):
                    self._save()
                if request == "stop":
                    return False

        validation = self._validate()
        progress.epoch, progress.batches = progress.epoch + 1, 0
        if self.run.lr_schedule == "plateau":
            self.schedule.step(validation)
        else:
            self.schedule.step()
        if progress.best is None or validation < progress.best:
            progress.best, progress.best_step, progress.best_epoch = validation, progress.step, progress.epoch
            if self.accelerator.is_main_process:
                publish(self.network, self.output_dir)
        self._save()
        self.accelerator.log({"validation_loss": validation}, step=progress.step)
        mean = f"{np.mean(losses):.4f}" if losses else "(before)"
        seconds = time.perf_counter() - started
        say(
            self.accelerator,
            f"epoch {progress.epoch}/{self.run.epochs}  loss {mean}  validation {validation:.4f}"
            f"{'  best' if progress.best_epoch == progress.epoch else ''}  {seconds:.0f} s",
        )
        return True

    def _bar(self) -> "tqdm[NoReturn]":
        """The progress of an epoch; it goes when the epoch's line is written."""
        return progress_bar(
            self._steps_per_epoch,
            f"epoch {self.progress.epoch + 1}/{self.run.epochs}",
            "step",
            initial=self.progress.batches // self.division.micro_batches,
            leave=False,
            is_shown=self.accelerator.is_main_process,
        )

    def _step(self, batches: list[DepthBatch]) -> float | None:
        """Take one optimizer step; returns its loss, or None where some micro-batch has too few maps."""
        progress, accelerator = self.progress, self.accelerator
        if self._is_too_small(batches):
            return None
        losses = []
        with contextlib.ExitStack() as stack:
            for number, batch in enumerate(batches):
                if number == 1:  # the running statistics are those of the first, as of the first process elsewhere
                    stack.enter_context(kept_statistics(trained_batch_norm(self.network)))
                # Dropout depends on the place in the step alone, so that a resumed run repeats it.
                place = self.division.number(number, accelerator.process_index)
                torch.manual_seed(seed_of(self.run.seed, progress.step, place))
                is_last = number == len(batches) - 1
                with contextlib.nullcontext() if is_last else without_sync(accelerator, self.model):
                    loss = self.model(batch["pixel_values"], pixel_mask=batch["pixel_mask"], return_loss=True).loss
                    accelerator.backward(loss / len(batches))
                losses.append(loss.detach())
        mean = accelerator.gather(torch.stack(losses)).mean().item()
        if not math.isfinite(mean):
            bad = [batch for batch, loss in zip(batches, losses, strict=True) if not loss.isfinite()]
            self._fail("loss", mean, _names(bad))
        norm = float(accelerator.clip_grad_norm_(self.model.parameters(), self.run.max_grad_norm or math.inf))
        if not math.isfinite(norm) and accelerator.scaler is None:  # a scaler skips such steps by itself
            self._fail("gradient", norm, _names(batches))
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        progress.step += 1
        if progress.step % self.run.logging_steps == 0:
            accelerator.log({"loss": mean, "gradient_norm": norm, "learning_rate": rate}, step=progress.step)
        return mean

    @torch.no_grad()
    def _validate(self) -> float:
        """The mean loss of the validation maps, each taken by itself, so that it does not depend on the batch size."""
        broadcast(list(self.network.buffers()))  # BatchNorm's statistics: the main process's are saved
        self.network.eval()
        losses: list[tuple[int, float]] = []
        bad: list[str] = []
        for batch in self.validation_loader:
            bad += batch["bad"]
            if batch["indices"]:
                device = self.accelerator.device
                pixels, mask = batch["pixel_values"].to(device), batch["pixel_mask"].to(device)
                drawn = self.network(pixels).reconstruction
                each = [
                    reconstruction_loss(drawn[[i]], pixels[[i]], self.network.config, mask[[i]])
                    for i in range(len(pixels))
                ]
                losses += zip(batch["indices"], torch.stack(each).tolist(), strict=True)
        count_bad(self.accelerator, self.progress.bad_samples, bad, self.data.max_bad_samples)
        everywhere = sorted(gather_object(losses))
        if not everywhere:
            raise ValueError(f"{self.data.dataset}: no validation map can be read")
        mean = float(np.mean([loss for _, loss in everywhere]))
        if not math.isfinite(mean):
            rows = [index for index, loss in everywhere if not math.isfinite(loss)]
            raise ValueError(f"step {self.progress.step}: the validation loss is {mean}, with the rows {rows}")
        return mean

    def _is_too_small(self, batches: list[DepthBatch]) -> bool:
        """Whether some micro-batch of this step has fewer maps than BatchNorm needs; counts bad maps."""
        found = [text for batch in batches for text in batch["bad"]]
        small = sum(len(batch["indices"]) < LEAST_MAPS for batch in batches)
        counts = torch.tensor([small, len(found)], device=self.accelerator.device)
        too_small, bad = self.accelerator.reduce(counts, reduction="sum").tolist()
        if bad:
            count_bad(self.accelerator, self.progress.bad_samples, found, self.data.max_bad_samples)
        return bool(too_small)

    def _fail(self, what: str, value: float, names: list[str]) -> NoReturn:
        """Stop before the weights change; `names` are the maps of this process that may be the cause."""
        raise ValueError(
            f"step {self.progress.step + 1}: the {what} is {value}, with {', '.join(gather_object(names))}; the"
            f" checkpoints before it are kept in {self.checkpoints}: go on from one with a lower --learning_rate"
        )

    def _save(self) -> None:
        checkpoints.save(
            self.accelerator,
            self.checkpoints,
            self.progress,
            keep_last=self.run.keep_last,
            options=as_kept(self.options),
            identity=self.identity,
            division=self.division,
        )


def _names(batches: list[DepthBatch]) -> list[str]:
    return [name for batch in batches for name in batch["names"]]
