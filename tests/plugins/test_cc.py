"""Correlation congruence: its three forms by hand and by loops, how they belong together, and who learns."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor

from compressor.distiller import ModelOutput
from compressor.errors import UnsupportedPair
from compressor_plugins.cc import CC, CCConfig, kernel_loss, neighbours_loss, pairs_loss, taylor_kernel


def cc(student: int = 4, teacher: int = 6, **chosen: Any) -> CC:
    chosen = {"feature_dim": 3} | chosen
    return CC(CCConfig(**chosen), pair(network("small", width=student), network("large", width=teacher))).double()


def answer(width: int, seed: int) -> ModelOutput:
    return ModelOutput(logits=leaf(5, 3, seed=seed), embedding=leaf(5, width, seed=seed + 1))


def terms(method: CC, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_products_of_differences_are_worked_by_hand() -> None:
    # Absolute differences of three images: (1, 2), (0, 3), (4, 1). Neighbours: 0 + 6 and 0 + 3; the third pair 4 + 2.
    student = torch.tensor([[1.0, -2.0], [0.0, 3.0], [-4.0, 1.0]])
    assert neighbours_loss(student, torch.zeros(3, 2)).item() == (6 + 3) / 2
    assert pairs_loss(student, torch.zeros(3, 2)).item() == (6 + 3 + 6) / 3


def test_pairs_are_the_mean_of_neighbours_over_all_orders_of_the_batch() -> None:
    student, teacher = draw(4, 3), draw(4, 3, seed=1)
    orders = list(itertools.permutations(range(4)))
    each = [neighbours_loss(student[list(order)], teacher[list(order)]) for order in orders]
    assert torch.isclose(pairs_loss(student, teacher), torch.stack(each).mean())
    assert max(each) - min(each) > 0.1  # which is what the order does to the other form


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), images=st.integers(2, 8))
def test_pairs_are_not_negative_and_do_not_hang_on_the_order(seed: int, images: int) -> None:
    student, teacher = draw(images, 3, seed=seed), draw(images, 3, seed=seed + 1)
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    loss = pairs_loss(student, teacher)
    assert loss >= 0
    assert torch.isclose(pairs_loss(student[order], teacher[order]), loss)


def test_kernel_equals_a_slow_sum() -> None:
    vectors = draw(3, 4)
    found = taylor_kernel(vectors, gamma=0.7, order=3)
    for i, j in itertools.product(range(3), repeat=2):
        one, other = vectors[i].tolist(), vectors[j].tolist()
        cosine = sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
        by_hand = math.exp(-1.4) * sum((1.4 * cosine) ** p / math.factorial(p) for p in range(4))
        assert found[i, j].item() == pytest.approx(by_hand)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), gamma=st.floats(0.01, 1.5))
def test_kernel_of_a_high_order_is_the_gaussian(seed: int, gamma: float) -> None:
    vectors = draw(4, 3, seed=seed)
    units = torch.nn.functional.normalize(vectors)
    gaussian = torch.exp(-gamma * torch.cdist(units, units).square())
    assert torch.allclose(taylor_kernel(vectors, gamma, order=25), gaussian, atol=1e-7)


def test_kernel_loss_is_the_mean_squared_difference_and_zero_where_the_cosines_agree() -> None:
    student, teacher = draw(4, 3), draw(4, 5, seed=1)
    difference = taylor_kernel(student, 0.4, 2) - taylor_kernel(teacher, 0.4, 2)
    assert kernel_loss(student, teacher, 0.4, 2).item() == pytest.approx((difference**2).sum().item() / 16)
    assert kernel_loss(student, student, 0.4, 2).item() == 0
    assert kernel_loss(3 * student, student, 0.4, 2).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("form", [neighbours_loss, pairs_loss])
def test_gradients_of_the_products_are_the_derivatives(form: Any) -> None:
    assert torch.autograd.gradcheck(form, (leaf(4, 3), leaf(4, 3, seed=1)))


def test_gradient_of_the_kernel_is_the_derivative_and_finite_at_zero() -> None:
    teacher = draw(4, 5, seed=1)
    assert torch.autograd.gradcheck(lambda student: kernel_loss(student, teacher, 0.4, 2), leaf(4, 3))
    student = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(kernel_loss(student, teacher, 0.4, 2))
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("form", [neighbours_loss, pairs_loss])
def test_a_single_image_has_no_relations(form: Any) -> None:
    student = leaf(1, 3)
    loss = form(student, draw(1, 3, seed=1))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize(("form", "function"), [("pairs", pairs_loss), ("neighbours", neighbours_loss)])
def test_term_is_the_weighted_loss_behind_the_two_layers(form: str, function: Any) -> None:
    method, student, teacher = cc(form=form), answer(4, 0), answer(6, 50)
    expected = function(method.embed_student(student.embedding), method.embed_teacher(teacher.embedding))
    assert torch.equal(terms(method, student, teacher)["cc"], 0.02 * expected)


def test_kernel_needs_no_layers() -> None:
    method, student, teacher = cc(form="kernel", cc_weight=1.0), answer(4, 0), answer(6, 50)
    assert list(method.parameters()) == []
    assert method.phases()[0].trains == ("student",)
    assert torch.equal(terms(method, student, teacher)["cc"], kernel_loss(student.embedding, teacher.embedding, 0.4, 2))


@pytest.mark.parametrize("form", ["pairs", "neighbours", "kernel"])
def test_gradient_reaches_the_student_and_both_layers_and_not_the_teacher(form: str) -> None:
    method, student, teacher = cc(form=form, kd_weight=0.5), answer(4, 0), answer(6, 50)
    found = terms(method, student, teacher)
    assert set(found) == {"ce", "cc", "kd"}
    torch.autograd.backward(torch.stack(list(found.values())).sum())
    assert student.embedding.grad is not None
    assert student.embedding.grad.any()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in method.parameters())
    assert teacher.logits.grad is None
    assert teacher.embedding.grad is None


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = 300 * draw(4, 8).half(), draw(4, 8, seed=1).half()
    for loss in (
        pairs_loss(student, teacher),
        neighbours_loss(student, teacher),
        kernel_loss(student, teacher, 0.4, 2),
    ):
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)


def test_plan_counts_the_layers() -> None:
    (link,) = cc().plan()
    assert (link.student, link.teacher, link.adapter) == ("embedding 4", "embedding 6", "a linear layer each, to 3")
    assert link.parameters == (4 + 1) * 3 + (6 + 1) * 3
    (bare,) = cc(form="kernel").plan()
    assert (bare.adapter, bare.parameters) == ("none, a kernel between the images", 0)


def test_a_run_without_a_teacher_is_refused() -> None:
    with pytest.raises(UnsupportedPair, match="cc needs a teacher"):
        CC.check(CCConfig(), pair(network(width=4), None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"cc_weight": -1.0}, "cc.cc_weight must be >= 0, got -1.0"),
        ({"feature_dim": 0}, "cc.feature_dim must be >= 1, got 0"),
        ({"kernel_gamma": 0.0}, "cc.kernel_gamma must be > 0, got 0.0"),
        ({"kernel_order": 0}, "cc.kernel_order must be >= 1, got 0"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CCConfig(**chosen)
