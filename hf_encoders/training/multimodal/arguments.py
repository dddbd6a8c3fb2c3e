"""Options of the training scripts: a YAML recipe, with flags on top of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser

from ...command_line import OneLineArgumentParser

_REPO = Path(__file__).resolve().parents[3]
# Options whose values in a recipe may be paths in this repository.
_PATHS = ("dataset", "init_from", "text_model", "vision_model", "depth_model", "tokenizer", "teacher")

# Options that a recipe states even where they are the defaults, and those that say nothing of how a model was made.
_STATED = ("seed", "epochs", "batch_size", "learning_rate")
_PLACES = ("output_dir", "resume_from_checkpoint", "push_to_hub", "report_to")


def option(default: Any, text: str, **metadata: Any) -> Any:
    """A field with its help."""
    metadata = {"help": text, **metadata}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DataArguments:
    """What is trained on."""

    dataset: list[str] = option([], "Hub ids, folders, parquet files or WebDataset shards; several are joined")
    train_split: str = option("train", "split to train on")
    validation_split: str = option("validation", "split for the metrics of each epoch; empty for none")
    streaming: bool = option(False, "read while training, without a copy on disk")
    shuffle_buffer: int = option(1000, "rows that streaming shuffles among")
    text_column: str = option("caption", "captions: one, or a list of which each epoch takes one")
    image_column: str = option("image", "images; empty to train without")
    depth_column: str = option("", "depth maps; empty to train without")
    id_column: str = option("", "what a row shows: rows of equal ids are no negatives of each other")
    boxes_column: str = option("", "boxes to paint black for masked negatives: lists of [x1, y1, x2, y2]")
    image_scale: float = option(1.0, "random crops keep at least this share of an image (1: no crops)")
    max_bad_samples: int = option(0, "rows that cannot be read are skipped; with more than so many the run stops")
    num_workers: int = option(2, "processes that read and prepare the data")

    @property
    def columns(self) -> dict[str, str]:
        """Modality → column, of what is trained on."""
        columns = {"text": self.text_column, "image": self.image_column, "depth": self.depth_column}
        return {modality: column for modality, column in columns.items() if column}


@dataclass
class ModelArguments:
    """What is trained."""

    init_from: str = option("", "a multimodal repo to go on from, such as a converted legacy checkpoint")
    text_model: str = option("", "Hub id or folder of the text tower")
    vision_model: str = option("", "Hub id or folder of the image tower")
    depth_model: str = option("", "Hub id or folder of a depth semantic encoder")
    model_config: Any = option(None, "for new towers: the fields of MultimodalEncoderConfig")
    tokenizer: str = option("", "Hub id or folder of a tokenizer, or a vocab.txt; by default the text tower's")
    image_processor: Any = option(None, "for new towers: settings of the image processor, such as its size")
    depth_processor: Any = option(None, "settings of DepthImageProcessor; by default the depth tower's")
    projection_dim: int = option(256, "dimension of the shared space, for new projections")
    freeze: list[str] = option([], "modules that are not trained, such as visual_encoder")
    gradient_checkpointing: bool = option(False, "compute activations again instead of keeping them")


@dataclass
class LossArguments:
    """What is minimised."""

    loss: str = option("infonce", "contrastive loss", choices=["infonce", "sigmoid"])
    pair_weights: Any = option(
        None, "weights of the pairs, such as {text-image: 1, text-depth: 1}; others are left out"
    )
    temperature: float = option(0.07, "initial temperature, for new projections")
    learn_temperature: bool = option(True, "whether the temperature is trained, for new projections")
    text_to_image_only: bool = option(False, "compare in one direction only, as the legacy training did")
    label_smoothing: float = option(0.0, "share of the target that all candidates get")
    matryoshka_dims: list[int] = option([], "shorter prefixes of the embedding that are trained too")
    teacher: str = option("", "a multimodal repo whose similarities are learned too")
    distillation_weight: float = option(1.0, "of the teacher's similarities, beside the loss")


@dataclass
class RunArguments:
    """How it is trained."""

    output_dir: str = option("multimodal-encoder", "where the model, checkpoints and logs go")
    seed: int = option(0, "of everything that is random")
    epochs: int = option(10, "passes over the data")
    max_steps: int = option(0, "stop after so many steps (0: after the epochs)")
    batch_size: int = option(64, "rows of a process and micro-batch")
    gradient_accumulation_steps: int = option(1, "micro-batches of a step; all are negatives of each other")
    chunk_size: int = option(0, "rows that are in memory at a time; more are cached (0: the micro-batch)")
    batch_norm: str = option("frozen", "BatchNorm where a step has several chunks", choices=["frozen", "update_once"])
    learning_rate: float = option(1e-4, "peak of the schedule")
    text_learning_rate: float | None = option(None, "of the text tower")
    vision_learning_rate: float | None = option(None, "of the image tower")
    depth_learning_rate: float | None = option(None, "of the depth tower")
    weight_decay: float = option(0.01, "of weights; norms, biases and the temperature have none")
    lr_schedule: str = option("cosine", "after warm-up", choices=["cosine", "constant", "linear"])
    warmup_steps: int = option(0, "steps in which the learning rate rises")
    max_grad_norm: float = option(1.0, "gradients are scaled down to this norm (0: never)")
    ema_decay: float = option(0.0, "decay of the averaged weights, which are then what is saved (0: none)")
    mixed_precision: str | None = option(None, "bf16 or fp16; by default as accelerate launch says")
    compile: bool = option(False, "compile the towers")
    validation_metric: str = option("retrieval/text_to_image_recall@1", "what the best checkpoint is best in")
    checkpoint_steps: int = option(0, "steps between checkpoints (0: after each epoch only)")
    keep_last: int = option(2, "checkpoints to keep beside the best")
    resume_from_checkpoint: str = option("", "latest, or the folder of a checkpoint")
    logging_steps: int = option(10, "steps between log entries")
    report_to: str = option("tensorboard", "tracker: tensorboard, trackio, wandb or none")
    push_to_hub: str = option("", "Hub id to push the model to")


def parse(argv: Sequence[str], kinds: Sequence[type[Any]], default_recipe: Path, description: str) -> tuple[Any, ...]:
    """Read `[RECIPE.yaml] [--option value ...]` into dataclasses.

    Raises:
        ValueError: if the recipe cannot be read, or has an option that does not exist.
    """
    arguments = list(argv)
    recipe = Path(arguments.pop(0)) if arguments and not arguments[0].startswith("-") else default_recipe
    description += " RECIPE.yaml may come first; flags overrule it."
    parser = _Parser(kinds, description=description)  # type: ignore[arg-type]  # mypy sees argparse alone
    for action in parser._actions:
        if action.type is Any:  # a mapping, as text
            action.type = str
    parser.set_defaults(**_read_recipe(recipe, {action.dest: action.choices for action in parser._actions}))
    return tuple(_with_json(one) for one in parser.parse_args_into_dataclasses(arguments, look_for_args_file=False))


def as_recipe(options: Sequence[Any]) -> dict[str, Any]:
    """What `parse` reads, in the form of a recipe: what differs from the defaults, and what everyone asks for.

    Without where the result went; of files and folders, not where they lie on this machine.
    """
    recipe = {}
    for part in options:
        for one in fields(part):
            name, value = one.name, getattr(part, one.name)
            default = one.default if one.default_factory is MISSING else one.default_factory()
            if (value != default or name in _STATED) and name not in _PLACES:
                recipe[name] = _named(value) if name in _PATHS else value
    return recipe


class _Parser(OneLineArgumentParser, HfArgumentParser):
    """HfArgumentParser whose errors take one line."""


def _read_recipe(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says, checked against the options and their choices."""
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise ValueError(f"{path}: no such recipe") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: not a YAML recipe ({' '.join(str(error).split())})") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path}: a recipe is a list of 'option: value'")
    unknown = sorted(set(map(str, recipe)) - set(known))
    if unknown:
        raise ValueError(f"{path}: there is no option {', '.join(unknown)} (see --help)")
    for name, value in recipe.items():  # argparse checks the choices of flags alone
        if known[name] and value not in known[name]:
            raise ValueError(f"{path}: {name} is one of {', '.join(map(str, known[name]))}, got {value!r}")
    return {name: _found(value) if name in _PATHS else value for name, value in recipe.items()}


def _found(value: Any) -> Any:
    """A path in this repository, from wherever the script is started; what is there already, or no path, stays."""
    if isinstance(value, list):
        return [_found(one) for one in value]
    in_repo = _REPO / str(value)
    return str(in_repo) if value and not Path(str(value)).exists() and in_repo.exists() else value


def _named(value: Any) -> Any:
    """What is in this repository by its path there, other files and folders by their name; the inverse of `_found`."""
    if isinstance(value, list):
        return [_named(one) for one in value]
    path = Path(str(value)).resolve()
    if not path.exists():
        return value
    return str(path.relative_to(_REPO)) if path.is_relative_to(_REPO) else path.name


def _with_json(options: Any) -> Any:
    """Mappings come from YAML as such, and from flags as JSON."""
    for name in ("model_config", "image_processor", "depth_processor", "pair_weights"):
        value = getattr(options, name, None)
        if isinstance(value, str):
            try:
                setattr(options, name, json.loads(value))
            except ValueError:
                raise ValueError(f'--{name} {value}: expected JSON such as {{"a": 1}}') from None
    return options
