"""Similarity preservation: the matrices by hand and by a loop, what they do not care about, where the gradient goes."""

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
from compressor_plugins.sp import SP, SPConfig, similarities, similarity_loss

SMALL = ((4, 8, 8), (6, 8, 8), (8, 4, 4))
LARGE = ((5, 8, 8), (12, 16, 16), (16, 8, 8), (20, 4, 4))


def sp(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> SP:
    return SP(SPConfig(**chosen), pair(network("small", maps=student), network("large", maps=teacher)))


def answer(maps: Any, seed: int) -> ModelOutput:
    stages = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages)


def terms(method: SP, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_similarities_are_worked_by_hand() -> None:
    # Products of (3, 4) and (0, 1): rows (25, 4) and (4, 1), each divided by its length.
    found = similarities(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))
    assert found[0].tolist() == pytest.approx([25 / 641**0.5, 4 / 641**0.5])
    assert found[1].tolist() == pytest.approx([4 / 17**0.5, 1 / 17**0.5])


def test_loss_equals_a_slow_loop() -> None:
    student, teacher = draw(4, 2, 3, 3), draw(4, 5, 2, 2, seed=1)

    def rows(maps: Tensor) -> list[list[float]]:
        flat = [image.flatten().tolist() for image in maps]
        products = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in flat] for one in flat]
        return [[value / math.hypot(*row) for value in row] for row in products]

    total = sum(
        (a - b) ** 2
        for ours, theirs in zip(rows(student), rows(teacher), strict=True)
        for a, b in zip(ours, theirs, strict=True)
    )
    assert similarity_loss(student, teacher).item() == pytest.approx(total / 16)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3))
def test_rotated_and_scaled_features_are_as_similar(seed: int, scale: float) -> None:
    features = draw(5, 6, seed=seed)
    turn, _ = torch.linalg.qr(draw(6, 6, seed=seed + 1))
    assert torch.allclose(similarities(scale * features @ turn), similarities(features))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), images=st.integers(1, 8))
def test_loss_lies_in_its_range_and_does_not_hang_on_the_order(seed: int, images: int) -> None:
    student, teacher = draw(images, 4, seed=seed), draw(images, 7, seed=seed + 1)
    loss = similarity_loss(student, teacher)
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    assert 0 <= loss.item() <= 4 / images
    assert torch.isclose(similarity_loss(student[order], teacher[order]), loss)


def test_gradient_is_the_derivative() -> None:
    teacher = draw(3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda student: similarity_loss(student, teacher), leaf(3, 2, 2, 2))


def test_an_image_whose_map_is_zero_keeps_the_gradient_finite_and_small() -> None:
    student = draw(3, 4).mul(torch.tensor([[0.0], [1.0], [1.0]])).requires_grad_()
    torch.autograd.backward(similarity_loss(student, draw(3, 4, seed=1)))
    assert similarities(student)[0].tolist() == [0, 0, 0]
    assert student.grad is not None
    assert student.grad.abs().max() < 10


def test_a_single_image_has_no_relations() -> None:
    student = leaf(1, 2, 3, 3)
    loss = similarity_loss(student, draw(1, 2, 3, 3, seed=1))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(0, abs=1e-20)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_the_last_maps_are_compared_or_those_that_are_named() -> None:
    student, teacher = answer(SMALL, 0), answer(LARGE, 50)
    last = similarity_loss(student.stages[2], teacher.stages[3])
    assert torch.isclose(terms(sp(), student, teacher)["sp"], 3000 * last)
    both = terms(sp(sp_weight=2.0, stages="1:2,2:3"), student, teacher)["sp"]
    assert torch.isclose(both, 2 * (last + similarity_loss(student.stages[1], teacher.stages[2])))


def test_equal_networks_have_nothing_to_learn_from_each_other() -> None:
    shared = answer(SMALL, 0)
    assert terms(sp(teacher=SMALL), shared, shared)["sp"].item() == 0


def test_gradient_reaches_the_student_and_not_the_teacher() -> None:
    student, teacher = answer(SMALL, 0), answer(LARGE, 50)
    found = terms(sp(kd_weight=0.5), student, teacher)
    assert set(found) == {"ce", "sp", "kd"}
    torch.autograd.backward(torch.stack(list(found.values())).sum())
    assert student.stages[2].grad is not None
    assert student.stages[2].grad.any()
    assert all(value.grad is None for value in (teacher.logits, *teacher.stages))


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = 100 * draw(3, 4, 8, 8).half(), draw(3, 4, 8, 8, seed=1).half()
    loss = similarity_loss(student, teacher)  # the products are beyond float16
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_plan_says_that_sizes_need_not_agree() -> None:
    assert sp().plan() == [
        Link(student="stage2 8x4x4", teacher="stage3 20x4x4", adapter="similarities between the images")
    ]


def test_pairs_that_cannot_work_are_refused() -> None:
    flat, large = network("flat"), network("large", maps=LARGE)
    with pytest.raises(UnsupportedPair, match="sp needs feature maps, and flat shows none"):
        SP.check(SPConfig(), pair(large, flat))
    with pytest.raises(UnsupportedPair, match="small has stages 0 to 2, not 3"):
        SP.check(SPConfig(stages="3:3"), pair(network("small", maps=SMALL), large))
    with pytest.raises(UnsupportedPair, match="sp needs a teacher"):
        SP.check(SPConfig(), pair(large, None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"sp_weight": -0.5}, "sp.sp_weight must be >= 0, got -0.5"),
        ({"stages": "last"}, "sp.stages must be student:teacher pairs"),
        ({"ce_weight": -1.0}, "sp.ce_weight must be >= 0, got -1.0"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SPConfig(**chosen)
