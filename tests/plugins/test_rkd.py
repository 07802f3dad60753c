"""Relational distillation: distances and angles by hand and by a loop, what they ignore, images in one place."""

import itertools
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
from compressor_plugins.rkd import RKD, RKDConfig, angle_cosines, angle_loss, distance_loss, relative_distances


def rkd(student: int = 4, teacher: int = 6, **chosen: Any) -> RKD:
    return RKD(RKDConfig(**chosen), pair(network("small", width=student), network("large", width=teacher)))


def answer(width: int, seed: int) -> ModelOutput:
    return ModelOutput(logits=leaf(5, 3, seed=seed), embedding=leaf(5, width, seed=seed + 1))


def terms(method: RKD, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_distances_and_angles_of_a_right_triangle_are_worked_by_hand() -> None:
    # Sides 3, 4 and 5, mean 4; the right angle is at image 0.
    triangle = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]).double()
    assert relative_distances(triangle).flatten().tolist() == pytest.approx(
        [0, 3 / 4, 4 / 4, 3 / 4, 0, 5 / 4, 4 / 4, 5 / 4, 0]
    )
    cosines = angle_cosines(triangle)
    assert cosines[0, 1, 2].item() == 0
    assert cosines[1, 0, 2].item() == pytest.approx(3 / 5)
    assert cosines[2, 0, 1].item() == pytest.approx(4 / 5)
    assert cosines[0, 1, 1].item() == pytest.approx(1)
    assert cosines[0, 0, 1].item() == 0


def smooth(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


def test_distance_loss_equals_a_slow_loop() -> None:
    student, teacher = draw(4, 3).tolist(), draw(4, 5, seed=1).tolist()

    def relative(points: list[list[float]]) -> list[list[float]]:
        far = [[math.dist(one, other) for other in points] for one in points]
        mean = sum(map(sum, far)) / 12
        return [[value / mean for value in row] for row in far]

    pairs = zip(itertools.chain(*relative(student)), itertools.chain(*relative(teacher)), strict=True)
    expected = sum(smooth(ours - theirs) for ours, theirs in pairs) / 16
    assert distance_loss(draw(4, 3), draw(4, 5, seed=1)).item() == pytest.approx(expected)


def test_angle_loss_equals_a_slow_loop() -> None:
    student, teacher = draw(4, 3).tolist(), draw(4, 5, seed=1).tolist()

    def cosine(points: list[list[float]], i: int, j: int, k: int) -> float:
        one = [b - a for a, b in zip(points[i], points[j], strict=True)]
        other = [b - a for a, b in zip(points[i], points[k], strict=True)]
        lengths = math.hypot(*one) * math.hypot(*other)
        return sum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else 0.0

    triples = itertools.product(range(4), repeat=3)
    expected = sum(smooth(cosine(student, *one) - cosine(teacher, *one)) for one in triples) / 64
    assert angle_loss(draw(4, 3), draw(4, 5, seed=1)).item() == pytest.approx(expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(1e-2, 1e2))
def test_relations_stay_when_all_images_are_moved_turned_and_scaled(seed: int, scale: float) -> None:
    points = draw(5, 4, seed=seed)
    turn, _ = torch.linalg.qr(draw(4, 4, seed=seed + 1))
    moved = scale * points @ turn + draw(4, seed=seed + 2)
    assert distance_loss(moved, points).item() == pytest.approx(0, abs=1e-18)
    assert angle_loss(moved, points).item() == pytest.approx(0, abs=1e-18)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), images=st.integers(2, 6))
def test_relative_distances_have_mean_one_and_cosines_their_range(seed: int, images: int) -> None:
    points = draw(images, 3, seed=seed)
    assert relative_distances(points).sum().item() == pytest.approx(images * (images - 1))
    assert (angle_cosines(points).abs() <= 1 + 1e-12).all()


def test_gradients_are_the_derivatives() -> None:
    teacher = draw(4, 5, seed=1)
    assert torch.autograd.gradcheck(lambda student: distance_loss(student, teacher), leaf(4, 3))
    assert torch.autograd.gradcheck(lambda student: angle_loss(student, teacher), leaf(4, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_in_one_place_have_a_finite_gradient_of_ordinary_size(dtype: torch.dtype) -> None:
    points = draw(5, 3).to(dtype)
    points[1] = points[0]
    student = points.requires_grad_()
    loss = distance_loss(student, draw(5, 4, seed=1).to(dtype)) + angle_loss(student, draw(5, 4, seed=1).to(dtype))
    torch.autograd.backward(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert student.grad.abs().max() < 1


@pytest.mark.parametrize("points", [torch.zeros(1, 3), torch.ones(4, 3)], ids=["one image", "all in one place"])
def test_a_batch_without_relations_keeps_loss_and_gradient_finite(points: Tensor) -> None:
    student = points.clone().requires_grad_()
    teacher = draw(len(points), 4, seed=1).float()
    loss = distance_loss(student, teacher) + angle_loss(student, teacher)
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_terms_are_the_weighted_losses_of_the_embeddings() -> None:
    student, teacher = answer(4, 0), answer(6, 50)
    found = terms(rkd(), student, teacher)
    assert torch.equal(found["distance"], 25 * distance_loss(student.embedding, teacher.embedding))
    assert torch.equal(found["angle"], 50 * angle_loss(student.embedding, teacher.embedding))
    other = terms(rkd(distance_weight=1.0, angle_weight=0.0), student, teacher)
    assert (other["distance"] * 25).item() == pytest.approx(found["distance"].item())
    assert other["angle"].item() == 0


def test_equal_networks_have_nothing_to_learn_from_each_other() -> None:
    shared = answer(4, 0)
    found = terms(rkd(teacher=4), shared, shared)
    assert (found["distance"].item(), found["angle"].item()) == (0, 0)


def test_gradient_reaches_the_student_and_not_the_teacher() -> None:
    student, teacher = answer(4, 0), answer(6, 50)
    found = terms(rkd(kd_weight=0.5), student, teacher)
    assert set(found) == {"ce", "distance", "angle", "kd"}
    torch.autograd.backward(torch.stack(list(found.values())).sum())
    assert student.embedding.grad is not None
    assert student.embedding.grad.any()
    assert teacher.logits.grad is None
    assert teacher.embedding.grad is None


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = 200 * draw(4, 30).half(), draw(4, 5, seed=1).half()
    for loss in (distance_loss(student, teacher), angle_loss(student, teacher)):
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)


def test_memory_grows_with_the_widths() -> None:
    narrow, wide = (RKD.memory_bytes(RKDConfig(), pair(network(width=width), network(width=8))) for width in (4, 400))
    assert wide - narrow == 4 * 64**2 * 2 * 396


def test_plan_says_that_widths_need_not_agree() -> None:
    assert rkd().plan() == [
        Link(student="embedding 4", teacher="embedding 6", adapter="none, distances and angles between the images")
    ]


def test_a_run_without_a_teacher_is_refused() -> None:
    with pytest.raises(UnsupportedPair, match="rkd needs a teacher"):
        RKD.check(RKDConfig(), pair(network(width=4), None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"distance_weight": -1.0}, "rkd.distance_weight must be >= 0, got -1.0"),
        ({"angle_weight": math.inf}, "rkd.angle_weight must be >= 0, got inf"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RKDConfig(**chosen)
