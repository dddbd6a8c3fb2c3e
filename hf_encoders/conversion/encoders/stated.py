"""What a file says about its own network beside the weights: the arguments of its training, by the names in use."""

from collections.abc import Iterator, Mapping

from ...checkpoints.checkpoint import Stub
from ...checkpoints.finding.modules import as_mapping, without_nodes

# Keys under which trainers keep their arguments.
_ARGUMENTS = (
    "args", "config", "cfg", "hparams", "hyper_parameters", "opt", "model_config", "model_args", "pretrained_cfg",
    "default_cfg", "preprocess_cfg", "dataset_meta", "meta",
    # a pickled network, of which its settings are left
    "model", "module", "net", "network", "encoder", "state_dict", "model_state_dict", "ema", "model_ema",
)  # fmt: skip
_DEEPEST = 3


def stated_values(metadata: Mapping[str, object], *names: str) -> Iterator[object]:
    """The values that a file gives under some names, at its top and in its arguments, the first name first.

    Args:
        metadata: what the file holds beside its weights.
        names: of the value, in the spelling of several code bases. None and empty values are passed over.
    """
    places = list(_places(metadata, _DEEPEST))
    for name in names:
        for place in places:
            value = without_nodes(place.get(name))
            if value is not None and value != "" and value != () and value != []:
                yield value


def stated_of_width(metadata: Mapping[str, object], width: int, name: str) -> Iterator[object]:
    """The values under a name, but for those in the configuration of a network of another width."""
    for place in _places(metadata, _DEEPEST):
        value = without_nodes(place.get(name))
        if value is not None and without_nodes(place.get("hidden_size")) in (None, width):
            yield value


def own_config(metadata: Mapping[str, object], width: int) -> Mapping[str, object]:
    """The configuration of transformers that a file holds, if it is of this width and there is no other; else empty.

    Of several, each may be another network's.
    """
    configs = [
        place
        for place in _places(metadata, _DEEPEST)
        if _width(place) is not None and ("model_type" in place or "architectures" in place)
    ]
    return configs[0] if len(configs) == 1 and _width(configs[0]) == width else {}


def _width(config: Mapping[str, object]) -> object:
    """The width of a network; that of its last stage, if there are several."""
    sizes = without_nodes(config.get("hidden_sizes"))
    return without_nodes(config.get("hidden_size")) or (
        sizes[-1] if isinstance(sizes, (list, tuple)) and sizes else None
    )


def stated_numbers(metadata: Mapping[str, object], *names: str) -> Iterator[tuple[float, ...]]:
    """The values that are a number or a sequence of numbers."""
    for value in stated_values(metadata, *names):
        numbers = _numbers(value)
        if numbers:
            yield numbers


def _numbers(value: object) -> tuple[float, ...]:
    if isinstance(value, bool):
        return ()
    if isinstance(value, (int, float)):
        return (float(value),)
    if isinstance(value, Stub):
        value = list(value.items)
    if isinstance(value, (list, tuple)) and all(
        isinstance(item, (int, float)) and not isinstance(item, bool) for item in map(without_nodes, value)
    ):
        return tuple(float(str(without_nodes(item))) for item in value)
    return ()


def _places(metadata: Mapping[str, object], depth: int) -> Iterator[Mapping[str, object]]:
    yield metadata
    for name in _ARGUMENTS if depth else ():
        inner = as_mapping(metadata.get(name))
        if inner:
            yield from _places({str(key): value for key, value in inner.items()}, depth - 1)
