"""The types of the reports that a repo holds as JSON: of its conversion, and of evaluations."""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypeAlias, TypedDict

# Plain data, as JSON holds it.
Json: TypeAlias = Mapping[str, "Json"] | Sequence["Json"] | str | int | float | bool | None

# The figure that a verification limits.
Measure = Literal["relative_difference", "largest_difference"]


class Figures(TypedDict):
    """The distance of an output from the one that was expected.

    Args:
        largest_difference: the largest between a number and the expected one.
        largest_magnitude: the largest of an expected number.
        relative_difference: the first divided by the second.
        least_cosine: the least between a row and the expected one; only for weights that were rounded.
    """

    largest_difference: float
    largest_magnitude: float
    relative_difference: float
    least_cosine: NotRequired[float]


class VerificationInputs(TypedDict, total=False):
    """The inputs of a verification: the names of the maps and their shape, or name → shape of several inputs."""

    maps: Sequence[str]
    shape: Sequence[int]
    shapes: Mapping[str, Sequence[int]]
    seed: int


class Assumed(TypedDict):
    """A quantity that nothing in the file tells; see `conversion.assumptions.Assumption`."""

    quantity: str
    what: str
    options: Sequence[str]
    of_network: bool


class Verification(TypedDict):
    """A comparison of outputs. Each output that was compared has an entry with its `Figures`.

    Args:
        inputs: the inputs of both networks.
        against: the network that computed the expected outputs.
        tolerance: the largest difference that passes.
        measure: the name of the figure that the tolerance limits.
        rounding: the precision of the written weights as `to`, and the `Figures` of each embedding before and after.
        assumed: what both sides assumed; in a repo's report it stands beside the verification.
    """

    inputs: VerificationInputs
    against: str
    tolerance: float
    measure: Measure
    rounding: NotRequired[Mapping[str, Figures | str]]
    assumed: NotRequired[Sequence[Assumed]]


class TrainingInfo(TypedDict):
    """The plain data of `training_state.json`; see `conversion.training_state.legacy_training_state`.

    Args:
        finished_epochs: of a depth checkpoint, whose `epoch` is the number of the last one, counted from 0.
        history: of a depth checkpoint: the losses of each epoch.
    """

    format_version: int
    epoch: int | None
    global_step: int | None
    best_loss: float | None
    optimizer: Mapping[str, Json]
    parameters_without_state: Sequence[str]
    dropped: Sequence[str]
    finished_epochs: NotRequired[int]
    history: NotRequired[Json]


# How tensors of a file became a model's: keys in the file, names in the model, the step, and a shape that it needs.
MovedTensors = TypedDict(
    "MovedTensors", {"from": Sequence[str], "to": Sequence[str], "by": str, "shape": Sequence[int]}
)


class UnusedHead(TypedDict):
    """A linear layer of the file that reads the encoder's embedding, and has a name of no family.

    Args:
        name: of the layer in the file.
        classes: how many outputs it has.
        kept_as: the name under which a file holds a classifier, which a conversion keeps.
    """

    name: str
    classes: int
    kept_as: str


class AdoptedInput(TypedDict):
    """An input of an adopted network.

    Args:
        takes: what the network's `forward` calls it.
        shape: that was proven, with the batch first.
        dtype: of its values, such as "float32".
        below: integers lie below this; None: as the network's first table tells.
        is_inverted: whether it is a mask that is true where nothing is to be read.
    """

    takes: str
    shape: Sequence[int]
    dtype: str
    below: int | None
    is_inverted: bool


# Where an adopted network came from: its class and file; the arguments of its constructor; its inputs by the names of
# transformers; the expression over its output that gives the embedding; name → the first name of the same tensor; the
# libraries that its code imports; file of code → its digest; the file with the input that a person gave.
AdoptedReport = TypedDict(
    "AdoptedReport",
    {
        "class": str,
        "file": str,
        "arguments": Mapping[str, Json],
        "inputs": Mapping[str, AdoptedInput],
        "embedding": str,
        "tied": Mapping[str, str],
        "libraries": Sequence[str],
        "code_sha256": Mapping[str, str],
        "example": NotRequired[str],
    },
)


class PartsReport(TypedDict):
    """The parts of a converted model; which entries there are depends on the family.

    Args:
        parameters: part → the number of its parameters; `total` for all of them.
        decoder: whether a depth repo holds the decoder.
        parts: part of a multimodal encoder → the name of its source; None if it came from the checkpoint alone.
        attention_heads: configuration → its number of heads.
        assumed: what nothing in the file tells.
        dropped: keys of the file that nothing uses.
        unused_head: what among those looks like a classifier on the encoder.
        untrained: parts whose weights are random, or were made because the file holds none.
        training_state: what `training_state.json` holds; None without one.
        moved: how each tensor of another family's file became one of the model.
        container: the keys of the dictionary in the file that held those tensors.
        options: of the network of another family, what a person said, the file stated or was assumed.
        labels: the number of the classes' names that the file had.
        adopted: where a network of somebody's own came from.
    """

    parameters: Mapping[str, int]
    decoder: NotRequired[bool]
    parts: NotRequired[Mapping[str, str | None]]
    attention_heads: NotRequired[Mapping[str, int]]
    assumed: NotRequired[Sequence[Assumed]]
    dropped: NotRequired[Sequence[str]]
    unused_head: NotRequired[UnusedHead]
    untrained: NotRequired[Sequence[str]]
    training_state: NotRequired[TrainingInfo | None]
    moved: NotRequired[Sequence[MovedTensors]]
    container: NotRequired[Sequence[str]]
    options: NotRequired[Mapping[str, Json]]
    labels: NotRequired[int]
    adopted: NotRequired[AdoptedReport]


class OtherWeights(TypedDict):
    """Weights of the file that were not taken.

    Args:
        path: the dotted path to them, as `--weights` takes it.
        family: the name of their family; empty if it is of none that is known.
        tensors: the number of tensors.
    """

    path: str
    family: str
    tensors: int


class TakenWeights(TypedDict):
    """The weights of the file that were taken.

    Args:
        path: the dotted path to them, as `--weights` takes it; "." is the top of the file.
        prefix: what their names begin with in the file, and not in the network.
        ignored: the patterns by which keys were left out.
        others: the other sets of weights in the file.
        notes: what was made or renamed, and which tensors are one.
    """

    path: str
    prefix: str
    ignored: Sequence[str]
    others: Sequence[OtherWeights]
    notes: Sequence[str]


class SourceReport(TypedDict):
    """The file that was converted.

    Args:
        name: its name, without its place.
        size: in bytes.
        layout: the name of its network's layout.
        wrapping: the kind of file, such as "training checkpoint".
        container: how the file is stored, such as "PyTorch zip".
        classes: the classes that it names, none of which was imported.
        weights: what was taken.
        metadata: the other entries in it, such as the epoch.
        sha256: the digest of the file; of a folder, that of the list of its files with theirs.
    """

    name: str
    size: int
    layout: str
    wrapping: str
    container: NotRequired[str]
    classes: NotRequired[Sequence[str]]
    weights: NotRequired[TakenWeights]
    metadata: Mapping[str, Json]
    sha256: str


class ConversionReport(PartsReport):
    """conversion_report.json.

    Args:
        source: the file that was converted.
        architecture: the class of the model.
        keys: key in the file → name in the repo; None for a key that is not carried over.
        dtype: precision of the weights.
        verification: what was compared; None if nothing was.
        weights_sha256: file of weights → its digest.
        versions: Python and libraries → their versions.
    """

    source: SourceReport
    architecture: str
    keys: Mapping[str, str | None]
    dtype: str
    verification: Verification | None
    weights_sha256: Mapping[str, str]
    versions: Mapping[str, str]


class MeasuredData(TypedDict):
    """The rows that were measured or learned from.

    Args:
        dataset: a Hub id, or a path.
        split: the split of the data set.
        rows: the number of rows.
        dataset_sha256: the digest of local files.
        dataset_revision: the commit on the Hub.
    """

    dataset: str
    split: str
    rows: int
    dataset_sha256: NotRequired[str]
    dataset_revision: NotRequired[str]


class EvaluationReport(MeasuredData):
    """The report that `hf-encoders evaluate --output` writes, as far as a card shows it.

    Args:
        fingerprint: the fingerprint of the weights that were measured.
        metrics: name → value.
        options: the options of the tasks.
        train: the rows that probes learned from.
    """

    fingerprint: str
    metrics: Mapping[str, float]
    options: NotRequired[Mapping[str, Json]]
    train: NotRequired[MeasuredData]
