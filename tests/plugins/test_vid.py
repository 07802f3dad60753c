"""Variational information distillation: the likelihood by hand and by torch's own, its variance, who learns."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import ModelOutput
from compressor.errors import UnsupportedPair
from compressor_plugins.vid import VID, GaussianGuess, VIDConfig, gaussian_loss, softplus_inverse

SMALL = ((4, 8, 8), (6, 8, 8), (8, 4, 4), (10, 2, 2))
LARGE = ((5, 8, 8), (12, 8, 8), (16, 4, 4), (20, 2, 2))


def vid(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> VID:
    return VID(VIDConfig(**chosen), pair(network("small", maps=student), network("large", maps=teacher))).double()


def answer(maps: Any, seed: int) -> ModelOutput:
    stages = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages)


def terms(method: VID, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_loss_of_two_elements_is_worked_by_hand() -> None:
    # Errors 1 and 3 at variance 2: (1/2 + ln 2) / 2 and (9/2 + ln 2) / 2, and their mean.
    mean, target = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[[[2.0, 3.0]]]])
    assert gaussian_loss(mean, torch.tensor([2.0]), target).item() == pytest.approx((5 + 2 * math.log(2)) / 4)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), variance=st.floats(1e-3, 1e3))
def test_loss_is_torchs_own_without_the_constant(seed: int, variance: float) -> None:
    mean, target = draw(2, 3, 2, 2, seed=seed), draw(2, 3, 2, 2, seed=seed + 1)
    each = variance * torch.tensor([1.0, 2.0, 0.5]).double()
    expected = F.gaussian_nll_loss(mean, target, each[:, None, None].expand_as(mean))
    assert torch.isclose(gaussian_loss(mean, each, target), expected)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_no_variance_is_likelier_than_the_mean_squared_error_of_its_channel(seed: int) -> None:
    mean, target = draw(2, 3, 2, 2, seed=seed), draw(2, 3, 2, 2, seed=seed + 1)
    best = (mean - target).square().mean((0, 2, 3))
    other = best * draw(3, seed=seed + 2).exp()
    assert gaussian_loss(mean, best, target) <= gaussian_loss(mean, other, target)


def test_gradients_of_the_loss_are_the_derivatives() -> None:
    target = draw(2, 3, 2, 2, seed=1)
    variance = draw(3, seed=2).exp().requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: gaussian_loss(*given, target), (leaf(2, 3, 2, 2), variance))


@settings(max_examples=30, deadline=None)
@given(value=st.floats(1e-6, 1e4))
def test_softplus_inverse_is_undone_by_softplus(value: float) -> None:
    assert F.softplus(torch.tensor(softplus_inverse(value)).double(), threshold=40).item() == pytest.approx(value)


@pytest.mark.parametrize("initial", [0.5, 5.0, 1000.0])
def test_every_channel_starts_at_the_variance_that_is_set(initial: float) -> None:
    variance = GaussianGuess(3, 4, initial, least_variance=1e-5).variance
    assert variance.tolist() == pytest.approx([initial] * 4)


@pytest.mark.parametrize(("log_scale", "variance"), [(-1000.0, 1e-5), (0.0, math.log(2) + 1e-5), (1000.0, 1000.0)])
def test_variance_stays_finite_and_above_the_least_wherever_its_parameter_goes(
    log_scale: float, variance: float
) -> None:
    # log(1 + exp(1000)) overflows in the plain form that the benchmark uses.
    guess = GaussianGuess(3, 4, 5.0, least_variance=1e-5)
    nn.init.constant_(guess.log_scale, log_scale)
    torch.autograd.backward(guess(draw(2, 3, 4, 4).float(), draw(2, 4, 4, 4, seed=1).float()))
    assert guess.variance.tolist() == pytest.approx([variance] * 4)
    assert guess.log_scale.grad is not None
    assert torch.isfinite(guess.log_scale.grad).all()


def test_term_is_the_weighted_sum_over_all_stages_but_the_stem() -> None:
    method, student, teacher = vid(vid_weight=3.0), answer(SMALL, 0), answer(LARGE, 50)
    expected = sum(
        gaussian_loss(guess.mean(student.stages[at]), guess.variance, teacher.stages[at])
        for guess, at in zip(guesses(method), (1, 2, 3), strict=True)
    )
    assert torch.isclose(terms(method, student, teacher)["vid"], 3 * expected)
    assert len(vid(stages="2:3").guesses) == 1


def guesses(method: VID) -> list[GaussianGuess]:
    return [module for module in method.modules() if isinstance(module, GaussianGuess)]


def test_larger_maps_are_averaged_before_the_guess() -> None:
    guess, teacher = GaussianGuess(3, 4, 5.0, 1e-5).double(), draw(2, 4, 2, 2, seed=1)
    large = draw(2, 3, 4, 4)
    assert torch.equal(guess(large, teacher), guess(F.avg_pool2d(large, 2), teacher))
    assert torch.equal(
        guess(large, teacher), gaussian_loss(guess.mean(F.avg_pool2d(large, 2)), guess.variance, teacher)
    )


@pytest.mark.parametrize("teacher", [((4, 9, 9), (7, 5, 3)), ((4, 16, 16), (3, 1, 1)), ((4, 7, 7), (8, 3, 9))])
def test_maps_of_any_sizes_can_be_compared(teacher: Any) -> None:
    student = ((4, 8, 8), (6, 4, 4))
    value = terms(vid(student, teacher), answer(student, 0), answer(teacher, 50))["vid"]
    assert torch.isfinite(value)


def test_gradient_reaches_student_layers_and_variances_and_not_the_teacher() -> None:
    method, student, teacher = vid(kd_weight=0.5), answer(SMALL, 0), answer(LARGE, 50)
    found = terms(method, student, teacher)
    assert set(found) == {"ce", "vid", "kd"}
    torch.autograd.backward(torch.stack(list(found.values())).sum())
    assert all(stage.grad is not None and stage.grad.any() for stage in student.stages[1:])
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in method.parameters())
    assert all(value.grad is None for value in (teacher.logits, *teacher.stages))


def test_what_the_guesses_learn_is_trained_with_the_student() -> None:
    (phase,) = vid().phases()
    assert phase.trains == ("student", "guesses")
    names = {name.split(".", 2)[2] for name, _ in vid().named_parameters()}
    assert names == {"log_scale", "mean.0.weight", "mean.2.weight", "mean.4.weight"}


def test_plan_counts_what_the_guesses_add() -> None:
    first, *others = vid().plan()
    assert (first.student, first.teacher) == ("stage1 6x8x8", "stage1 12x8x8")
    assert first.adapter == "three 1x1 convolutions and a variance a channel"
    assert first.parameters == 6 * 12 + 12 * 12 + 12 * 12 + 12
    assert len(others) == 2


def test_pairs_that_cannot_work_are_refused() -> None:
    flat, large = network("flat"), network("large", maps=LARGE)
    with pytest.raises(UnsupportedPair, match="vid needs feature maps, and flat shows none"):
        VID.check(VIDConfig(), pair(flat, large))
    with pytest.raises(UnsupportedPair, match="small has stages 0 to 3, not 7"):
        VID.check(VIDConfig(stages="7:1"), pair(network("small", maps=SMALL), large))
    with pytest.raises(UnsupportedPair, match="vid needs a teacher"):
        VID.check(VIDConfig(), pair(large, None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"vid_weight": -1.0}, "vid.vid_weight must be >= 0, got -1.0"),
        ({"least_variance": 0.0}, "vid.least_variance must be > 0, got 0.0"),
        (
            {"initial_variance": 0.1, "least_variance": 0.1},
            "vid.initial_variance must be > vid.least_variance = 0.1, got 0.1",
        ),
        ({"stages": "x"}, "vid.stages must be student:teacher pairs"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VIDConfig(**chosen)
