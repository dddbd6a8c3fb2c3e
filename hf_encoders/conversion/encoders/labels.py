"""The names of a classifier's classes, where its file has them."""

from collections.abc import Mapping

from ...checkpoints.finding.modules import as_mapping
from ..plain_data import harmless
from .stated import stated_values

_LISTS = ("classes", "class_names", "CLASSES", "labels", "label_names", "names")
_NUMBERS_BY_NAME = ("class_to_idx", "label2id", "class_to_index", "label_to_id")
_NAMES_BY_NUMBER = ("id2label", "idx_to_class", "names")


def labels_of(metadata: Mapping[str, object], count: int) -> list[str] | None:
    """The names of the classes in their order; None if the file has none for just so many classes.

    Args:
        metadata: what the file holds beside its weights.
        count: the number of classes.
    """
    for value in stated_values(metadata, *_LISTS):
        if isinstance(value, (list, tuple)) and (labels := _all_texts(list(value), count)):
            return labels
    for value in stated_values(metadata, *_NUMBERS_BY_NAME):
        by_number: dict[object, object] = {
            number: name for name, number in as_mapping(value).items() if isinstance(number, int)
        }
        if labels := _in_order(by_number, count):
            return labels
    for value in stated_values(metadata, *_NAMES_BY_NUMBER):
        if labels := _in_order({_number(key): name for key, name in as_mapping(value).items()}, count):
            return labels
    return None


def _in_order(by_number: Mapping[object, object], count: int) -> list[str] | None:
    return _all_texts([by_number.get(number) for number in range(count)], count)


def _all_texts(values: list[object], count: int) -> list[str] | None:
    texts = [harmless(value) for value in values if isinstance(value, str)]
    return texts if len(texts) == count == len(values) == len(set(texts)) else None


def _number(key: object) -> object:
    return int(key) if isinstance(key, str) and key.isdecimal() else key
