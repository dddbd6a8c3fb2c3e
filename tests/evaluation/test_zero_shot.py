"""Zero-shot accuracy: in every chunk size, with ties, and its errors."""

import re

import numpy as np
import pytest
import torch

from hf_encoders.evaluation.zero_shot import zero_shot_answers, zero_shot_metrics


@pytest.mark.parametrize("chunk_size", [1, 2, 100])
def test_zero_shot_accuracy(chunk_size):
    classes = torch.eye(6)
    images = torch.tensor([[3.0, 2, 1, 0, 0, 0], [3, 2, 1, 0, 0, 0], [6, 5, 4, 3, 2, 1]])
    metrics = zero_shot_metrics(images, classes, torch.tensor([0, 1, 5]), ks=(1, 2, 5, 6), chunk_size=chunk_size)
    assert list(metrics) == [f"zero_shot_top{k}_accuracy" for k in (1, 2, 5, 6)]
    assert list(metrics.values()) == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])


def test_top_5_of_few_classes_is_always_right():
    metrics = zero_shot_metrics(np.eye(3), np.eye(3), [1, 2, 0])
    assert metrics == {"zero_shot_top1_accuracy": 0, "zero_shot_top5_accuracy": 1}


@pytest.mark.parametrize("chunk_size", [1, 100])
def test_the_share_of_right_answers_is_the_accuracy(chunk_size):
    generator = torch.Generator().manual_seed(0)
    images, classes = (torch.randn(count, 4, generator=generator) for count in (200, 6))
    right = torch.randint(6, (200,), generator=generator)
    answers = zero_shot_answers(images, classes, right, chunk_size=chunk_size)
    cosines = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(classes).T
    assert answers.tolist() == cosines.argmax(1).tolist()
    accuracy = zero_shot_metrics(images, classes, right, ks=(1,))["zero_shot_top1_accuracy"]
    assert (answers == right.numpy()).mean() == pytest.approx(accuracy)


def test_a_right_class_that_is_no_more_similar_than_another_is_no_answer():
    classes = torch.tensor([[1.0, 0], [1, 1e-9], [0, 1]])
    assert zero_shot_answers([[1.0, 0], [1.0, 0], [0, 1.0]], classes, [0, 1, 2]).tolist() == [1, 0, 2]


def test_a_collapsed_model_names_nothing():
    same = torch.ones(40, 8) + 3e-7 * torch.randn(40, 8)
    assert zero_shot_metrics(same, same[:9], [0] * 40) == {"zero_shot_top1_accuracy": 0, "zero_shot_top5_accuracy": 0}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "labels: 2 for 3 embeddings, expected one each"),
        ([0, 3, 1], "labels[1]: 3 is not one of the classes 0 to 2"),
        ([0, 1, "chair"], "labels[2]: 'chair' is not one of the classes 0 to 2"),
    ],
)
def test_zero_shot_names_what_is_wrong(labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        zero_shot_metrics(np.eye(3), np.eye(3), labels)
