"""Flows between stages: by hand and by a loop, what belongs to which phase, and pairs that are refused."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, nothing, pair
from torch import Tensor
from torch.nn import functional as F

from compressor.distiller import ModelOutput, Needs, Pair
from compressor.errors import UnsupportedPair
from compressor_plugins.fsp import FSP, FSPConfig, flow, flow_loss

SMALL = ((4, 8, 8), (6, 8, 8), (8, 4, 4))
LARGE = ((4, 6, 6), (6, 6, 6), (8, 6, 6))


def networks(student: Any = SMALL, teacher: Any = LARGE) -> Pair:
    return pair(network("small", maps=student), network("large", maps=teacher))


def fsp(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> FSP:
    return FSP(FSPConfig(**chosen), networks(student, teacher))


def answer(maps: Any, seed: int) -> ModelOutput:
    return ModelOutput(stages=tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps)))


def init(method: FSP, student: ModelOutput, teacher: ModelOutput) -> Tensor:
    found = method.phases()[0].terms(batch(torch.arange(5) % 3), student, teacher)
    assert set(found) == {"fsp"}
    return found["fsp"]


def test_flow_equals_values_worked_by_hand() -> None:
    # Two places, one channel and then two: products (1 * 3, 2 * 4) / 2 and (1 * -1, 2 * 1) / 2.
    earlier = torch.tensor([[[[1.0, 2.0]]]])
    later = torch.tensor([[[[3.0, 4.0]], [[-1.0, 1.0]]]])
    assert flow(earlier, later).tolist() == [[[5.5, 0.5]]]
    assert flow_loss(torch.tensor([[[5.5, 0.5]]]), torch.tensor([[[4.5, 3.5]]])).item() == (1 + 9) / 2


def test_flow_equals_a_slow_loop_over_places() -> None:
    earlier, later = draw(2, 3, 4, 2), draw(2, 5, 2, 1, seed=1)
    found = flow(earlier, later)
    for image, channel, other in torch.cartesian_prod(*map(torch.arange, (2, 3, 5))).tolist():
        total = 0.0
        for row in range(2):
            cell = earlier[image, channel, 2 * row : 2 * row + 2, 0:2].mean().item()
            total += cell * later[image, other, row, 0].item()
        assert found[image, channel, other].item() == pytest.approx(total / 2)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), scale=st.floats(-10, 10))
def test_flow_grows_with_either_map_and_does_not_see_where_things_are(seed: int, scale: float) -> None:
    earlier, later = draw(2, 3, 3, 3, seed=seed), draw(2, 4, 3, 3, seed=seed + 1)
    places = torch.randperm(9, generator=torch.Generator().manual_seed(seed))
    moved = (one.flatten(2)[:, :, places].view_as(one) for one in (earlier, later))
    assert torch.allclose(flow(*moved), flow(earlier, later))
    assert torch.allclose(flow(scale * earlier, later), scale * flow(earlier, later))
    assert torch.allclose(flow(later, earlier), flow(earlier, later).mT)


def test_gradient_is_the_derivative() -> None:
    teacher = draw(2, 3, 2, seed=1)
    assert torch.autograd.gradcheck(
        lambda earlier, later: flow_loss(flow(earlier, later), teacher), (leaf(2, 3, 4, 2), leaf(2, 2, 2, 2, seed=1))
    )


def test_all_consecutive_stages_are_compared_the_stem_included() -> None:
    method, student, teacher = fsp(fsp_weight=3.0), answer(SMALL, 0), answer(LARGE, 50)
    total = sum(
        (flow(student.stages[i], student.stages[i + 1]) - flow(teacher.stages[i], teacher.stages[i + 1]))
        .square()
        .mean()
        .item()
        for i in range(2)
    )
    assert init(method, student, teacher).item() == pytest.approx(3 * total)
    assert [(link.student, link.teacher) for link in method.plan()] == [
        ("stage0 4x8x8", "stage0 4x6x6"),
        ("stage1 6x8x8", "stage1 6x6x6"),
        ("stage2 8x4x4", "stage2 8x6x6"),
    ]


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    shared = answer(SMALL, 0)
    assert init(fsp(teacher=SMALL), shared, shared).item() == 0


def test_first_phase_reaches_the_student_and_not_the_teacher() -> None:
    student, teacher = answer(SMALL, 0), answer(LARGE, 50)
    init(fsp(), student, teacher).backward()
    assert all(value.grad is not None and value.grad.any() for value in student.stages)
    assert all(value.grad is None for value in teacher.stages)


def test_labels_come_after_the_flows_and_without_the_teacher() -> None:
    first, last = fsp(init_epochs=4, init_lr=0.3).phases()
    assert (first.name, first.trains, first.needs) == ("init", ("student",), Needs(stages=True))
    assert first.schedule is not None
    assert (first.schedule.epochs, first.schedule.lr) == (4, 0.3)
    assert (last.name, last.trains, last.needs, last.schedule) == ("student", ("student",), Needs(teacher=False), None)
    logits, labels = leaf(5, 3), torch.arange(5) % 3
    found = last.terms(batch(labels), ModelOutput(logits=logits), nothing())
    assert set(found) == {"ce"}
    assert found["ce"].item() == pytest.approx(F.cross_entropy(logits, labels).item())


def test_a_weight_of_the_logits_brings_the_teacher_back() -> None:
    last = fsp(kd_weight=0.5).phases()[-1]
    assert last.needs == Needs()
    answers = ModelOutput(logits=leaf(5, 3)), ModelOutput(logits=leaf(5, 3, seed=1))
    assert set(last.terms(batch(torch.arange(5) % 3), *answers)) == {"ce", "kd"}


def test_without_a_weight_the_first_phase_is_skipped_and_without_a_rate_it_takes_the_runs() -> None:
    (schedule,) = (phase.schedule for phase in fsp(fsp_weight=0.0).phases()[:1])
    assert schedule is not None
    assert (schedule.epochs, schedule.lr) == (0, None)


def test_unequal_widths_are_refused_with_the_stages_that_fit() -> None:
    wide = ((4, 6, 6), (12, 6, 6), (8, 6, 6))
    message = "fsp compares stages of equal width: stage1 of small has 6 channels, stage1 of large has 12"
    with pytest.raises(UnsupportedPair, match=message) as caught:
        FSP.check(FSPConfig(), networks(teacher=wide))
    assert caught.value.hint == "--set method.fsp.stages=0:0,2:2"
    FSP.check(FSPConfig(stages="0:0,2:2"), networks(teacher=wide))
    with pytest.raises(UnsupportedPair, match="stage0 of small has 4 channels, stage0 of large has 5") as caught:
        FSP.check(FSPConfig(), networks(teacher=((5, 6, 6), (12, 6, 6), (8, 6, 6))))
    assert "--method at" in str(caught.value.hint)


def test_other_pairs_it_cannot_work_on_are_refused() -> None:
    with pytest.raises(UnsupportedPair, match="only one stage is matched"):
        FSP.check(FSPConfig(stages="1:1"), networks())
    with pytest.raises(UnsupportedPair, match="fsp needs feature maps, and flat shows none"):
        FSP.check(FSPConfig(), pair(network("flat"), network("large", maps=LARGE)))
    with pytest.raises(UnsupportedPair, match="large has stages 0 to 2, not 3"):
        FSP.check(FSPConfig(stages="0:0,1:3"), networks())
    with pytest.raises(UnsupportedPair, match="fsp needs a teacher"):
        FSP.check(FSPConfig(), pair(network("small", maps=SMALL), None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"fsp_weight": -1.0}, r"fsp.fsp_weight must be >= 0, got -1.0"),
        ({"init_epochs": -1}, r"fsp.init_epochs must be >= 0, got -1"),
        ({"init_lr": math.inf}, r"fsp.init_lr must be > 0, got inf"),
        ({"stages": "0-0"}, r"fsp.stages must be student:teacher pairs .*, got '0-0'"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FSPConfig(**chosen)
