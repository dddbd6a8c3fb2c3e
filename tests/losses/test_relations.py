"""Relations within a modality against their definition."""

import pytest
import torch
import torch.nn.functional as F

from hf_encoders.losses.relations import RelationLoss


def units(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


def test_it_is_the_divergence_over_the_other_rows():
    student, teacher = units(5, 6), units(5, 9)
    expected = 0
    for row in range(5):
        others = [other for other in range(5) if other != row]
        wanted = (teacher[row] @ teacher[others].T / 0.1).softmax(0)
        found = (student[row] @ student[others].T / 0.1).softmax(0)
        expected += (wanted * (wanted / found).log()).sum() / 5
    torch.testing.assert_close(RelationLoss()(student, 0.1, teacher), expected)


def test_equal_relations_cost_nothing_whatever_the_dimension():
    student = units(5, 6)
    turned = F.pad(student @ torch.linalg.qr(torch.randn(6, 6))[0], (0, 3))
    assert RelationLoss()(student, 0.1, turned).item() == pytest.approx(0, abs=1e-5)


def test_the_student_learns_and_the_teacher_does_not():
    student, teacher = units(4, 6).requires_grad_(), units(4, 6).requires_grad_()
    RelationLoss()(student, 0.1, teacher).backward()
    assert student.grad.abs().sum() > 0 and student.grad.isfinite().all() and teacher.grad is None


def test_a_single_row_has_no_relations():
    row = units(1, 6).requires_grad_()
    loss = RelationLoss()(row, 0.1, units(1, 6))
    loss.backward()
    assert loss.item() == 0 and row.grad.isfinite().all()


def test_other_rows_than_the_teachers_are_refused():
    with pytest.raises(ValueError, match="the teacher has 3 rows, the student 4"):
        RelationLoss()(units(4, 6), 0.1, units(3, 6))
