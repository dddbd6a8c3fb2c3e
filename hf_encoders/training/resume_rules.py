"""What becomes of each option when a run is resumed with another value than its checkpoint was made with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Rule = Literal[
    "obeyed",  # from the next step on
    "rate",  # obeyed: the schedule is made anew. Where weights are spread over processes, kept
    "epoch",  # obeyed; the rows of an epoch or their order change, so an epoch that has begun starts again
    "stream",  # as "epoch" in a stream, which is ordered by it; else obeyed
    "best",  # obeyed; the best value so far was measured otherwise, and is forgotten
    "epoch and best",
    "kept",  # from the checkpoint
    "refused",  # the weights or the state of the optimizer would not fit, or would mean something else
    "on or off",  # obeyed, but refused where something is added or left out that has weights
    "source",  # refused where the name is another one; the folder that it lies in may have moved
    "not compared",  # a place; or what a comparison of its own is for
]
RULES: Mapping[str, Rule] = {
    # Data. The data set is compared by its files, see `data_identity`.
    "dataset": "not compared",
    "dataset_weights": "epoch",
    "train_split": "epoch",
    "split": "epoch",
    "validation_split": "best",
    "validation_labels": "best",
    "validation_templates": "best",
    "validation_share": "epoch and best",
    "streaming": "epoch",
    "shuffle_buffer": "stream",
    "text_column": "on or off",
    "text_templates": "obeyed",
    "names_column": "obeyed",
    "rename_as": "obeyed",
    "rename_share": "obeyed",
    "image_column": "on or off",
    "depth_column": "on or off",
    "id_column": "obeyed",
    "boxes_column": "obeyed",
    "regions_column": "obeyed",
    "region_captions": "obeyed",
    "region_share": "obeyed",
    "image_scale": "obeyed",
    "image_brightness": "obeyed",
    "mirror_words": "obeyed",
    "crop_scale": "obeyed",
    "horizontal_flip": "obeyed",
    "vertical_flip": "obeyed",
    "depth_scale": "obeyed",
    "max_bad_samples": "obeyed",
    "num_workers": "stream",
    # Model.
    "init_from": "source",
    "text_model": "source",
    "text_layers": "refused",
    "text_words": "source",
    "vision_model": "source",
    "depth_model": "source",
    "tokenizer": "source",
    "model_config": "refused",
    "image_processor": "refused",
    "depth_processor": "refused",
    "preset": "refused",
    "unit_scale": "refused",
    "value_range": "refused",
    "invalid_values": "refused",
    "projection_dim": "refused",
    "freeze": "refused",
    "gradient_checkpointing": "obeyed",
    "trust_remote_code": "not compared",
    # Loss.
    "loss": "refused",
    "pair_weights": "obeyed",
    "temperature": "kept",
    "learn_temperature": "refused",
    "text_to_image_only": "obeyed",
    "label_smoothing": "obeyed",
    "matryoshka_dims": "on or off",
    "teacher": "obeyed",
    "distillation_weight": "obeyed",
    "text_teacher": "obeyed",
    "text_teacher_weight": "obeyed",
    "text_teacher_words": "obeyed",
    "text_teacher_templates": "obeyed",
    "soft_targets": "obeyed",
    "depth_follows_image": "obeyed",
    # Run.
    "output_dir": "not compared",
    "seed": "kept",
    "epochs": "obeyed",
    "max_steps": "obeyed",
    "batch_size": "epoch",
    "gradient_accumulation_steps": "obeyed",
    "chunk_size": "obeyed",
    "batch_norm": "obeyed",
    "learning_rate": "rate",
    "text_learning_rate": "rate",
    "vision_learning_rate": "rate",
    "depth_learning_rate": "rate",
    "weight_decay": "rate",
    "lr_schedule": "rate",
    "warmup_steps": "rate",
    "schedule_epochs": "rate",
    "schedule_factor": "rate",
    "patience": "obeyed",
    "max_grad_norm": "obeyed",
    "ema_decay": "on or off",
    "mixed_precision": "not compared",
    "compile": "obeyed",
    "validation_metric": "best",
    "checkpoint_steps": "obeyed",
    "keep_last": "obeyed",
    "resume_from_checkpoint": "not compared",
    "logging_steps": "obeyed",
    "save_dtype": "obeyed",
    "report_to": "obeyed",
    "push_to_hub": "not compared",
}
UNKNOWN = "the options that it was made with are unknown, as an older version wrote it: those given now hold"
_HINT = "give what it was made with, or start a new run in another --output_dir"
_LONGEST = 60

Part = TypeVar("Part", bound="DataclassInstance")


@dataclass(frozen=True)
class Change:
    """An option whose value is another than the checkpoint's; `rule` says what becomes of it."""

    name: str
    kept: object
    asked: object
    rule: Rule


class Changes:
    """How the options of a resumed run differ from those that its checkpoint was made with.

    Args:
        options: the dataclasses of the run.
        kept: the options in the checkpoint by their names; None where there is no checkpoint, or it has none. An option
            that it lacks was not there yet, and had its default.
        keeps_rates: whether learning rates and the schedule stay those of the checkpoint.

    Raises:
        ValueError: if an option cannot be another one.
    """

    def __init__(
        self, options: "Sequence[DataclassInstance]", kept: Mapping[str, object] | None, keeps_rates: bool = False
    ):
        self._all: list[Change] = []
        if kept is None:
            return
        streams = any(getattr(part, "streaming", False) for part in options)
        for part in options:
            for one in fields(part):
                rule = RULES[one.name]
                before, asked = kept.get(one.name, as_json(_default(one))), as_json(getattr(part, one.name))
                if before == asked or rule == "not compared":
                    continue
                if rule == "stream":
                    rule = "epoch" if streams else "obeyed"
                elif rule == "rate" and keeps_rates:
                    rule = "kept"
                elif rule == "on or off":
                    rule = "refused" if bool(before) != bool(asked) else "obeyed"
                elif rule == "source":
                    rule = "obeyed" if Path(str(before)).name == Path(str(asked)).name else "refused"
                self._all.append(Change(one.name, before, asked, rule))
        for change in self._all:
            if change.rule == "refused":
                raise ValueError(_refusal(change))

    def settled(self, part: Part) -> Part:
        """The options that the run takes: those that are kept have the values of the checkpoint."""
        names = {one.name for one in fields(part)}
        kept: dict[str, Any] = {
            change.name: change.kept for change in self._all if change.rule == "kept" and change.name in names
        }
        return replace(part, **kept) if kept else part

    def before(self, part: Part) -> Part:
        """The options with the values that they had in the checkpoint."""
        names = {one.name for one in fields(part)}
        kept: dict[str, Any] = {change.name: change.kept for change in self._all if change.name in names}
        return replace(part, **kept) if kept else part

    def of(self, *rules: Rule) -> list[Change]:
        """The changes that such rules are for."""
        return [change for change in self._all if change.rule in rules]

    def names(self) -> set[str]:
        """The options whose values changed, without those that are kept."""
        return {change.name for change in self._all if change.rule != "kept"}

    def lines(self) -> list[str]:
        """What became of the options, for people."""
        kept = self.of("kept")
        obeyed = [change for change in self._all if change not in kept]
        said = []
        if obeyed:
            listed = ", ".join(f"{one.name} {_shown(one.asked)} (was {_shown(one.kept)})" for one in obeyed)
            said.append(f"other options from here on: {listed}")
        if kept:
            listed = ", ".join(f"{one.name} {_shown(one.kept)} (asked for {_shown(one.asked)})" for one in kept)
            said.append(f"kept from the checkpoint: {listed}")
        return said


def as_kept(options: "Sequence[DataclassInstance]") -> dict[str, object]:
    """The options of a run as its checkpoints keep them, without places and what is compared otherwise."""
    return {
        one.name: as_json(getattr(part, one.name))
        for part in options
        for one in fields(part)
        if RULES[one.name] != "not compared"
    }


def as_json(value: object) -> object:
    """A value as a JSON file gives it back; YAML has values that JSON lacks, such as dates, which become text."""
    return json.loads(json.dumps(value, default=str))


def _default(one: "Field[Any]") -> object:
    return one.default if one.default_factory is MISSING else one.default_factory()


def _refusal(change: Change) -> str:
    name, kept, asked = change.name, change.kept, change.asked
    while isinstance(kept, dict) and isinstance(asked, dict):  # down to a difference that one can read
        inner = next(key for key in {**kept, **asked} if kept.get(key) != asked.get(key))
        name, kept, asked = f"{name} {inner}", kept.get(inner), asked.get(inner)
    return f"--{name} is {_shown(asked)}, and {_shown(kept)} in the checkpoint: {_HINT}"


def _shown(value: object) -> str:
    """A value on a line; what is not given shows as none."""
    text = str(value) if value not in (None, "", [], {}) else "none"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
