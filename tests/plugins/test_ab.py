"""Activation boundaries: each case of the loss by hand, a slow loop, and what belongs to which phase."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, nothing, pair
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import ModelOutput, Needs, NetworkSpec, Pair
from compressor.errors import UnsupportedPair
from compressor.modules import MapRegressor
from compressor_plugins.ab import AB, ABConfig, boundary_loss

SMALL = ((4, 8, 8), (6, 8, 8), (8, 4, 4))
LARGE = ((6, 8, 8), (6, 8, 8), (12, 2, 2))


def shown(name: str, maps: Any) -> NetworkSpec:
    return replace(network(name, maps=maps), preacts=True)


def networks(student: Any = SMALL, teacher: Any = LARGE) -> Pair:
    return pair(shown("small", student), shown("large", teacher))


def ab(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> AB:
    torch.manual_seed(0)
    return AB(ABConfig(**chosen), networks(student, teacher)).double()


def answer(maps: Any, seed: int) -> ModelOutput:
    return ModelOutput(preacts=tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps)))


def init(method: AB, student: ModelOutput, teacher: ModelOutput) -> Tensor:
    found = method.phases()[0].terms(batch(torch.arange(5) % 3), student, teacher)
    assert set(found) == {"ab"}
    return found["ab"]


@pytest.mark.parametrize(
    ("student", "teacher", "missed"),
    [
        (-0.5, 2.0, 2.5),  # on in the teacher, off here: short of the margin of 2 by 2.5
        (1.5, 0.1, 0.5),  # on in both, but not by the margin
        (2.5, 0.1, 0.0),
        (0.5, -3.0, 2.5),  # off in the teacher, on here
        (-1.5, -3.0, 0.5),
        (-2.5, -3.0, 0.0),
        (1.0, 0.0, 3.0),  # zero counts as off
        (2.0, 1.0, 0.0),  # exactly at the margin
        (-2.0, -1.0, 0.0),
    ],
)
def test_a_neuron_counts_by_the_square_of_what_it_misses(student: float, teacher: float, missed: float) -> None:
    ours, theirs = torch.full((1, 1, 1, 1), student), torch.full((1, 1, 1, 1), teacher)
    assert boundary_loss(ours, theirs, margin=2.0).item() == pytest.approx(3 / 1000 * missed**2)


def test_loss_equals_a_slow_loop() -> None:
    student, teacher, total = draw(3, 2, 2, 3), draw(3, 2, 2, 3, seed=1), 0.0
    for ours, theirs in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        if theirs > 0 and ours <= 1:
            total += (ours - 1) ** 2
        elif theirs <= 0 and ours > -1:
            total += (ours + 1) ** 2
    assert boundary_loss(student, teacher, 1.0).item() == pytest.approx(3 / 1000 * total / 3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), margin=st.floats(0.1, 3), scale=st.floats(0.01, 100))
def test_loss_sees_the_teachers_signs_alone_and_is_content_beyond_the_margin(
    seed: int, margin: float, scale: float
) -> None:
    student, teacher = draw(2, 3, 2, 2, seed=seed), draw(2, 3, 2, 2, seed=seed + 1)
    value = boundary_loss(student, teacher, margin).item()
    assert boundary_loss(student, scale * teacher, margin).item() == pytest.approx(value)
    assert boundary_loss(teacher.sign() * (margin + student.abs()), teacher, margin).item() == 0


def test_the_larger_map_is_averaged_down() -> None:
    student, teacher = draw(2, 3, 4, 2), draw(2, 3, 2, 4, seed=1)
    pooled = F.adaptive_avg_pool2d(student, (2, 2)), F.adaptive_avg_pool2d(teacher, (2, 2))
    assert boundary_loss(student, teacher, 1.0).item() == pytest.approx(boundary_loss(*pooled, 1.0).item())


def test_gradient_is_the_derivative() -> None:
    teacher = draw(2, 3, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda student: boundary_loss(student, teacher, 1.0), leaf(2, 3, 4, 2))


def test_a_stage_counts_half_of_the_one_behind_it() -> None:
    maps = ((2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2))
    method, student, teacher = ab(maps, maps, margin=0.5, ab_weight=3.0), answer(maps, 0), answer(maps, 50)
    one, two, three = (boundary_loss(student.preacts[i], teacher.preacts[i], 0.5).item() for i in (1, 2, 3))
    assert init(method, student, teacher).item() == pytest.approx(3 * (one / 4 + two / 2 + three))


def test_connectors_stand_where_shapes_differ_and_end_without_an_activation() -> None:
    method = ab()
    equal, unequal = method.connectors
    assert isinstance(equal, nn.Identity)
    assert isinstance(unequal, MapRegressor)
    assert unequal(draw(5, 8, 4, 4)).shape == (5, 12, 2, 2)
    assert (unequal(draw(5, 8, 4, 4)) < 0).any()
    first, second = method.plan()
    assert (first.adapter, first.parameters) == ("none", 0)
    assert (second.student, second.teacher) == ("stage2 8x4x4", "stage2 12x2x2")
    assert second.parameters == sum(parameter.numel() for parameter in unequal.parameters())


def test_chosen_stages_are_compared() -> None:
    method = ab(stages="0:1,2:2")
    assert [(match.student, match.teacher) for match in method.matches] == [(0, 1), (2, 2)]


def test_first_phase_reaches_student_and_connectors_and_not_the_teacher() -> None:
    method, student, teacher = ab(), answer(SMALL, 0), answer(LARGE, 50)
    init(method, student, teacher).backward()
    assert all(student.preacts[stage].grad is not None for stage in (1, 2))
    assert all(parameter.grad is not None for parameter in method.connectors.parameters())
    assert all(value.grad is None for value in teacher.preacts)


def test_labels_come_after_the_boundaries_and_without_the_teacher() -> None:
    method = ab(init_epochs=4, init_lr=0.3)
    first, last = method.phases()
    assert (first.name, first.trains, first.needs) == ("init", ("student", "connectors"), Needs(preacts=True))
    assert first.schedule is not None
    assert (first.schedule.epochs, first.schedule.lr) == (4, 0.3)
    assert (last.name, last.trains, last.needs, last.schedule) == ("student", ("student",), Needs(teacher=False), None)
    logits, labels = leaf(5, 3), torch.arange(5) % 3
    found = last.terms(batch(labels), ModelOutput(logits=logits), nothing())
    assert set(found) == {"ce"}
    assert found["ce"].item() == pytest.approx(F.cross_entropy(logits, labels).item())


def test_a_weight_of_the_logits_brings_the_teacher_back() -> None:
    last = ab(kd_weight=0.5).phases()[-1]
    assert last.needs == Needs()
    answers = ModelOutput(logits=leaf(5, 3)), ModelOutput(logits=leaf(5, 3, seed=1))
    assert set(last.terms(batch(torch.arange(5) % 3), *answers)) == {"ce", "kd"}


def test_without_a_weight_the_first_phase_is_skipped_and_without_a_rate_it_takes_the_runs() -> None:
    (schedule,) = (phase.schedule for phase in ab(ab_weight=0.0).phases()[:1])
    assert schedule is not None
    assert (schedule.epochs, schedule.lr) == (0, None)


def test_networks_without_pre_activations_are_refused_with_what_to_do() -> None:
    for student, teacher, named in (("cnn", "vit", "vit"), ("vit", "cnn", "vit")):
        specs = [replace(network(name, maps=SMALL), preacts=name == "cnn") for name in (student, teacher)]
        with pytest.raises(UnsupportedPair, match=f"ab needs pre-activations, and {named} shows none") as caught:
            AB.check(ABConfig(), pair(*specs))
        assert "--method at" in str(caught.value.hint)


def test_other_pairs_it_cannot_work_on_are_refused() -> None:
    with pytest.raises(UnsupportedPair, match="small has stages 0 to 2, not 3"):
        AB.check(ABConfig(stages="3:1"), networks())
    with pytest.raises(UnsupportedPair, match="ab needs a teacher"):
        AB.check(ABConfig(), pair(shown("small", SMALL), None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"ab_weight": -1.0}, r"ab.ab_weight must be >= 0, got -1.0"),
        ({"margin": 0.0}, r"ab.margin must be > 0, got 0.0"),
        ({"init_epochs": -1}, r"ab.init_epochs must be >= 0, got -1"),
        ({"init_lr": math.nan}, r"ab.init_lr must be > 0, got nan"),
        ({"stages": "1"}, r"ab.stages must be student:teacher pairs .*, got '1'"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ABConfig(**chosen)
