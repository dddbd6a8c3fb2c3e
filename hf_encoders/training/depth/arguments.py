"""Options of `pretrain_depth`: data, model and run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..option_parser import Settings, option
from ..shared_arguments import AUTO, NONE, PRECISIONS, TRACKERS, DepthUnitArguments

LEAST_MAPS = 2  # of a batch: BatchNorm needs a variance
SCHEDULES = ["step", "cosine", "plateau", "warm_restarts", "constant"]


@dataclass
class DepthDataArguments:
    """The maps, and how they are augmented."""

    dataset: str = option("", "Hub id, folder of depth maps, or parquet file")
    split: str = option("", "split of a data set on the Hub; by default its only one")
    depth_column: str = option("", "depth maps; by default the column 'depth', or the only one that holds pictures")
    validation_split: str = option("", "split of the validation loss; by default a share of the training maps")
    validation_share: float = option(0.1, "share of the training maps that is held out, where no split is named")
    crop_scale: float = option(1.0, "random crops keep at least this share of a map (1: no crops)")
    horizontal_flip: bool = option(False, "mirror every second map, left to right")
    vertical_flip: bool = option(False, "mirror every second map, top to bottom")
    depth_scale: float = option(0.0, "depths are multiplied by a random factor: 0.1 for 0.9 to 1.1")
    max_bad_samples: int = option(0, "maps that cannot be read are skipped; with more than so many the run stops")
    num_workers: int = option(2, "processes that read and prepare the maps")

    def __post_init__(self) -> None:
        if not self.dataset:
            raise ValueError("no data: give --dataset (a Hub id, a folder of depth maps, or a parquet file)")
        _check("validation_share", self.validation_share, 0 < self.validation_share < 1, "between 0 and 1")
        _check("crop_scale", self.crop_scale, 0 < self.crop_scale <= 1, "over 0, and 1 at most")
        _check("depth_scale", self.depth_scale, 0 <= self.depth_scale < 1, "from 0, and under 1")
        _check("max_bad_samples", self.max_bad_samples, self.max_bad_samples >= 0, "from 0")

    @property
    def is_augmented(self) -> bool:
        """Whether a training map differs from epoch to epoch."""
        return self.crop_scale < 1 or self.horizontal_flip or self.vertical_flip or self.depth_scale > 0


@dataclass
class DepthModelArguments(DepthUnitArguments):
    """The network, and where its weights come from."""

    model_type: ClassVar[str] = "depth_semantic_encoder"
    # As in the multimodal ModelArguments.
    instead: ClassVar[Mapping[str, tuple[str, ...]]] = {"init_from": ("model_config",)}
    parts: ClassVar[tuple[str, ...]] = ("depth_processor",)
    init_from: str = option("", "a depth repo to go on from, or a legacy .pth file; by default a new network")
    model_config: Settings = option(None, "fields of DepthSemanticEncoderConfig, the weights of the loss among them")
    depth_processor: Settings = option(None, "settings of DepthImageProcessor, on top of those of --init_from")


@dataclass
class DepthRunArguments:
    """The run: where it writes, and how it optimises."""

    output_dir: str = option("depth-semantic-encoder", "where the model, checkpoints and logs go")
    seed: int = option(0, "seed of everything that is random")
    epochs: int = option(200, "passes over the data")
    batch_size: int = option(128, "maps per process and step")
    learning_rate: float = option(3e-4, "AdamW's learning rate at the start")
    weight_decay: float = option(1e-5, "AdamW's weight decay")
    lr_schedule: str = option("step", "how the learning rate changes from epoch to epoch", choices=SCHEDULES)
    schedule_epochs: int = option(
        0,
        "step: epochs between drops (20); plateau: epochs without a better validation loss before a drop (10);"
        " warm_restarts: epochs of a cycle (20)",
    )
    schedule_factor: float = option(0.1, "step, plateau: a drop multiplies the learning rate by this")
    patience: int = option(20, "stop after so many epochs without a better validation loss (0: never)")
    max_grad_norm: float = option(1.0, "gradients are scaled down to this norm (0: never)")
    mixed_precision: str | None = option(
        None,
        "auto: bf16 where the hardware has it; default: that of accelerate launch",
        choices=[*PRECISIONS, AUTO],
    )
    checkpoint_steps: int = option(0, "steps between checkpoints (0: after each epoch only)")
    keep_last: int = option(2, "checkpoints to keep; the best model is kept apart from them")
    resume_from_checkpoint: str = option(
        "", "latest, or the folder of a checkpoint, or a repo converted with --include-decoder --with-training-state"
    )
    logging_steps: int = option(10, "steps between log entries")
    report_to: str = option(
        "auto", "tracker, or none; auto: tensorboard where it is installed", choices=[AUTO, NONE, *TRACKERS]
    )

    def __post_init__(self) -> None:
        _check("batch_size", self.batch_size, self.batch_size >= LEAST_MAPS, f"at least {LEAST_MAPS}, for BatchNorm")
        for name in ("epochs", "keep_last", "logging_steps"):
            _check(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("schedule_epochs", "patience", "max_grad_norm", "checkpoint_steps", "weight_decay"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "from 0")
        _check("learning_rate", self.learning_rate, self.learning_rate > 0, "over 0")


def _check(name: str, value: float, is_right: bool, expected: str) -> None:
    if not is_right:
        raise ValueError(f"--{name} {value}: must be {expected}")
