"""Neuron selectivity transfer: the discrepancy by hand and by a loop, what it ignores, and where the gradient goes."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor

from compressor.distiller import Link, ModelOutput
from compressor.errors import UnsupportedPair
from compressor_plugins.nst import NST, NSTConfig, mean_squared_product, selectivity_loss

SMALL = ((4, 8, 8), (6, 8, 8), (8, 4, 4), (10, 2, 2))
LARGE = ((5, 8, 8), (12, 8, 8), (16, 4, 4), (20, 2, 2))


def nst(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> NST:
    return NST(NSTConfig(**chosen), pair(network("small", maps=student), network("large", maps=teacher)))


def answer(maps: Any, seed: int) -> ModelOutput:
    stages = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages)


def terms(method: NST, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_discrepancy_is_worked_by_hand() -> None:
    # Both channels of the student fire at place 0: k(s, s) = 1. Those of the teacher fire at 0 and at 1: k(t, t) = 1/2.
    # Across, one half agrees: k(s, t) = 1/2. So 1 + 1/2 - 2/2.
    student = torch.tensor([[[[2.0, 0.0]], [[5.0, 0.0]]]])
    teacher = torch.tensor([[[[1.0, 0.0]], [[0.0, 3.0]]]])
    assert selectivity_loss(student, teacher).item() == pytest.approx(0.5)


def slow(first: Tensor, second: Tensor) -> float:
    """Average the squared cosine of every channel of the first with every one of the second, image by image."""
    values = [
        torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0).item() ** 2
        for image, partner in zip(first, second, strict=True)
        for one in image
        for other in partner
    ]
    return sum(values) / len(values)


@pytest.mark.parametrize("size", [1, 2, 6], ids=["fewer places than channels", "few", "more"])
def test_loss_equals_a_slow_loop_on_either_way_of_computing_it(size: int) -> None:
    student, teacher = draw(2, 3, size, size), draw(2, 4, size, size, seed=1)
    expected = slow(student, student) + slow(teacher, teacher) - 2 * slow(student, teacher)
    assert selectivity_loss(student, teacher).item() == pytest.approx(expected, abs=1e-14)


@settings(max_examples=20, deadline=None)
@given(channels=st.integers(1, 9), others=st.integers(1, 9), places=st.integers(1, 9), seed=st.integers(0, 99))
def test_mean_squared_product_is_that_of_the_whole_matrix(channels: int, others: int, places: int, seed: int) -> None:
    first, second = draw(2, channels, places, seed=seed), draw(2, others, places, seed=seed + 1)
    whole = torch.einsum("bcp,bdp->bcd", first, second).square().mean()
    assert torch.isclose(mean_squared_product(first, second), whole)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(1e-3, 1e3))
def test_order_scale_and_sign_of_channels_and_their_number_of_copies_do_not_matter(seed: int, scale: float) -> None:
    maps = draw(2, 5, 3, 2, seed=seed)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    assert selectivity_loss(-scale * maps[:, order], maps).item() == pytest.approx(0, abs=1e-12)
    assert selectivity_loss(torch.cat([maps, maps], dim=1), maps).item() == pytest.approx(0, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), size=st.integers(1, 4))
def test_loss_lies_between_zero_and_one_and_does_not_hang_on_the_order_of_images(seed: int, size: int) -> None:
    student, teacher = draw(3, 4, size, 2, seed=seed), draw(3, 6, size, 2, seed=seed + 1)
    loss = selectivity_loss(student, teacher)
    assert -1e-12 <= loss.item() <= 1
    assert torch.isclose(selectivity_loss(student.flip(0), teacher.flip(0)), loss)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradient_is_the_derivative(size: int) -> None:
    teacher = draw(2, 4, 2, size, seed=1)
    assert torch.autograd.gradcheck(lambda student: selectivity_loss(student, teacher), leaf(2, 3, 2, size))


def test_a_channel_that_never_fires_has_a_finite_gradient() -> None:
    student = draw(2, 3, 2, 2)
    student[:, 0] = 0
    student.requires_grad_()
    torch.autograd.backward(selectivity_loss(student, draw(2, 4, 2, 2, seed=1)))
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    assert not student.grad[:, 0].any()
    assert student.grad[:, 1:].any()


def test_term_is_the_weighted_sum_over_all_stages_but_the_stem() -> None:
    student, teacher = answer(SMALL, 0), answer(LARGE, 50)
    expected = sum(selectivity_loss(student.stages[at], teacher.stages[at]) for at in (1, 2, 3))
    assert torch.isclose(terms(nst(), student, teacher)["nst"], 50 * expected)
    chosen = terms(nst(nst_weight=1.0, stages="3:1"), student, teacher)["nst"]
    assert torch.equal(chosen, selectivity_loss(student.stages[3], teacher.stages[1]))


def test_equal_networks_have_nothing_to_learn_from_each_other() -> None:
    shared = answer(SMALL, 0)
    assert terms(nst(teacher=SMALL), shared, shared)["nst"].item() == 0


@pytest.mark.parametrize("teacher", [((4, 9, 9), (7, 5, 3)), ((4, 16, 16), (3, 1, 1)), ((4, 7, 7), (8, 3, 9))])
def test_maps_of_any_sizes_can_be_compared(teacher: Any) -> None:
    student = ((4, 8, 8), (6, 4, 4))
    value = terms(nst(student, teacher), answer(student, 0), answer(teacher, 50))["nst"]
    assert torch.isfinite(value)


def test_gradient_reaches_the_student_and_not_the_teacher() -> None:
    student, teacher = answer(SMALL, 0), answer(LARGE, 50)
    found = terms(nst(kd_weight=0.5), student, teacher)
    assert set(found) == {"ce", "nst", "kd"}
    torch.autograd.backward(torch.stack(list(found.values())).sum())
    assert all(stage.grad is not None and stage.grad.any() for stage in student.stages[1:])
    assert all(value.grad is None for value in (teacher.logits, *teacher.stages))


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = 300 * draw(2, 3, 4, 4).half(), draw(2, 3, 4, 4, seed=1).half()
    loss = selectivity_loss(student, teacher)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_plan_names_both_stages_and_how_their_sizes_meet() -> None:
    assert nst(stages="2:1").plan() == [
        Link(student="stage2 8x4x4", teacher="stage1 12x8x8", adapter="the larger averaged down")
    ]


def test_pairs_that_cannot_work_are_refused() -> None:
    flat, large = network("flat"), network("large", maps=LARGE)
    with pytest.raises(UnsupportedPair, match="nst needs feature maps, and flat shows none"):
        NST.check(NSTConfig(), pair(flat, large))
    with pytest.raises(UnsupportedPair, match="large has stages 0 to 3, not 9"):
        NST.check(NSTConfig(stages="0:9"), pair(network("small", maps=SMALL), large))
    with pytest.raises(UnsupportedPair, match="nst needs a teacher"):
        NST.check(NSTConfig(), pair(large, None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"nst_weight": -1.0}, "nst.nst_weight must be >= 0, got -1.0"),
        ({"stages": "1:1,1:2"}, "nst.stages names a stage of the student twice"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NSTConfig(**chosen)
