"""Makes batches of rows of captions, images and depth maps; rows that cannot be read are skipped and named."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar

import numpy as np
import PIL.Image
import torch
from datasets import Dataset, Features, IterableDataset
from datasets.distributed import split_dataset_by_node
from torch import Tensor

from ...data.cells import NumberTypes, as_picture, number_types, path_of
from ...data.splits import Rows
from ...losses.contrastive import stable_ids
from ...models.depth_map_files import read_depth
from ...models.depth_units import RangeCheck
from ...models.image_files import read_image
from ...models.input_errors import InputError, one_line
from ...models.modeling_multimodal_encoder import MultimodalEncoderModel
from ...models.processing_multimodal_encoder import MultimodalEncoderProcessor
from ...models.text_reading import TextReading
from ..depth_units import LOOKED_AT, spread
from ..stopping import outlive_a_stop
from .arguments import DataArguments
from .captions import Captions
from .masked_images import paint_boxes
from .mixing import Mixture
from .regions import make_regions
from .renaming import make_renaming
from .rows import load_rows, sizes_of_data
from .views import Jitter, View
from .word_texts import WordTexts

Row = Mapping[str, Any]
_Picture = TypeVar("_Picture")


@dataclass(frozen=True)
class BadSample:
    """A row that cannot be used: its position, and the reason."""

    index: int
    reason: str


class Sample(TypedDict, total=False):
    """One row for the towers; images are not processed yet."""

    index: int
    id: str | int
    caption: str
    image: PIL.Image.Image
    masked: PIL.Image.Image
    depth: Tensor
    teacher_depth: Tensor


class Batch(TypedDict):
    """B rows as tensors, with the bad rows apart.

    `inputs` are the model's inputs [B, ...], `teacher_inputs` the teacher's, `captions` the texts, `ids` modality →
    [B], `masked` masked copies of images [K, 3, H, W], `words` further texts for a text teacher, as `word_inputs` the
    model's inputs [B, ...], and `rows` the positions of the rows.
    """

    inputs: dict[str, Tensor]
    teacher_inputs: dict[str, Tensor]
    captions: list[str]
    words: list[str]
    word_inputs: dict[str, Tensor]
    ids: dict[str, Tensor]
    masked: Tensor | None
    rows: list[int]
    bad: list[BadSample]


class Chunk(TypedDict):
    """Rows of a batch that are embedded at a time; `rows` is how many of them count, `seed` of their dropout."""

    inputs: dict[str, Tensor]
    teacher_inputs: dict[str, Tensor]
    captions: list[str]
    words: list[str]
    word_inputs: dict[str, Tensor]
    ids: dict[str, Tensor]
    masked: Tensor | None
    rows: int
    seed: int


@dataclass(frozen=True)
class ModelInputs:
    """Turns rows into the inputs of one model.

    Args:
        processor: the model's.
        reading: how the model reads texts.
        has_depth: whether the model takes depth maps.
    """

    processor: MultimodalEncoderProcessor
    reading: TextReading
    has_depth: bool = True
    range_check: RangeCheck = field(default_factory=RangeCheck)  # warns once

    @classmethod
    def of(cls, model: MultimodalEncoderModel) -> "ModelInputs":
        """The inputs of a multimodal encoder; ValueError if it has no tokenizer."""
        model.processor.part("tokenizer")  # says how to give one
        return cls(model.processor, model.tower("text").reading, model.config.depth_config is not None)

    def depth_values(self, depth_map: Tensor, factor: float = 1.0) -> Tensor:
        """Process one map to [C, H, W], with its depths multiplied by a factor.

        Raises:
            ValueError: if the map cannot be used.
        """
        processor = self.processor.part("depth_image_processor")
        # The processor multiplies: it knows the raw values that mean "no measurement".
        unit_scale = processor.unit_scale * factor
        prepared = processor.preprocess([depth_map], range_check=self.range_check, unit_scale=unit_scale)
        return prepared["pixel_values"][0]

    def pixels(self, images: list[PIL.Image.Image]) -> Tensor:
        """Process images to [B, 3, H, W], all at once: a call of the processor costs about as much as an image."""
        return self.processor.part("image_processor")(images, return_tensors="pt")["pixel_values"]

    def batch(
        self, captions: list[str], images: list[PIL.Image.Image], depth_values: list[Tensor]
    ) -> dict[str, Tensor]:
        """The inputs of B rows, [B, ...] each; without images or depth maps where there are none."""
        inputs = self.reading.tensors(self.processor.part("tokenizer"), captions)
        if images:
            inputs["pixel_values"] = self.pixels(images)
        if depth_values:
            inputs["depth_values"] = torch.stack(depth_values)
        return inputs


class SampleMaker:
    """Makes samples of rows, the same on every run: their random numbers follow from seed, epoch and position.

    Args:
        options: columns and crops.
        inputs: makes the model's inputs.
        seed: decides on captions and views.
        teacher: makes the teacher's inputs, if there is one.
        features: the columns of the rows: which hold arrays, and the names of classes.
        words: makes further texts for a text teacher, if it is to have some.
    """

    def __init__(
        self,
        options: DataArguments,
        inputs: ModelInputs,
        seed: int,
        teacher: ModelInputs | None = None,
        features: Features | None = None,
        words: WordTexts | None = None,
    ):
        self.words = words
        self.options, self.inputs, self.seed, self.teacher = options, inputs, seed, teacher
        self.types: NumberTypes = number_types(features or {})
        self.captions = Captions(options.text_column, options.text_templates, features)
        self.renaming, self.regions = make_renaming(options, features), make_regions(options, features)

    def __call__(self, row: Row, index: int, epoch: int, draw: int | None = None) -> Sample | BadSample:
        """Make the sample of a row, or say why there is none.

        Args:
            row: the row.
            index: its position.
            epoch: of the run.
            draw: another number than the position to draw by, where an epoch has rows several times.
        """
        rng = np.random.default_rng([self.seed, epoch, index if draw is None else draw])
        try:
            return self._sample(row, index, rng)
        except InputError as error:
            return BadSample(index, error.without_position())
        except (ValueError, TypeError, KeyError, OSError, SyntaxError) as error:  # the errors of decoders
            return BadSample(index, f"{type(error).__name__}: {one_line(error)}")

    def _sample(self, row: Row, index: int, rng: np.random.Generator) -> Sample:
        options = self.options
        caption = self.captions(row, rng)
        if self.renaming is not None:
            caption = self.renaming(caption, row, rng)
        sample: Sample = {"caption": caption, "index": index}
        sample["id"] = row[options.id_column] if options.id_column else index
        image = _read(read_image, self._cell(row, options.image_column)) if options.image_column else None
        depth_map = _read(read_depth, self._cell(row, options.depth_column)) if options.depth_column else None
        mirrors = bool(options.mirror_words)
        region = self.regions.choose(row, rng) if self.regions is not None else None
        if region is None:
            view = View(rng, options.image_scale, mirrors)
        else:
            view, caption = View.around(rng, region.relative_to(image, depth_map), mirrors), region.caption
        sample["caption"] = view.caption(caption, options.mirror_words)
        jitter = Jitter(rng, options.image_brightness, options.depth_scale)
        if image is not None:
            if options.boxes_column and (boxes := _boxes(row, options.boxes_column)):
                sample["masked"] = jitter.image(view.image(paint_boxes(image, boxes)))
            sample["image"] = jitter.image(view.image(image))
        if depth_map is not None:
            depth_map = view.depth(depth_map)
            if self.inputs.has_depth:
                sample["depth"] = self.inputs.depth_values(depth_map, jitter.depth)
            if self.teacher is not None and self.teacher.has_depth:
                sample["teacher_depth"] = self.teacher.depth_values(depth_map, jitter.depth)
        return sample

    def _cell(self, row: Row, column: str) -> object:
        return as_picture(row[column], self.types.get(column))


class Samples(torch.utils.data.Dataset):
    """The samples of a data set on disk, read a batch at a time.

    Args:
        rows: of one data set or several.
        make: makes the samples.
        mixture: which rows an epoch takes; by default each once.
    """

    def __init__(self, rows: Dataset, make: SampleMaker, mixture: Mixture | None = None):
        self.rows, self.make, self.mixture, self.epoch = rows, make, mixture, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the captions and crops of an epoch; Accelerate calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.rows if self.mixture is None else self.mixture)

    def __getitem__(self, place: int) -> Sample | BadSample:
        index = self._index(place)
        return self.make(self.rows[index], index, self.epoch, place)

    def __getitems__(self, places: list[int]) -> list[Sample | BadSample]:
        indices = [self._index(place) for place in places]
        columns = self.rows[indices]
        rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        return [
            self.make(row, index, self.epoch, place) for row, index, place in zip(rows, indices, places, strict=True)
        ]

    def _index(self, place: int) -> int:
        return place if self.mixture is None else self.mixture.row(place, self.epoch)


class StreamedSamples(torch.utils.data.IterableDataset):
    """The samples of a streamed data set, divided over processes; `datasets` divides its shards over workers."""

    def __init__(self, rows: IterableDataset, make: SampleMaker, shuffle_buffer: int, rank: int, world_size: int):
        rows = split_dataset_by_node(rows, rank, world_size)
        self.rows = rows.shuffle(seed=make.seed, buffer_size=shuffle_buffer) if shuffle_buffer else rows
        self.make, self.epoch = make, 0
        self.rank, self.world_size = rank, world_size

    def set_epoch(self, epoch: int) -> None:
        """Choose the order, captions and crops of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Sample | BadSample]:
        self.rows.set_epoch(self.epoch)
        worker = torch.utils.data.get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        for count, row in enumerate(self.rows):
            # A number that no other row of the epoch has.
            yield self.make(row, (count * workers + number) * self.world_size + self.rank, self.epoch)


class Collate:
    """Makes a batch of samples."""

    def __init__(self, make: SampleMaker):
        self.make = make

    def __call__(self, samples: Sequence[Sample | BadSample]) -> Batch:
        """Make the batch."""
        make = self.make
        good = [sample for sample in samples if not isinstance(sample, BadSample)]
        bad = [sample for sample in samples if isinstance(sample, BadSample)]
        captions = [sample["caption"] for sample in good]
        batch: Batch = {
            "inputs": {},
            "teacher_inputs": {},
            "captions": captions,
            "words": [],
            "word_inputs": {},
            "ids": {},
            "masked": None,
            "rows": [],
            "bad": bad,
        }
        if not good:
            return batch
        images = [sample["image"] for sample in good if "image" in sample]
        depth = [sample["depth"] for sample in good if "depth" in sample]
        batch["inputs"] = make.inputs.batch(captions, images, depth)
        if make.teacher is not None:
            teacher_depth = [sample["teacher_depth"] for sample in good if "teacher_depth" in sample]
            batch["teacher_inputs"] = make.teacher.batch(captions, images, teacher_depth)
        batch["ids"]["text"] = stable_ids(captions)
        shown = stable_ids(sample["id"] for sample in good)
        batch["ids"] |= {name: shown for name, column in (("image", images), ("depth", depth)) if column}
        if make.options.boxes_column:
            # An empty tensor where no image has boxes: those of other processes may have some.
            masked = [sample["masked"] for sample in good if "masked" in sample]
            batch["masked"] = make.inputs.pixels(masked) if masked else batch["inputs"]["pixel_values"][:0]
        batch["rows"] = [sample["index"] for sample in good]
        if make.words is not None:
            # As random as the batch, and the same whenever the batch comes again.
            batch["words"] = make.words.draw(len(good), np.random.default_rng([make.seed, *batch["rows"]]))
            batch["word_inputs"] = make.inputs.batch(batch["words"], [], [])
        return batch


def make_loader(
    rows: Rows, options: DataArguments, batch_size: int, make: SampleMaker, rank: int, world_size: int
) -> torch.utils.data.DataLoader:
    """Make batches of the training rows; the rows of a stream are divided over processes already.

    Raises:
        ValueError: if data sets have weights that do not fit, or that a stream cannot follow.
    """
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "collate_fn": Collate(make),
        "num_workers": options.num_workers,
        "worker_init_fn": outlive_a_stop,
        "drop_last": True,
    }
    if isinstance(rows, IterableDataset):
        if options.dataset_weights:
            raise ValueError("--dataset_weights divides rows at hand: leave --streaming out")
        samples = StreamedSamples(rows, make, options.shuffle_buffer, rank, world_size)
        return torch.utils.data.DataLoader(samples, **settings)
    mixture = None
    if options.dataset_weights:
        mixture = Mixture(sizes_of_data(options), options.dataset_weights, make.seed)
    return torch.utils.data.DataLoader(Samples(rows, make, mixture), shuffle=True, **settings)


def raw_maps(options: DataArguments) -> Iterator[Tensor]:
    """Some of the training maps as they are stored, evenly spread; of a stream the first.

    Maps that cannot be read are left out: training names and counts them.
    """
    rows = load_rows(options, options.train_split).select_columns([options.depth_column])
    kind = number_types(rows.features).get(options.depth_column)
    some = rows.take(LOOKED_AT) if isinstance(rows, IterableDataset) else (rows[index] for index in spread(len(rows)))
    for row in some:
        try:
            yield read_depth(as_picture(row[options.depth_column], kind), "map")
        except InputError:
            continue


def _read(read: Callable[[object, str], _Picture], cell: object) -> _Picture:
    """A picture; errors name its file, where it has one, as the row is named elsewhere."""
    path = path_of(cell)
    try:
        return read(cell, path)
    except InputError as error:
        if not path or error.path is not None:
            raise
        raise InputError(path=path, reason=error.reason, hint=error.hint) from error


def _boxes(row: Row, column: str) -> list[Sequence[float]]:
    """The boxes of a row: the column `boxes`, or with `objects.box` those in a list of objects."""
    first, _, inner = column.partition(".")
    return [item[inner] for item in row[first]] if inner else row[first]
