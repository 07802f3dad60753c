"""DIST: correlations by a loop, what they do not care about, and the two directions in which they are taken."""

import math
import statistics
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor

from compressor.distiller import ModelOutput
from compressor_plugins.dist import DIST, DISTConfig, relation_loss


def dist(classes: int = 4, **chosen: Any) -> DIST:
    return DIST(DISTConfig(**chosen), pair(network(classes=classes), network(classes=classes)))


def terms(method: DIST, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    seen = batch(torch.arange(len(student)) % student.shape[1])
    return method.terms(seen, ModelOutput(logits=student), ModelOutput(logits=teacher))


def test_loss_equals_a_value_worked_by_hand() -> None:
    # Less their means: (-1, 0, 1) and (-1, 1, 0), product 1, lengths the root of 2 each: correlation 1/2.
    student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 2.0, 1.0]])
    assert relation_loss(student, teacher).item() == pytest.approx(1 / 2)


@pytest.mark.parametrize(("name", "by_class"), [("inter", False), ("intra", True)])
def test_terms_are_the_correlations_of_rows_and_of_columns(name: str, by_class: bool) -> None:
    student, teacher, temperature = draw(5, 4), draw(5, 4, seed=1), 2.0
    ours, theirs = ((one / temperature).softmax(1) for one in (student, teacher))
    if by_class:
        ours, theirs = ours.T, theirs.T
    rows = zip(ours.tolist(), theirs.tolist(), strict=True)
    lost = statistics.mean(1 - statistics.correlation(one, other) for one, other in rows)
    method = dist(**{f"{name}_weight": 3.0}, temperature=temperature)
    assert terms(method, student, teacher)[name].item() == pytest.approx(3 * temperature**2 * lost, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(0.1, 100), shift=st.floats(-10, 10))
def test_loss_lies_in_its_range_and_does_not_see_a_straight_line(seed: int, scale: float, shift: float) -> None:
    student, teacher = draw(3, 6, seed=seed), draw(3, 6, seed=seed + 1)
    assert 0 <= relation_loss(student, teacher).item() <= 2
    assert relation_loss(scale * teacher + shift, teacher).item() == pytest.approx(0, abs=1e-6)
    assert relation_loss(-scale * teacher + shift, teacher).item() == pytest.approx(2, abs=1e-6)


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    logits = draw(6, 5)
    found = terms(dist(5), logits, logits)
    assert found["inter"].item() == pytest.approx(0, abs=1e-4)  # the 1e-8 in the denominator, times 32
    assert found["intra"].item() == pytest.approx(0, abs=1e-4)


def test_a_row_without_variation_counts_as_uncorrelated_and_has_a_gradient() -> None:
    flat, other = torch.full((1, 4), 0.25, requires_grad=True), torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    loss = relation_loss(flat, other)
    loss.backward()
    assert loss.item() == 1
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("shape", [(1, 4), (5, 2)])
def test_one_image_and_two_classes_leave_everything_finite(shape: tuple[int, int]) -> None:
    student, teacher = leaf(*shape), draw(*shape, seed=1)
    found = terms(dist(shape[1]), student, teacher)
    torch.stack(list(found.values())).sum().backward()
    assert all(torch.isfinite(term) for term in found.values())
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_a_wrong_teacher_is_corrected_at_the_temperature_of_the_relations() -> None:
    # `ls` puts 0.7 on the right class; what stands in the logits depends on the temperature at which they are read.
    student, wrong = draw(2, 3), torch.tensor([[1.0, 4.0, 2.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
    shares = torch.tensor([[0.7, 0.15, 0.15], [0.0, 3.0, 1.0]], dtype=torch.float64)
    shares[1] = (shares[1] / 1.5).softmax(0)
    ours = (student / 1.5).softmax(1)
    found = terms(dist(3, kd_target="ls", kd_target_epsilon=0.3, temperature=1.5), student, wrong)
    assert found["inter"].item() == pytest.approx(2 * 1.5**2 * relation_loss(ours, shares).item())
    assert found["intra"].item() == pytest.approx(2 * 1.5**2 * relation_loss(ours.T, shares.T).item())


def test_a_temperature_policy_moves_the_logit_term_alone() -> None:
    student, teacher = draw(4, 5), draw(4, 5, seed=1)
    plain, moved = (
        terms(dist(5, kd_weight=1.0, kd_temperature_policy=policy), student, teacher) for policy in ("constant", "flsw")
    )
    assert moved["kd"].item() != pytest.approx(plain["kd"].item())
    assert all(torch.equal(moved[name], plain[name]) for name in ("ce", "inter", "intra"))


def test_the_logit_term_has_a_temperature_of_its_own() -> None:
    student, teacher = draw(4, 4), draw(4, 4, seed=1)
    assert set(terms(dist(), student, teacher)) == {"ce", "inter", "intra"}
    one, other = (terms(dist(kd_weight=1.0, kd_temperature=value), student, teacher) for value in (1.0, 4.0))
    assert one["kd"].item() != pytest.approx(other["kd"].item())
    assert torch.equal(one["inter"], other["inter"])


def test_gradient_is_the_derivative_and_reaches_the_student_alone() -> None:
    student, teacher = leaf(3, 4), leaf(3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda rows: relation_loss(rows, teacher.detach()), student)
    torch.stack(list(terms(dist(kd_weight=1.0), student, teacher).values())).sum().backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"inter_weight": -1.0}, r"dist.inter_weight must be >= 0, got -1.0"),
        ({"intra_weight": math.inf}, r"dist.intra_weight must be >= 0, got inf"),
        ({"temperature": 0.0}, r"dist.temperature must be > 0, got 0.0"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DISTConfig(**chosen)
