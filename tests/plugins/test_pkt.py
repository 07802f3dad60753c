"""Probabilistic knowledge transfer: neighbourhoods by hand and by a loop, degenerate vectors, gradient, refusals."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor

from compressor.distiller import Link, ModelOutput
from compressor.errors import UnsupportedPair
from compressor_plugins.pkt import PKT, PKTConfig, neighbourhood_loss, neighbourhoods

EPSILON = 1e-7


def pkt(student: int = 4, teacher: int = 6, **chosen: Any) -> PKT:
    return PKT(PKTConfig(**chosen), pair(network("small", width=student), network("large", width=teacher)))


def answer(width: int, seed: int) -> ModelOutput:
    return ModelOutput(logits=leaf(5, 3, seed=seed), embedding=leaf(5, width, seed=seed + 1))


def terms(method: PKT, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_neighbourhoods_are_worked_by_hand() -> None:
    # Cosines 1, 0 and -1 become 1, 1/2 and 0; each row is divided by its sum.
    found = neighbourhoods(torch.tensor([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]]))
    assert found[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-6)
    assert found[1].tolist() == pytest.approx([1 / 4, 1 / 2, 1 / 4], abs=1e-6)


def test_loss_equals_a_slow_loop() -> None:
    student, teacher = draw(4, 3), draw(4, 5, seed=1)

    def rows(vectors: list[list[float]]) -> list[list[float]]:
        units = [[value / (math.hypot(*vector) + EPSILON) for value in vector] for vector in vectors]
        close = [[(sum(a * b for a, b in zip(one, other, strict=True)) + 1) / 2 for other in units] for one in units]
        return [[value / sum(row) for value in row] for row in close]

    ours, theirs = rows(student.tolist()), rows(teacher.tolist())
    total = sum(
        theirs[i][j] * math.log((theirs[i][j] + EPSILON) / (ours[i][j] + EPSILON)) for i in range(4) for j in range(4)
    )
    assert neighbourhood_loss(student, teacher).item() == pytest.approx(total / 16)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(1e-2, 1e3), images=st.integers(1, 7))
def test_neighbourhoods_are_distributions_that_know_no_scale_and_no_rotation(
    seed: int, scale: float, images: int
) -> None:
    vectors = draw(images, 5, seed=seed)
    turn, _ = torch.linalg.qr(draw(5, 5, seed=seed + 1))
    found = neighbourhoods(vectors)
    assert (found >= 0).all()
    assert torch.allclose(found.sum(1), torch.ones(images, dtype=torch.float64))
    assert torch.allclose(neighbourhoods(scale * vectors @ turn), found, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_loss_is_a_divergence_that_does_not_hang_on_the_order(seed: int) -> None:
    student, teacher = draw(5, 4, seed=seed), draw(5, 8, seed=seed + 1)
    loss = neighbourhood_loss(student, teacher)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    assert loss.item() > -EPSILON
    assert torch.isclose(neighbourhood_loss(student[order], teacher[order]), loss)


def test_gradient_is_the_derivative() -> None:
    teacher = draw(4, 5, seed=1)
    assert torch.autograd.gradcheck(lambda student: neighbourhood_loss(student, teacher), leaf(4, 3))


def test_an_embedding_of_zeros_has_a_finite_gradient() -> None:
    # Where the benchmark's code takes the root of a sum of squares its gradient is 0 / 0 here: NaN in every weight.
    student = draw(4, 3).mul(torch.tensor([[0.0], [1.0], [1.0], [1.0]])).requires_grad_()
    loss = neighbourhood_loss(student, draw(4, 5, seed=1))
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_a_single_image_has_no_neighbours_to_get_wrong() -> None:
    assert neighbourhood_loss(draw(1, 3), draw(1, 5, seed=1)).item() == 0


def test_term_is_the_weighted_loss_of_the_embeddings() -> None:
    student, teacher = answer(4, 0), answer(6, 50)
    expected = neighbourhood_loss(student.embedding, teacher.embedding)
    assert torch.equal(terms(pkt(), student, teacher)["pkt"], 30000 * expected)
    assert torch.equal(terms(pkt(pkt_weight=2.0), student, teacher)["pkt"], 2 * expected)


def test_equal_networks_have_nothing_to_learn_from_each_other() -> None:
    shared = answer(4, 0)
    assert terms(pkt(teacher=4), shared, shared)["pkt"].item() == 0


def test_gradient_reaches_the_student_and_not_the_teacher() -> None:
    student, teacher = answer(4, 0), answer(6, 50)
    found = terms(pkt(kd_weight=0.5), student, teacher)
    assert set(found) == {"ce", "pkt", "kd"}
    torch.autograd.backward(torch.stack(list(found.values())).sum())
    assert student.embedding.grad is not None
    assert student.embedding.grad.any()
    assert teacher.logits.grad is None
    assert teacher.embedding.grad is None


def test_half_precision_is_computed_in_float32() -> None:
    loss = neighbourhood_loss(draw(4, 3).half(), draw(4, 5, seed=1).half())
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_plan_says_that_widths_need_not_agree() -> None:
    assert pkt().plan() == [
        Link(student="embedding 4", teacher="embedding 6", adapter="none, cosines between the images")
    ]


def test_a_run_without_a_teacher_is_refused() -> None:
    with pytest.raises(UnsupportedPair, match="pkt needs a teacher"):
        PKT.check(PKTConfig(), pair(network(width=4), None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"pkt_weight": -1.0}, "pkt.pkt_weight must be >= 0, got -1.0"),
        ({"kd_weight": math.nan}, "pkt.kd_weight must be >= 0, got nan"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PKTConfig(**chosen)
