"""Which tasks are measured on which data: `EvaluationOptions`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..modalities import Modality
from ..models.depth_units import DepthUnits
from ..models.encoding import DtypeName

Task = Literal["retrieval", "zero-shot", "knn", "linear-probe"]

PROBES: tuple[Task, ...] = ("knn", "linear-probe")
# Modality → the usual name of its column.
COLUMNS: Mapping[Modality, str] = {"text": "caption", "image": "image", "depth": "depth"}


@dataclass(frozen=True)
class EvaluationOptions:
    """Which tasks are measured on which data.

    Args:
        dataset: see `hf_encoders.data.location.locate`.
        tasks: "retrieval", "zero-shot", "knn", "linear-probe".
        split: the split to measure on, or several: "validation,unseen".
        train_dataset: the data set that the probes learn from; `dataset` by default.
        train_split: its split.
        modalities: the modalities to embed; by default those that model and data both have.
        text_column: captions, one per row or a list of them; by default "caption", or the only column of texts.
        image_column: by default "image", or the only column of pictures.
        depth_column: "depth" by default.
        label_columns: the columns of the classes.
        group_column: a column of groups of these classes, such as the category of a noun; see `groups_of`.
        templates: prompts for zero-shot, with {} for the label.
        k: the number of neighbours of knn.
        limit: use only the first rows of each split, this many.
        on_error: "raise" or "skip" for rows that cannot be read.
        batch_size: how many inputs are embedded at a time.
        dtype: "bfloat16" or "float16" to compute in half precision.
        depth_units: what the raw values of depth maps mean: see `DepthUnits`.
    """

    dataset: str
    tasks: Sequence[Task] = ("retrieval",)
    split: str = "test"
    train_dataset: str | None = None
    train_split: str = "train"
    modalities: Sequence[Modality] | None = None
    text_column: str | None = None
    image_column: str | None = None
    depth_column: str | None = None
    label_columns: Sequence[str] = ()
    group_column: str | None = None
    templates: Sequence[str] | None = None
    k: int = 20
    limit: int | None = None
    on_error: Literal["raise", "skip"] = "raise"
    batch_size: int = 32
    dtype: DtypeName | None = None
    depth_units: DepthUnits | None = None
