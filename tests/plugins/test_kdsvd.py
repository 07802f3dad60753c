"""KDSVD: directions against eigenvectors, their sign and gradient, and the relations between stages by a loop."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor

from compressor.distiller import ModelOutput, Pair
from compressor.errors import UnsupportedPair
from compressor_plugins import kdsvd as module
from compressor_plugins.kdsvd import KDSVD, KDSVDConfig, change_loss, leading_directions, stage_directions

SMALL = ((4, 8, 8), (6, 4, 2), (8, 2, 2))
LARGE = ((3, 8, 8), (6, 3, 3), (8, 4, 1))


def networks(student: Any = SMALL, teacher: Any = LARGE) -> Pair:
    return pair(network("small", maps=student), network("large", maps=teacher))


def kdsvd(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> KDSVD:
    return KDSVD(KDSVDConfig(**chosen), networks(student, teacher))


def answer(maps: Any, seed: int) -> ModelOutput:
    stages = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages)


def terms(method: KDSVD, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def made(values: list[float], channels: int, places: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make one image's map (1, C, places, 1) with these singular values, and the directions (C, r) behind them."""
    left, _ = torch.linalg.qr(draw(places, len(values), seed=seed))
    right, _ = torch.linalg.qr(draw(channels, len(values), seed=seed + 1))
    rows = left @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ right.T
    return rows.T[None, :, :, None], right


@pytest.mark.parametrize(("channels", "places"), [(6, 10), (10, 6)])
def test_directions_are_those_a_map_was_made_of(channels: int, places: int) -> None:
    maps, right = made([5.0, 3.0, 2.0, 1.0], channels, places)
    directions, values = leading_directions(maps, 3)
    assert values[0].tolist() == pytest.approx([5, 3, 2])
    assert torch.allclose((directions[0] * right[:, :3]).sum(0).abs(), torch.ones(3, dtype=torch.float64))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(1, 4), scale=st.floats(1e-3, 1e3))
def test_directions_have_length_one_point_to_the_positive_side_and_know_no_scale(
    seed: int, height: int, scale: float
) -> None:
    maps = draw(3, 5, height, 4, seed=seed)
    directions, values = leading_directions(maps, 3)
    identity = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    assert torch.allclose(directions.mT @ directions, identity, atol=1e-9)
    assert (directions.sum(1) >= 0).all()
    for turned in (scale * maps, -scale * maps):
        others, larger = leading_directions(turned, 3)
        assert torch.allclose(others, directions, atol=1e-8)
        assert torch.allclose(larger, scale * values)


def test_directions_do_not_hang_on_the_signs_of_the_linear_algebra(monkeypatch: pytest.MonkeyPatch) -> None:
    student, teacher, method = answer(SMALL, 0), answer(LARGE, 50), kdsvd(directions=1)
    expected = terms(method, student, teacher)["svd"].item()
    routine = torch.linalg.svd
    draws = torch.Generator().manual_seed(3)

    def other_signs(rows: Tensor, full_matrices: bool) -> tuple[Tensor, Tensor, Tensor]:
        left, values, right = routine(rows, full_matrices=full_matrices)
        signs = torch.randint(0, 2, values.shape, generator=draws, dtype=values.dtype) * 2 - 1
        return left * signs[:, None], values, right * signs[:, :, None]

    monkeypatch.setattr(module.torch.linalg, "svd", other_signs)
    for _ in range(4):
        assert terms(method, student, teacher)["svd"].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(1, 4, 3, 3), (1, 6, 2, 2)])
def test_gradient_of_directions_is_the_derivative(shape: tuple[int, ...]) -> None:
    assert torch.autograd.gradcheck(lambda maps: leading_directions(maps, 2)[0], leaf(*shape, seed=4), rtol=1e-4)


@pytest.mark.parametrize(
    "values",
    [
        [2.0, 2.0, 1.0, 0.5],  # two that are equal
        [2.0, 2.0 - 1e-12, 1.0, 0.5],
        [1.0, 1.0, 1.0, 1.0],
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
    ],
)
def test_gradient_is_finite_where_singular_values_meet_or_vanish(values: list[float]) -> None:
    for dtype in (torch.float64, torch.float32):
        maps = made(values, 6, 8)[0].to(dtype).requires_grad_()
        directions, _ = leading_directions(maps, 4)
        (directions * draw(1, 6, 4).to(dtype)).sum().backward()
        assert maps.grad is not None
        assert torch.isfinite(maps.grad).all()
        assert maps.grad.abs().max() <= 1e5 / torch.finfo(dtype).eps ** 0.5


def test_gradient_is_bounded_where_torchs_own_is_not() -> None:
    maps = made([2.0, 2.0 - 1e-12, 1.0, 0.5], 6, 8)[0].requires_grad_()
    _, _, right = torch.linalg.svd(maps.flatten(2).mT, full_matrices=False)
    (right[:, :1] * draw(1, 6)).sum().backward()
    assert maps.grad is not None
    theirs = maps.grad.abs().max().item()
    maps.grad = None
    (leading_directions(maps, 1)[0][:, :, 0] * draw(1, 6)).sum().backward()
    assert maps.grad is not None
    assert maps.grad.abs().max().item() < 1e-3 * theirs


def test_a_map_that_is_not_finite_gives_a_loss_that_is_not() -> None:
    student, teacher = answer(SMALL, 0), answer(LARGE, 50)
    broken = [value.detach().clone() for value in student.stages]
    broken[2][0, 0, 0, 0] = math.nan
    found = terms(kdsvd(), ModelOutput(logits=student.logits, stages=tuple(broken)), teacher)
    assert math.isnan(found["svd"].item())


def test_a_student_takes_of_its_directions_the_ones_nearest_to_the_teachers() -> None:
    # The teacher's strongest direction is the student's third, turned round; with k = 1 the student shows four.
    axes = torch.eye(5, dtype=torch.float64)
    student = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5], dtype=torch.float64))[None, :, :, None]
    teacher = (6 * axes[2])[None, :, None, None]
    ours, theirs = stage_directions(-student, teacher, 1)
    assert torch.allclose(theirs[0, :, 0], axes[2])
    assert torch.allclose(ours[0, :, 0], axes[2])
    # With k = 2 both are scaled by the teacher's singular values, as a vector of length 1: 3, 4 of 5.
    two = torch.stack([4 * axes[1], 3 * axes[3]], dim=1)[None, :, :, None]
    ours, theirs = stage_directions(student, two, 2)
    assert torch.allclose(theirs[0], torch.stack([0.8 * axes[1], 0.6 * axes[3]], dim=1))
    assert torch.allclose(ours[0], theirs[0])


def test_change_equals_a_slow_loop() -> None:
    earlier, later, its, others = draw(2, 3, 2), draw(2, 4, 2, seed=1), draw(2, 3, 2, seed=2), draw(2, 4, 2, seed=3)
    total = 0.0
    for image, channel, other, kept in torch.cartesian_prod(*map(torch.arange, (2, 3, 4, 2))).tolist():
        ours, theirs = (
            math.exp(-((one[image, channel, kept] - two[image, other, kept]).item() ** 2) / 8)
            for one, two in ((earlier, later), (its, others))
        )
        total += (ours - theirs) ** 2
    assert change_loss(earlier, later, its, others).item() == pytest.approx(total / 2)


def test_consecutive_stages_are_compared_all_but_the_first() -> None:
    method, student, teacher = kdsvd(LARGE, SMALL, svd_weight=3.0), answer(LARGE, 0), answer(SMALL, 50)
    one, two = (stage_directions(student.stages[i], teacher.stages[i], 1) for i in (1, 2))
    expected = 3 * change_loss(one[0], two[0], one[1], two[1]).item()
    assert terms(method, student, teacher)["svd"].item() == pytest.approx(expected)
    assert [link.student for link in method.plan()] == ["stage1 6x3x3", "stage2 8x4x1"]


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    shared = answer(SMALL, 0)
    assert terms(kdsvd(teacher=SMALL), shared, shared)["svd"].item() == pytest.approx(0, abs=1e-20)


def test_gradient_reaches_the_student_and_not_the_teacher() -> None:
    student, teacher = answer(SMALL, 0), answer(LARGE, 50)
    found = terms(kdsvd(kd_weight=1.0), student, teacher)
    assert set(found) == {"ce", "svd", "kd"}
    torch.stack(list(found.values())).sum().backward()
    assert all(student.stages[i].grad is not None and student.stages[i].grad.any() for i in (1, 2))
    assert all(value.grad is None for value in (teacher.logits, *teacher.stages))


def test_memory_grows_with_the_product_of_widths() -> None:
    narrow, wide = ((4, 8, 8), (6, 8, 8), (8, 8, 8)), ((4, 8, 8), (12, 8, 8), (16, 8, 8))
    sizes = [KDSVD.memory_bytes(KDSVDConfig(), networks(maps, maps)) for maps in (narrow, wide)]
    assert sizes[1] == 4 * sizes[0] == 4 * 6 * 4 * 64 * 6 * 8


def test_maps_that_cannot_be_compared_are_refused_with_what_to_type() -> None:
    four = ((4, 8, 8), (6, 4, 2), (8, 2, 2), (9, 1, 3))
    with pytest.raises(UnsupportedPair, match=r"needs 4 singular vectors, and stage3 of small \(9x1x3\) has") as caught:
        KDSVD.check(KDSVDConfig(), networks(four, four))
    assert caught.value.hint == "--set method.kdsvd.stages=1:1,2:2"
    KDSVD.check(KDSVDConfig(stages="1:1,2:2"), networks(four, four))
    ours, theirs = ((8, 8, 8),) * 3, ((8, 8, 8), (8, 8, 8), (8, 1, 1))
    with pytest.raises(UnsupportedPair, match=r"kdsvd needs 2 singular vectors, and stage2 of large \(8x1x1\) has"):
        KDSVD.check(KDSVDConfig(directions=2), networks(ours, theirs))


def test_unequal_widths_are_refused() -> None:
    wide = ((3, 8, 8), (6, 3, 3), (12, 4, 1))
    message = "kdsvd compares stages of equal width: stage2 of small has 8 channels, stage2 of large has 12"
    with pytest.raises(UnsupportedPair, match=message) as caught:
        KDSVD.check(KDSVDConfig(), networks(teacher=wide))
    assert caught.value.hint == "--method at"


def test_other_pairs_it_cannot_work_on_are_refused() -> None:
    with pytest.raises(UnsupportedPair, match="only one stage is matched"):
        KDSVD.check(KDSVDConfig(stages="1:1"), networks())
    with pytest.raises(UnsupportedPair, match="kdsvd needs feature maps, and flat shows none"):
        KDSVD.check(KDSVDConfig(), pair(network("flat"), network("large", maps=LARGE)))
    with pytest.raises(UnsupportedPair, match="kdsvd needs a teacher"):
        KDSVD.check(KDSVDConfig(), pair(network("small", maps=SMALL), None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"svd_weight": -1.0}, r"kdsvd.svd_weight must be >= 0, got -1.0"),
        ({"directions": 0}, r"kdsvd.directions must be >= 1, got 0"),
        ({"stages": "1:1;2:2"}, r"kdsvd.stages must be student:teacher pairs .*, got '1:1;2:2'"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KDSVDConfig(**chosen)
