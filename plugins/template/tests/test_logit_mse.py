"""A value worked by hand, whom the gradient reaches, the contract, and a setting that is refused."""

import pytest
import torch
from logit_mse import LogitMSE, LogitMSEConfig, half_squared_distance

from compressor.testing import check_distiller


def test_distance_equals_a_value_worked_by_hand() -> None:
    # Differences (1, -2) and (0, 2): (1 + 4 + 0 + 4) / 2 rows / 2.
    student = torch.tensor([[1.0, 0.0], [0.0, 5.0]])
    teacher = torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    assert half_squared_distance(student, teacher).item() == 2.25


def test_gradient_is_the_difference_and_reaches_the_student_alone() -> None:
    student = torch.tensor([[1.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, 2.0]], requires_grad=True)
    half_squared_distance(student, teacher).backward()
    assert student.grad is not None
    assert student.grad.tolist() == [[1.0, -2.0]]
    assert teacher.grad is None


def test_the_method_keeps_the_contract_with_and_without_labels() -> None:
    assert check_distiller(LogitMSE) == []
    assert check_distiller(LogitMSE, config=LogitMSEConfig(ce_weight=0.5)) == []


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="logit_mse weights must be >= 0, got mse -1, ce 0"):
        LogitMSEConfig(mse_weight=-1)
