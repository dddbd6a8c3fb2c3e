"""Confusion matrices: their counts, those of groups, and an order that can be read."""

import numpy as np
import pytest

from hf_encoders.evaluation import probes
from hf_encoders.evaluation.confusion import Confusion, confusion, confusion_of_groups, groups_of, readable_order
from hf_encoders.evaluation.tasks import Answers

CLASSES = ["chair", "lamp", "sofa", "stool"]
RIGHT = ["chair", "chair", "stool", "lamp", "chair", "sofa"]
GIVEN = ["stool", "chair", "chair", "lamp", "stool", "lamp"]


def test_rows_are_right_classes_and_columns_are_answers():
    found = confusion(RIGHT, GIVEN, CLASSES)
    assert found.classes == CLASSES
    assert found.counts.tolist() == [[1, 0, 0, 2], [0, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert (found.right, found.total) == (2, 6)
    assert found.most_confused(2) == [("chair", "stool", 2), ("sofa", "lamp", 1)]
    assert len(found.most_confused(99)) == 3


def test_a_class_within_its_group_is_right():
    groups = {"chair": "seats", "stool": "seats", "sofa": "seats", "lamp": "lights"}
    answers = Answers("knn", "noun", "image", RIGHT, GIVEN, CLASSES)
    found = confusion_of_groups(answers, groups)
    assert found.classes == ["lights", "seats"] and found.counts.tolist() == [[1, 0], [1, 4]]


def test_a_class_without_rows_is_a_group_of_its_own():
    answers = Answers("zero-shot", "noun", "image", ["chair", "lamp"], ["chair", "desk"], ["chair", "desk", "lamp"])
    found = confusion_of_groups(answers, {"chair": 7, "lamp": 7})
    assert found.classes == [7, "desk"] and found.counts.tolist() == [[1, 1], [0, 0]]
    order = readable_order(confusion(answers.right, answers.given, answers.classes), {"chair": 7, "lamp": 7})
    assert sorted(order) == [0, 1, 2]


def test_the_group_of_a_class_is_that_of_most_of_its_rows():
    nouns = ["table", "table", "table", "lamp", "lamp"]
    assert groups_of(nouns, ["office", "kitchen", "office", "light", "den"]) == {"table": "office", "lamp": "den"}


def test_what_is_confused_stands_side_by_side():
    counts = np.diag([9, 9, 9, 9, 9, 9])
    counts[0, 4] = counts[4, 0] = counts[1, 3] = counts[3, 1] = 6
    order = readable_order(Confusion(list("abcdef"), counts))
    assert sorted(order) == list(range(6))
    assert abs(order.index(0) - order.index(4)) == 1 and abs(order.index(1) - order.index(3)) == 1


def test_groups_stay_together():
    counts = np.diag([9, 9, 9, 9])
    counts[0, 3] = counts[3, 0] = 8
    order = readable_order(Confusion(list("abcd"), counts), dict(zip("abcd", "yxyx", strict=True)))
    assert sorted(order[:2]) == [1, 3] and sorted(order[2:]) == [0, 2]


def test_numbers_keep_their_order_and_unused_classes_are_left_out():
    counts = np.zeros((4, 4), int)
    counts[0, 3] = counts[3, 0] = counts[2, 2] = 5
    assert readable_order(Confusion([1, 2, 3, 4], counts)) == [0, 2, 3]


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(probes, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"a confusion matrix needs scikit-learn: pip install 'hf-encoders\[eval"):
        confusion(RIGHT, GIVEN, CLASSES)
