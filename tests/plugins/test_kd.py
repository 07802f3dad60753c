"""Logit distillation: both terms by hand, and whom the gradient reaches."""

import math
from typing import Any

import pytest
import torch
from made_up import batch, draw, leaf, network, pair
from torch.nn import functional as F

from compressor.distiller import ModelOutput
from compressor_plugins.kd import KD, KDConfig


def kd(classes: int = 2, **settings: Any) -> KD:
    return KD(KDConfig(**settings), pair(network(classes=classes), network(classes=classes)))


def test_terms_equal_values_worked_by_hand() -> None:
    # At T = 4 the teacher's (4 ln 3, 0) says (3/4, 1/4); the student is undecided.
    student, teacher = torch.zeros(1, 2), torch.tensor([[4 * math.log(3), 0.0]])
    terms = kd().terms(batch(torch.tensor([0])), ModelOutput(logits=student), ModelOutput(logits=teacher))
    assert terms["ce"].item() == pytest.approx(0.1 * math.log(2))
    assert terms["kd"].item() == pytest.approx(0.9 * 16 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    logits = draw(4, 5)
    answer = ModelOutput(logits=logits)
    terms = kd(5).terms(batch(torch.arange(4)), answer, answer)
    assert terms["kd"].item() == 0
    assert torch.equal(terms["ce"], 0.1 * F.cross_entropy(logits, torch.arange(4)))


def test_gradient_reaches_the_student_alone() -> None:
    student, teacher = leaf(4, 5), leaf(4, 5, seed=1)
    terms = kd(5).terms(batch(torch.arange(4)), ModelOutput(logits=student), ModelOutput(logits=teacher))
    (terms["ce"] + terms["kd"]).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kd_temperature": 0.0}, "kd.kd_temperature must be > 0, got 0.0"),
        ({"kd_temperature": math.nan}, "kd.kd_temperature must be > 0, got nan"),
        ({"ce_weight": -1.0}, "kd.ce_weight must be >= 0, got -1.0"),
        ({"kd_weight": -0.5}, "kd.kd_weight must be >= 0, got -0.5"),
    ],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KDConfig(**settings)
