"""Distillation against its definition."""

import pytest
import torch
import torch.nn.functional as F

from hf_encoders.losses.distillation import DistillationLoss


def units(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


def test_distillation_is_the_divergence_from_the_teacher():
    student = {name: units(4, 6) for name in ("text", "image", "depth")}
    teacher = {name: units(4, 9) for name in ("text", "image")}
    expected = 0
    for one, other in (("text", "image"), ("image", "text")):
        wanted = (teacher[one] @ teacher[other].T / 0.05).softmax(1)
        found = (student[one] @ student[other].T / 0.1).softmax(1)
        expected += (wanted * (wanted / found).log()).sum(1).mean() / 2
    output = DistillationLoss(0.05)(student, 0.1, teacher)
    torch.testing.assert_close(output.loss, expected)
    assert output.parts.keys() == {"text-image"}
    itself = DistillationLoss(0.1)(student, 0.1, student)
    torch.testing.assert_close(itself.loss, torch.tensor(0.0), atol=1e-6, rtol=0)
    assert list(itself.parts) == ["text-image", "text-depth", "image-depth"]


def test_bad_teachers():
    student = {name: units(4, 6) for name in ("text", "image")}
    with pytest.raises(ValueError, match="teacher_temperature must be positive, got 0"):
        DistillationLoss(0)
    with pytest.raises(ValueError, match="the teacher has 3 rows, the student 4"):
        DistillationLoss(0.1)(student, 0.1, {name: rows[:3] for name, rows in student.items()})
    with pytest.raises(ValueError, match="nothing to compare: the batch has text"):
        DistillationLoss(0.1)(student, 0.1, {"text": student["text"]})
