"""Factor transfer: both forms by hand and by a loop, the paraphraser's phase, and the two networks that translate."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, nothing, pair
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import ModelOutput, Pair
from compressor.errors import UnsupportedPair
from compressor_plugins.ft import FT, FTConfig, Paraphraser, Translator, factor_loss

SMALL = ((4, 8, 8), (6, 4, 4), (6, 2, 2))
LARGE = ((6, 8, 8), (8, 8, 8), (10, 4, 4), (12, 4, 4))


def networks(student: Any = SMALL, teacher: Any = LARGE) -> Pair:
    return pair(network("small", maps=student), network("large", maps=teacher))


def ft(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> FT:
    torch.manual_seed(0)
    return FT(FTConfig(**chosen), networks(student, teacher)).double()


def answer(maps: Any, seed: int) -> ModelOutput:
    stages = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages)


def terms(method: FT, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_forms_and_distances_equal_values_worked_by_hand() -> None:
    # One place, two channels: all of it says (3, 4) / 5 against (1, 0); a map of one place always says 1.
    student, teacher = torch.tensor([[[[3.0]], [[4.0]]]]), torch.tensor([[[[2.0]], [[0.0]]]])
    assert factor_loss(student, teacher, form="factor").item() == pytest.approx((0.4 + 0.8) / 2)
    assert factor_loss(student, teacher, form="factor", distance="squared").item() == pytest.approx((0.16 + 0.64) / 2)
    assert factor_loss(student, teacher, form="attention").item() == 0
    # One channel, two places: squares (1, 0) against (9, 16) / root of 337.
    student, teacher = torch.tensor([[[[-1.0, 0.0]]]]), torch.tensor([[[[3.0, -4.0]]]])
    by_hand = (1 - 9 / 337**0.5 + 16 / 337**0.5) / 2
    assert factor_loss(student, teacher, form="attention").item() == pytest.approx(by_hand)


def test_attention_equals_a_slow_loop() -> None:
    student, teacher = draw(3, 4, 2, 3), draw(3, 4, 2, 3, seed=1)

    def attention(factor: Tensor) -> list[float]:
        means = [sum(factor[c, h, w].item() ** 2 for c in range(4)) / 4 for h in range(2) for w in range(3)]
        length = math.sqrt(sum(mean**2 for mean in means))
        return [mean / length for mean in means]

    total = sum(
        abs(ours - theirs)
        for image in range(3)
        for ours, theirs in zip(attention(student[image]), attention(teacher[image]), strict=True)
    )
    assert factor_loss(student, teacher).item() == pytest.approx(total / (3 * 6))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999),
    scale=st.floats(1e-3, 1e3),
    form=st.sampled_from(["attention", "factor"]),
    distance=st.sampled_from(["absolute", "squared"]),
)
def test_loss_does_not_see_a_positive_multiple(seed: int, scale: float, form: Any, distance: Any) -> None:
    student, teacher = draw(2, 3, 4, 2, seed=seed), draw(2, 3, 4, 2, seed=seed + 1)
    value = factor_loss(student, teacher, form=form, distance=distance).item()
    assert value > 0
    assert factor_loss(scale * student, teacher, form=form, distance=distance).item() == pytest.approx(value)
    assert factor_loss(scale * teacher, teacher, form=form, distance=distance).item() == pytest.approx(0, abs=1e-12)


def test_the_larger_map_is_averaged_first() -> None:
    student, teacher = draw(2, 3, 2, 4), draw(2, 3, 4, 2, seed=1)
    pooled = F.adaptive_avg_pool2d(student, (2, 2)), F.adaptive_avg_pool2d(teacher, (2, 2))
    for form in ("attention", "factor"):
        assert factor_loss(student, teacher, form=form).item() == pytest.approx(factor_loss(*pooled, form=form).item())


@pytest.mark.parametrize("form", ["attention", "factor"])
def test_gradient_is_the_derivative_and_finite_at_a_factor_of_zeros(form: Any) -> None:
    student, teacher = leaf(2, 3, 2, 2), draw(2, 3, 2, 2, seed=1)
    assert torch.autograd.gradcheck(lambda one: factor_loss(one, teacher, form=form), student)
    dark = torch.zeros(2, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    factor_loss(dark, teacher, form=form).backward()
    assert dark.grad is not None
    assert torch.isfinite(dark.grad).all()


def test_paraphraser_narrows_and_widens_again() -> None:
    paraphraser, maps = Paraphraser(12, 5), torch.randn(2, 12, 4, 3)
    assert paraphraser.factor(maps).shape == (2, 5, 4, 3)
    assert paraphraser(maps).shape == maps.shape
    assert not any(isinstance(module, nn.BatchNorm2d) for module in paraphraser.modules())
    assert [tuple(one.weight.shape[:2]) for one in Translator(6, 5).encoder if isinstance(one, nn.Conv2d)] == [
        (6, 6),
        (5, 6),
        (5, 5),
    ]


@pytest.mark.parametrize(("rate", "width"), [(0.5, 6), (0.3, 3), (0.01, 1), (2.0, 24)])
def test_width_of_the_factor_follows_from_the_teachers_channels(rate: float, width: int) -> None:
    method = ft(paraphraser_rate=rate)
    assert method.paraphraser.factor(draw(2, 12, 4, 4)).shape[1] == width
    assert method.translator(draw(2, 6, 2, 2)).shape[1] == width


def test_the_last_maps_are_compared_unless_others_are_set() -> None:
    assert (ft().match.student, ft().match.teacher) == (2, 3)
    assert ft(student=LARGE, teacher=SMALL).match.teacher == 2
    chosen = ft(stages="1:2")
    assert (chosen.match.student, chosen.match.teacher) == (1, 2)
    (link,) = chosen.plan()
    assert (link.student, link.teacher) == ("stage1 6x4x4", "stage2 10x4x4")
    assert link.parameters == sum(parameter.numel() for parameter in chosen.parameters())


def test_paraphraser_belongs_to_the_teacher_and_does_not_look_at_the_student() -> None:
    method = ft(paraphraser_epochs=7, paraphraser_lr=0.2, paraphraser_rate=0.25)
    first, last = method.phases()
    assert (first.name, first.trains, first.artefact, first.runs_student) == (
        "paraphraser",
        ("paraphraser",),
        True,
        False,
    )
    assert first.artefact_settings == ("stages", "paraphraser_rate")
    assert first.schedule is not None
    assert (first.schedule.epochs, first.schedule.lr) == (7, 0.2)
    assert last.trains == ("student", "translator")
    teacher = answer(LARGE, 0)
    (term,) = first.terms(batch(torch.arange(5)), nothing("student"), teacher).values()
    rebuilt = method.paraphraser(teacher.stages[3])
    assert term.item() == pytest.approx((rebuilt - teacher.stages[3]).square().mean().item())
    term.backward()
    assert all(parameter.grad is not None for parameter in method.paraphraser.parameters())
    assert teacher.stages[3].grad is None


def test_without_a_weight_no_paraphraser_is_trained() -> None:
    (schedule,) = (phase.schedule for phase in ft(ft_weight=0.0).phases()[:1])
    assert schedule is not None
    assert schedule.epochs == 0


def test_students_factor_is_compared_with_the_paraphrasers() -> None:
    method, student, teacher = ft(form="factor", ft_weight=3.0), answer(SMALL, 0), answer(LARGE, 50)
    ours, theirs = method.translator(student.stages[2]), method.paraphraser.encoder(teacher.stages[3])
    value = terms(method, student, teacher)["factor"].item()
    assert value == pytest.approx(3 * factor_loss(ours, theirs, form="factor").item())


def test_gradient_reaches_student_and_translator_and_not_the_teacher() -> None:
    method, student, teacher = ft(kd_weight=1.0), answer(SMALL, 0), answer(LARGE, 50)
    method.paraphraser.requires_grad_(False)  # as it is in that phase
    found = terms(method, student, teacher)
    assert set(found) == {"ce", "factor", "kd"}
    torch.stack(list(found.values())).sum().backward()
    assert student.stages[2].grad is not None
    assert all(parameter.grad is not None for parameter in method.translator.parameters())
    assert all(value.grad is None for value in (teacher.logits, *teacher.stages))


def test_pairs_it_cannot_work_on_are_refused() -> None:
    with pytest.raises(UnsupportedPair, match="ft needs feature maps, and small shows none"):
        FT.check(FTConfig(), networks(student=()))
    with pytest.raises(UnsupportedPair, match="large has stages 0 to 3, not 4"):
        FT.check(FTConfig(stages="1:4"), networks())
    with pytest.raises(UnsupportedPair, match=r"ft looks at one stage, and ft\.stages names 2"):
        FT.check(FTConfig(stages="1:1,2:2"), networks())
    with pytest.raises(UnsupportedPair, match="ft needs a teacher"):
        FT.check(FTConfig(), pair(network("small", maps=SMALL), None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"ft_weight": -1.0}, r"ft.ft_weight must be >= 0, got -1.0"),
        ({"paraphraser_rate": 0.0}, r"ft.paraphraser_rate must be > 0, got 0.0"),
        ({"paraphraser_epochs": -1}, r"ft.paraphraser_epochs must be >= 0, got -1"),
        ({"paraphraser_lr": math.nan}, r"ft.paraphraser_lr must be > 0, got nan"),
        ({"stages": "last"}, r"ft.stages must be student:teacher pairs .*, got 'last'"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FTConfig(**chosen)
