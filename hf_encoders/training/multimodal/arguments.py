"""Options of `pretrain`: data, model, loss and run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..option_parser import Settings, as_mapping, option
from ..shared_arguments import AUTO, NONE, PRECISIONS, TRACKERS, DepthUnitArguments

# What the columns are called that need not be named; see `rows.with_columns`.
TEXTS, IMAGES = "caption", "image"


@dataclass
class DataArguments:
    """The data, and how samples are made of it."""

    dataset: list[str] = option(
        [], "Hub ids, folders, parquet, JSON or CSV files, or WebDataset shards; several are joined"
    )
    dataset_weights: list[float] = option(
        [],
        "one per data set: its share of the rows of an epoch, which has as many rows as all data sets together; none:"
        " each row once",
    )
    train_split: str = option("train", "split to train on")
    validation_split: str = option(
        "auto",
        "split for the metrics of each epoch, or several: validation,unseen; auto: 'validation' where the data has it;"
        " empty for none",
    )
    validation_labels: str = option(
        "", "column of labels in words: each validation also measures zero-shot classification by them"
    )
    validation_templates: list[str] = option([], "prompts of the labels, each with one {}; none: 'a photo of a {}.'")
    streaming: bool = option(False, "read while training, without a copy on disk")
    shuffle_buffer: int = option(1000, "rows that streaming shuffles among")
    text_column: str = option(
        TEXTS,
        "captions: a text, or a list of texts of which each epoch takes one; where no column is called so, the only one"
        " that holds texts",
    )
    text_templates: list[str] = option(
        [],
        "captions made of columns: 'a {label}', '{objects[0][color]!a} thing' (!a: with a or an, !h: its last word);"
        " each epoch takes one of the row's captions and of the templates whose values it has",
    )
    names_column: str = option(
        "", "objects and what their name is called, such as objects.name: some names in captions are said otherwise"
    )
    rename_as: list[str] = option(
        [], "other words for a name, made of the object's values: '{name!h}', '{category}'; it takes one"
    )
    rename_share: float = option(0.5, "how many of the names are said otherwise")
    image_column: str = option(
        IMAGES, "images; where no column is called so, the only one that holds pictures; empty to train without"
    )
    depth_column: str = option("", "depth maps; empty to train without")
    id_column: str = option("", "id of the thing that a row shows: rows of equal ids are no negatives of each other")
    boxes_column: str = option("", "boxes to paint black for masked negatives: lists of [x1, y1, x2, y2]")
    regions_column: str = option(
        "",
        "objects and what their box is called, such as objects.box: some rows are seen as one of their objects alone",
    )
    region_captions: list[str] = option(
        [], "captions of an object, made of its values: '{color!a} {name}' (see text_templates); a view takes one"
    )
    region_share: float = option(0.3, "how many of the rows that have objects are seen as one of them")
    image_scale: float = option(1.0, "random crops keep at least this share of an image (1: no crops)")
    image_brightness: float = option(
        0.0, "brightness and contrast of images are multiplied by a random factor: 0.2 for 0.8 to 1.2; hues stay"
    )
    depth_scale: float = option(0.0, "depths are multiplied by a random factor: 0.1 for 0.9 to 1.1")
    mirror_words: list[str] = option(
        [], "mirror half of the pictures, and exchange these words in their captions: left right; none: mirror nothing"
    )
    max_bad_samples: int = option(0, "rows that cannot be read are skipped; with more than so many the run stops")
    num_workers: int = option(2, "processes that read and prepare the data")

    @property
    def columns(self) -> dict[str, str]:
        """Modality → column, for the modalities that are trained."""
        columns = {"text": self.text_column, "image": self.image_column, "depth": self.depth_column}
        return {modality: column for modality, column in columns.items() if column}


@dataclass
class ModelArguments(DepthUnitArguments):
    """The model, and where its parts come from."""

    model_type: ClassVar[str] = "multimodal_encoder"
    # Flag → the options of a recipe that it stands instead of, and what goes with them.
    instead: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "init_from": ("text_model", "vision_model", "model_config"),
        "text_model": ("init_from", "model_config"),
        "vision_model": ("init_from", "model_config"),
        "model_config": ("init_from", "text_model", "vision_model"),
    }
    parts: ClassVar[tuple[str, ...]] = (
        "tokenizer", "image_processor", "depth_processor", "projection_dim", "depth_model",
    )  # fmt: skip
    towers: ClassVar[Mapping[str, str]] = {
        "text_model": "text_config", "vision_model": "vision_config", "depth_model": "depth_config",
    }  # fmt: skip
    init_from: str = option("", "a multimodal repo to go on from, such as a converted legacy checkpoint")
    text_model: str = option("", "Hub id or folder of the text tower")
    text_layers: list[int] = option([], "layers of the text model that are kept, counted from 0: 0 2 5; none: all")
    text_words: list[str] = option(
        [], "files of words and sentences: of the text model's tokens only theirs and those of the captions are kept"
    )
    vision_model: str = option("", "Hub id or folder of the image tower")
    depth_model: str = option("", "Hub id or folder of a depth semantic encoder")
    model_config: Settings = option(
        None, "for new towers: the fields of MultimodalEncoderConfig, without those of the towers that are named"
    )
    tokenizer: str = option("", "Hub id or folder of a tokenizer, or a vocab.txt; by default the text tower's")
    image_processor: Settings = option(None, "for new towers: settings of the image processor, such as its size")
    depth_processor: Settings = option(None, "settings of DepthImageProcessor; by default the depth tower's")
    projection_dim: int = option(256, "dimension of the shared space, for new projections")
    freeze: list[str] = option([], "modules that are not trained, such as visual_encoder")
    gradient_checkpointing: bool = option(False, "compute activations again instead of keeping them")
    trust_remote_code: bool = option(
        False, "run code that the repos of models and teachers bring, such as adopted networks; read it first"
    )


@dataclass
class LossArguments:
    """The loss that is minimised."""

    loss: str = option("infonce", "contrastive loss", choices=["infonce", "sigmoid"])
    pair_weights: Settings = option(
        None, "weights of the pairs, such as {text-image: 1, text-depth: 1}; others are left out"
    )
    temperature: float = option(0.07, "initial temperature, for new projections")
    learn_temperature: bool = option(True, "whether the temperature is trained, for new projections")
    text_to_image_only: bool = option(False, "compare in one direction only, as the legacy training did")
    label_smoothing: float = option(0.0, "share of the target that all candidates get")
    matryoshka_dims: list[int] = option([], "lengths of prefixes of the embedding that are trained too")
    teacher: str = option("", "a multimodal repo whose similarities are learned too")
    distillation_weight: float = option(1.0, "weight of the teacher's similarities, beside the loss")
    text_teacher: str = option(
        "", "a text encoder of any kind: how like each other it finds the captions is learned too"
    )
    text_teacher_weight: float = option(1.0, "weight of the text teacher's similarities, beside the loss")
    text_teacher_words: list[str] = option(
        [],
        "files of words: each batch also compares as many texts of them as it has rows, so words that no caption has",
    )
    text_teacher_templates: list[str] = option([], "texts that the words are put into: 'a red {}'; none: words alone")
    soft_targets: float = option(
        0.0, "weight of a loss by which pictures are as like other captions as their own caption is (0: none)"
    )
    depth_follows_image: float = option(
        0.0, "weight of a loss by which depth maps become as like each other as their images are (0: none)"
    )


@dataclass
class RunArguments:
    """The run: where it writes, and how it optimises."""

    output_dir: str = option("multimodal-encoder", "where the model, checkpoints and logs go")
    seed: int = option(0, "seed of everything that is random")
    epochs: int = option(10, "passes over the data")
    max_steps: int = option(0, "stop after so many steps (0: after the epochs)")
    batch_size: int = option(64, "rows per process and micro-batch")
    gradient_accumulation_steps: int = option(1, "micro-batches per step; their rows are all negatives of each other")
    chunk_size: int = option(0, "rows that are embedded at a time, with cached gradients (0: the whole micro-batch)")
    batch_norm: str = option("frozen", "BatchNorm where a step has several chunks", choices=["frozen", "update_once"])
    learning_rate: float = option(1e-4, "peak of the schedule")
    text_learning_rate: float | None = option(None, "learning rate of the text tower")
    vision_learning_rate: float | None = option(None, "learning rate of the image tower")
    depth_learning_rate: float | None = option(None, "learning rate of the depth tower")
    weight_decay: float = option(0.01, "weight decay of weights; norms, biases and the temperature have none")
    lr_schedule: str = option("cosine", "after warm-up", choices=["cosine", "constant", "linear"])
    warmup_steps: int = option(0, "steps in which the learning rate rises")
    max_grad_norm: float = option(1.0, "gradients are scaled down to this norm (0: never)")
    ema_decay: float = option(0.0, "decay of the averaged weights, which are then what is saved (0: none)")
    mixed_precision: str | None = option(
        None,
        "auto: bf16 where the hardware has it; default: that of accelerate launch",
        choices=[*PRECISIONS, AUTO],
    )
    compile: bool = option(False, "compile the towers")
    validation_metric: str = option(
        "retrieval/text_to_image_recall@1", "metric that selects the best checkpoint; of a further split: unseen/..."
    )
    patience: int = option(0, "stop after so many epochs without a better validation metric (0: never)")
    checkpoint_steps: int = option(0, "steps between checkpoints (0: after each epoch only)")
    keep_last: int = option(2, "checkpoints to keep beside the best")
    resume_from_checkpoint: str = option(
        "", "latest, or the folder of a checkpoint, or a repo converted with --with-training-state"
    )
    logging_steps: int = option(10, "steps between log entries")
    save_dtype: str = option(
        "",
        "what the weights of the model are stored in; it computes in float32 all the same",
        choices=["", "float16", "bfloat16"],
    )
    report_to: str = option(
        "auto", "tracker, or none; auto: tensorboard where it is installed", choices=[AUTO, NONE, *TRACKERS]
    )
    push_to_hub: str = option("", "Hub id to push the model to")


def pair_weights(options: LossArguments) -> dict[str, float] | None:
    """Pair of modalities → its weight in the loss; None for the loss's own.

    Raises:
        ValueError: if the option is no mapping.
    """
    return as_mapping("pair_weights", options.pair_weights) or None
