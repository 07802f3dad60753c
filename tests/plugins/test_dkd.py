"""DKD: both terms by hand and by a loop, how they make up the whole divergence, sure networks, and the warm-up."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor
from torch.nn import functional as F

from compressor.distiller import ModelOutput
from compressor.errors import UnsupportedPair
from compressor.functional import risen_share, soft_target_kl
from compressor_plugins.dkd import DKD, DKDConfig, other_classes_kl, target_class_kl


def dkd(classes: int = 4, **chosen: Any) -> DKD:
    return DKD(DKDConfig(**chosen), pair(network(classes=classes), network(classes=classes)))


def terms(method: DKD, student: Tensor, teacher: Tensor, **more: Any) -> dict[str, Tensor]:
    seen = batch(torch.arange(len(student)) % student.shape[1], **more)
    return method.terms(seen, ModelOutput(logits=student), ModelOutput(logits=teacher))


def test_both_terms_equal_values_worked_by_hand() -> None:
    # At T = 2 the teacher says (1/2, 1/3, 1/6), of which class 0 is right; the student is undecided.
    teacher = 2 * torch.tensor([[3.0, 2.0, 1.0]]).log()
    answers = (torch.zeros(1, 3), teacher, torch.tensor([0]), 2.0)
    right = 1 / 2 * math.log((1 / 2) / (1 / 3)) + 1 / 2 * math.log((1 / 2) / (2 / 3))
    others = 2 / 3 * math.log((2 / 3) / (1 / 2)) + 1 / 3 * math.log((1 / 3) / (1 / 2))
    assert target_class_kl(*answers).item() == pytest.approx(4 * right)
    assert other_classes_kl(*answers).item() == pytest.approx(4 * others)


def test_both_terms_equal_slow_loops() -> None:
    student, teacher, labels, temperature = draw(5, 4), draw(5, 4, seed=1), torch.tensor([0, 3, 1, 2, 3]), 1.5
    right = others = 0.0
    for row, label in enumerate(labels.tolist()):
        ours, theirs = (softmax(one[row].tolist(), temperature) for one in (student, teacher))
        for here, there in ((ours[label], theirs[label]), (1 - ours[label], 1 - theirs[label])):
            right += there * math.log(there / here)
        for column in set(range(4)) - {label}:
            here, there = ours[column] / (1 - ours[label]), theirs[column] / (1 - theirs[label])
            others += there * math.log(there / here)
    answers = (student, teacher, labels, temperature)
    assert target_class_kl(*answers).item() == pytest.approx(temperature**2 * right / 5)
    assert other_classes_kl(*answers).item() == pytest.approx(temperature**2 * others / 5)


def softmax(logits: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in logits]
    return [power / sum(powers) for power in powers]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), temperature=st.floats(0.5, 8), classes=st.integers(3, 7))
def test_the_whole_divergence_is_the_first_term_and_the_second_by_what_the_teacher_leaves(
    seed: int, temperature: float, classes: int
) -> None:
    # Equation 5 of the paper, for one image: KL = TCKD + (1 - p of the right class) * NCKD.
    student, teacher = draw(1, classes, seed=seed), draw(1, classes, seed=seed + 1)
    label = torch.tensor([seed % classes])
    left = 1 - (teacher / temperature).softmax(1)[0, label].item()
    answers = (student, teacher, label, temperature)
    together = target_class_kl(*answers) + left * other_classes_kl(*answers)
    assert together.item() == pytest.approx(soft_target_kl(student, teacher, temperature).item())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), shift=st.floats(-20, 20))
def test_second_term_does_not_see_the_right_class_nor_a_shift_of_the_others(seed: int, shift: float) -> None:
    student, teacher, labels = draw(4, 5, seed=seed), draw(4, 5, seed=seed + 1), torch.tensor([4, 0, 2, 1])
    moved = (student + shift).scatter(1, labels[:, None], 7.0)
    expected = other_classes_kl(student, teacher, labels, 2.0).item()
    assert other_classes_kl(moved, teacher, labels, 2.0).item() == pytest.approx(expected)


def test_temperatures_of_images_are_those_of_one_image_each() -> None:
    student, teacher, labels = draw(3, 4), draw(3, 4, seed=1), torch.tensor([2, 0, 1])
    each = torch.tensor([[1.0], [2.0], [5.0]], dtype=torch.float64)
    for term in (target_class_kl, other_classes_kl):
        rows = [term(student[[i]], teacher[[i]], labels[[i]], each[i].item()) for i in range(3)]
        assert term(student, teacher, labels, each).item() == pytest.approx(torch.stack(rows).mean().item())


@pytest.mark.parametrize("gap", [1e3, 1e6])
def test_terms_of_networks_that_are_sure_are_finite_where_a_plain_softmax_gives_infinity(gap: float) -> None:
    # float32, T = 4: the logarithm of the softmax's zero is what the authors' code takes here.
    student = torch.tensor([[gap, 0.0, 1.0], [0.0, gap, 1.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, gap, 2.0], [0.0, gap, 2.0]])
    assert (student / 4).softmax(1)[0, 1].log().item() == -math.inf
    found = terms(dkd(3), student, teacher)
    (found["tckd"] + found["nckd"]).backward()
    assert all(torch.isfinite(term) for term in found.values())
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_a_student_like_its_teacher_has_nothing_to_learn_from_it() -> None:
    logits = draw(4, 5)
    found = terms(dkd(5), logits, logits)
    assert found["tckd"].item() == found["nckd"].item() == 0
    assert torch.equal(found["ce"], F.cross_entropy(logits, torch.arange(4)))


@pytest.mark.parametrize(
    ("epoch", "warmup_epochs", "share"),
    [(0, 20, 1 / 20), (9, 20, 1 / 2), (19, 20, 1), (20, 20, 1), (0, 0, 1), (0, 1, 1)],
)
def test_both_weights_rise_over_the_first_epochs(epoch: int, warmup_epochs: int, share: float) -> None:
    student, teacher = draw(4, 5), draw(4, 5, seed=1)
    seen = batch(torch.arange(4))
    late = type(seen)(labels=seen.labels, views=1, epoch=epoch, step=0, progress=0.0)
    answers = ModelOutput(logits=student), ModelOutput(logits=teacher)
    method = dkd(5, warmup_epochs=warmup_epochs)
    found, whole = method.terms(late, *answers), dkd(5, warmup_epochs=0).terms(seen, *answers)
    assert risen_share(epoch, warmup_epochs) == pytest.approx(share)
    for name, factor in {"tckd": share, "nckd": share, "ce": 1}.items():
        assert found[name].item() == pytest.approx(factor * whole[name].item())


def test_weights_are_those_of_the_settings() -> None:
    student, teacher, labels = draw(4, 5), draw(4, 5, seed=1), torch.arange(4)
    found = terms(dkd(5, tckd_weight=3.0, nckd_weight=0.5, kd_temperature=2.0, warmup_epochs=0), student, teacher)
    assert found["tckd"].item() == pytest.approx(3 * target_class_kl(student, teacher, labels, 2.0).item())
    assert found["nckd"].item() == pytest.approx(0.5 * other_classes_kl(student, teacher, labels, 2.0).item())


def test_a_wrong_teacher_is_corrected_where_the_settings_ask_for_it() -> None:
    # The teacher of image 0 holds class 1 for right; exchanged with class 0 it is as if it had known.
    student, wrong = draw(1, 3), torch.tensor([[1.0, 4.0, 2.0]], dtype=torch.float64)
    right = torch.tensor([[4.0, 1.0, 2.0]], dtype=torch.float64)
    corrected = terms(dkd(3, kd_target="ps"), student, wrong)
    for name, value in terms(dkd(3), student, right).items():
        assert corrected[name].item() == pytest.approx(value.item())
    assert terms(dkd(3), student, wrong)["nckd"].item() != pytest.approx(corrected["nckd"].item())


def test_the_logit_term_is_there_only_with_a_weight() -> None:
    student, teacher = draw(4, 4), draw(4, 4, seed=1)
    assert set(terms(dkd(), student, teacher)) == {"ce", "tckd", "nckd"}
    assert set(terms(dkd(kd_weight=0.5), student, teacher)) == {"ce", "kd", "tckd", "nckd"}


def test_gradient_is_the_derivative_and_reaches_the_student_alone() -> None:
    student, teacher, labels = leaf(3, 4), leaf(3, 4, seed=1), torch.tensor([3, 0, 1])
    for term in (target_class_kl, other_classes_kl):
        assert torch.autograd.gradcheck(lambda logits, term=term: term(logits, teacher.detach(), labels, 2.0), student)
    torch.stack(list(terms(dkd(kd_weight=1.0), student, teacher).values())).sum().backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_two_classes_are_refused_with_what_to_type() -> None:
    two = pair(network(classes=2), network(classes=2))
    with pytest.raises(UnsupportedPair, match="dkd tells the wrong classes apart, and of 2 classes") as caught:
        DKD.check(DKDConfig(), two)
    assert caught.value.hint == "--method kd"
    DKD.check(DKDConfig(), pair(network(classes=3), network(classes=3)))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"tckd_weight": -1.0}, r"dkd.tckd_weight must be >= 0, got -1.0"),
        ({"nckd_weight": math.nan}, r"dkd.nckd_weight must be >= 0, got nan"),
        ({"warmup_epochs": -1}, r"dkd.warmup_epochs must be >= 0, got -1"),
        ({"kd_temperature": 0.0}, r"dkd.kd_temperature must be > 0, got 0.0"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DKDConfig(**chosen)
