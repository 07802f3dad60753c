"""Attention transfer: the maps by hand and by a loop, what they do not care about, and where the gradient goes."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor

from compressor.distiller import Link, ModelOutput
from compressor.errors import UnsupportedPair
from compressor_plugins.at import AT, ATConfig, attention_loss, attention_map

SMALL = ((4, 8, 8), (6, 8, 8), (8, 4, 4), (10, 2, 2))
LARGE = ((5, 8, 8), (12, 8, 8), (16, 4, 4), (20, 2, 2))


def at(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> AT:
    return AT(ATConfig(**chosen), pair(network("small", maps=student), network("large", maps=teacher)))


def answer(maps: Any, seed: int) -> ModelOutput:
    stages = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages)


def terms(method: AT, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_attention_of_two_channels_is_worked_by_hand() -> None:
    # Two channels on a map of 1x2: squares (1, 4) and (9, 0), mean (5, 2), divided by the root of 29.
    maps = torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]])
    assert attention_map(maps)[0].tolist() == pytest.approx([5 / 29**0.5, 2 / 29**0.5])
    # At power 1 the mean is (2, 1).
    assert attention_map(maps, power=1.0)[0].tolist() == pytest.approx([2 / 5**0.5, 1 / 5**0.5])


def test_loss_is_a_mean_over_places_and_images() -> None:
    here, there = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert attention_loss(here, there).item() == 1.0
    assert attention_loss(torch.cat([here, here]), torch.cat([there, here])).item() == 0.5


def test_loss_equals_a_slow_loop() -> None:
    student, teacher = draw(3, 4, 2, 3), draw(3, 5, 2, 3, seed=1)

    def attention(image: Tensor) -> list[float]:
        values = [sum(abs(image[c, h, w].item()) ** 3 for c in range(len(image))) for h in range(2) for w in range(3)]
        length = sum(value**2 for value in values) ** 0.5
        return [value / length for value in values]

    total = sum(
        (ours - theirs) ** 2
        for image in range(3)
        for ours, theirs in zip(attention(student[image]), attention(teacher[image]), strict=True)
    )
    assert attention_loss(student, teacher, 3.0).item() == pytest.approx(total / (3 * 6))


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99), power=st.sampled_from([1.0, 2.0, 4.0]))
def test_attention_knows_no_scale_no_sign_and_no_order_of_channels(scale: float, seed: int, power: float) -> None:
    maps = draw(2, 6, 3, 3, seed=seed)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    assert torch.allclose(attention_map(-scale * maps[:, order], power), attention_map(maps, power))
    assert attention_loss(scale * maps, maps, power).item() == pytest.approx(0, abs=1e-20)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_loss_lies_in_its_range(seed: int) -> None:
    assert 0 <= attention_loss(draw(2, 3, 4, 2, seed=seed), draw(2, 5, 4, 2, seed=seed + 1)).item() <= 4 / 8


def test_gradient_is_the_derivative() -> None:
    teacher = draw(2, 3, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda student: attention_loss(student, teacher), leaf(2, 4, 4, 2))


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
def test_a_map_of_zeros_has_no_attention_and_a_finite_gradient(power: float) -> None:
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    loss = attention_loss(student, torch.ones(1, 2, 2, 2), power)
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(0.25)
    assert student.grad is not None
    assert not student.grad.any()


def test_term_is_the_weighted_sum_over_all_stages_but_the_stem() -> None:
    student, teacher = answer(SMALL, 0), answer(LARGE, 50)
    expected = sum(attention_loss(student.stages[at], teacher.stages[at]) for at in (1, 2, 3))
    assert torch.isclose(terms(at(), student, teacher)["at"], 1000 * expected)
    chosen = terms(at(at_weight=1.0, stages="3:1"), student, teacher)["at"]
    assert torch.equal(chosen, attention_loss(student.stages[3], teacher.stages[1]))


def test_equal_networks_have_nothing_to_learn_from_each_other() -> None:
    shared = answer(SMALL, 0)
    assert terms(at(teacher=SMALL), shared, shared)["at"].item() == 0


@pytest.mark.parametrize("teacher", [((4, 9, 9), (7, 5, 3)), ((4, 16, 16), (3, 1, 1)), ((4, 7, 7), (8, 3, 9))])
def test_maps_of_any_sizes_can_be_compared(teacher: Any) -> None:
    student = ((4, 8, 8), (6, 4, 4))
    value = terms(at(student, teacher), answer(student, 0), answer(teacher, 50))["at"]
    assert torch.isfinite(value)


def test_gradient_reaches_the_stages_of_the_student_and_not_the_teacher() -> None:
    method, student, teacher = at(kd_weight=1.0), answer(SMALL, 0), answer(LARGE, 50)
    found = terms(method, student, teacher)
    assert set(found) == {"ce", "at", "kd"}
    torch.autograd.backward(torch.stack(list(found.values())).sum())
    assert student.stages[0].grad is None  # the stem
    assert all(stage.grad is not None and stage.grad.any() for stage in student.stages[1:])
    assert all(value.grad is None for value in (teacher.logits, *teacher.stages))


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = draw(2, 3, 4, 4).half(), draw(2, 3, 4, 4, seed=1).half()
    loss = attention_loss(100 * student, teacher, 4.0)  # 100 ** 4 is more than float16 holds
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)


def test_plan_names_both_stages_and_how_their_sizes_meet() -> None:
    assert at(teacher=((4, 8, 8), (9, 8, 4)), stages="1:1").plan() == [
        Link(student="stage1 6x8x8", teacher="stage1 9x8x4", adapter="the larger averaged down")
    ]


def test_pairs_that_cannot_work_are_refused() -> None:
    flat, large = network("flat"), network("large", maps=LARGE)
    with pytest.raises(UnsupportedPair, match="at needs feature maps, and flat shows none"):
        AT.check(ATConfig(), pair(flat, large))
    with pytest.raises(UnsupportedPair, match="large has stages 0 to 3, not 4"):
        AT.check(ATConfig(stages="1:4"), pair(network("small", maps=SMALL), large))
    with pytest.raises(UnsupportedPair, match="at needs a teacher"):
        AT.check(ATConfig(), pair(large, None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"at_weight": -1.0}, r"at.at_weight must be >= 0, got -1.0"),
        ({"power": 0.5}, r"at.power must be >= 1, got 0.5"),
        ({"stages": "1-2"}, r"at.stages must be student:teacher pairs such as \"1:1,2:3\", got '1-2'"),
        ({"kd_temperature": 0.0}, r"at.kd_temperature must be > 0, got 0.0"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ATConfig(**chosen)
