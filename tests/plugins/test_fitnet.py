"""Hints: which maps are compared, by which regressor, to what value."""

import math
from typing import Any

import pytest
import torch
from made_up import batch, leaf, network, pair
from torch import Tensor, nn

from compressor.distiller import ModelOutput
from compressor.errors import UnsupportedPair
from compressor.matching import StageMatch
from compressor_plugins.fitnet import FitNet, FitNetConfig, hint_loss

FOUR = ((4, 8, 8), (6, 8, 8), (8, 4, 4), (10, 2, 2))
FIVE = ((4, 8, 8), (6, 8, 8), (12, 4, 4), (16, 2, 2), (20, 1, 1))


def fitnet(student: Any = FOUR, teacher: Any = FIVE, **settings: Any) -> FitNet:
    return FitNet(FitNetConfig(**settings), pair(network(maps=student), network(maps=teacher))).double()


def answer(maps: Any, seed: int) -> ModelOutput:
    stages = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages)


def terms(method: FitNet, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_the_middle_maps_are_compared_which_are_number_two_of_cifar_networks() -> None:
    # Four maps (stem and three stages) as ResNets show, five as VGG: 2 both ways, as the benchmark counts.
    assert fitnet().hints == (StageMatch(2, 2),)
    assert fitnet(stages="1:3").hints == (StageMatch(1, 3),)
    assert fitnet(stages="1:1, 3:4").hints == (StageMatch(1, 1), StageMatch(3, 4))


def test_hint_is_a_mean_over_all_elements_of_the_two_maps() -> None:
    student, teacher = torch.tensor([[[[1.0, 2.0]]]]), torch.tensor([[[[4.0, 0.0]]]])
    assert hint_loss(student, teacher).item() == (9 + 4) / 2


def test_hint_equals_a_slow_loop_over_elements() -> None:
    method, student, teacher = fitnet(), answer(FOUR, 0), answer(FIVE, 50)
    regressed = method.regressors[0](student.stages[2])
    total = sum(
        (one - other) ** 2
        for one, other in zip(regressed.flatten().tolist(), teacher.stages[2].flatten().tolist(), strict=True)
    )
    assert terms(method, student, teacher)["hint"].item() == pytest.approx(100 * total / (5 * 12 * 4 * 4))


def test_a_regressor_that_predicts_the_map_has_nothing_to_learn() -> None:
    method = fitnet(teacher=FOUR)
    method.regressors[0] = nn.Identity()
    shared = answer(FOUR, 0)
    assert terms(method, shared, shared)["hint"].item() == 0


def test_several_hints_are_added() -> None:
    student, teacher, both = answer(FOUR, 0), answer(FIVE, 50), fitnet(stages="1:1,2:2")
    each = [
        hint_loss(regressor(student.stages[at]), teacher.stages[at])
        for regressor, at in zip(both.regressors, (1, 2), strict=True)
    ]
    assert torch.isclose(terms(both, student, teacher)["hint"], 100 * (each[0] + each[1]))


def test_plan_counts_the_regressor() -> None:
    (link,) = fitnet().plan()
    assert (link.student, link.teacher) == ("stage2 8x4x4", "stage2 12x4x4")
    assert link.parameters == (8 * 12 + 12) + 2 * 12  # a 1x1 convolution and batch normalisation


def test_the_logit_term_is_there_only_with_a_weight() -> None:
    student, teacher = answer(FOUR, 0), answer(FIVE, 50)
    assert set(terms(fitnet(), student, teacher)) == {"ce", "hint"}
    assert set(terms(fitnet(kd_weight=1.0), student, teacher)) == {"ce", "hint", "kd"}


def test_gradient_reaches_student_and_regressor_and_not_the_teacher() -> None:
    method, student, teacher = fitnet(kd_weight=1.0), answer(FOUR, 0), answer(FIVE, 50)
    torch.stack(list(terms(method, student, teacher).values())).sum().backward()
    assert student.stages[2].grad is not None
    assert all(parameter.grad is not None for parameter in method.regressors.parameters())
    assert all(value.grad is None for value in (teacher.logits, *teacher.stages))


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((8, 3, 3), (12, 7, 7)), ((8, 5, 9), (12, 7, 4)), ((8, 14, 14), (6, 7, 7)), ((8, 6, 2), (6, 12, 4))],
)
def test_maps_of_any_sizes_can_be_compared(student: tuple[int, int, int], teacher: tuple[int, int, int]) -> None:
    method = fitnet(student=(student,), teacher=(teacher,), stages="0:0")
    value = terms(method, answer((student,), 0), answer((teacher,), 50))["hint"]
    assert math.isfinite(value.item())


def test_a_map_that_cannot_be_reached_is_averaged_down() -> None:
    regressed, teacher = torch.zeros(1, 1, 1, 1), torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert hint_loss(regressed, teacher).item() == 3.0**2


def test_stages_that_are_not_there_are_refused_with_what_to_type() -> None:
    two = pair(network("small", maps=FOUR), network("large", maps=FIVE))
    with pytest.raises(UnsupportedPair, match="small has stages 0 to 3, not 4") as caught:
        FitNet.check(FitNetConfig(stages="4:2"), two)
    assert caught.value.hint == "--set method.fitnet.stages=3:4"
    with pytest.raises(UnsupportedPair, match="large has stages 0 to 4, not 5"):
        FitNet.check(FitNetConfig(stages="2:5"), two)
    with pytest.raises(UnsupportedPair, match="fitnet needs feature maps, and flat shows none"):
        FitNet.check(FitNetConfig(), pair(network("flat"), network("large", maps=FIVE)))
    with pytest.raises(UnsupportedPair, match="fitnet needs a teacher"):
        FitNet.check(FitNetConfig(), pair(network("small", maps=FOUR), None))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kd_temperature": 0.0}, "fitnet.kd_temperature must be > 0, got 0.0"),
        ({"hint_weight": -1.0}, "fitnet.hint_weight must be >= 0, got -1.0"),
        ({"stages": "-1:2"}, "fitnet.stages must be student:teacher pairs such as \"1:1,2:3\", got '-1:2'"),
        ({"stages": "1:1,1:2"}, "fitnet.stages names a stage of the student twice: '1:1,1:2'"),
    ],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FitNetConfig(**settings)
