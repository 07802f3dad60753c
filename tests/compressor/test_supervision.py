"""Labels and logit term: corrected targets and temperatures by hand, by slow loops, and by the laws they obey."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from compressor.distiller import Batch, ModelOutput
from compressor.functional import soft_target_kl
from compressor.supervision import (
    Supervision,
    confidence_weights,
    focal_weights,
    image_temperatures,
    label_smooth,
    lesson,
    logit_term,
    probability_shift,
    supervised_terms,
    wrongly_taught,
)

SEEDS = st.integers(0, 9999)
POLICIES = [("flsw", "none"), ("flsw", "l1"), ("cwsm", "none"), ("cwsm", "l1")]


@dataclass(frozen=True, kw_only=True)
class MineConfig(Supervision):
    """What a method of somebody's inherits."""


def draw(*shape: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels_of(rows: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(seed))


def batch(labels: Tensor, note: Callable[[str, Tensor], None] | None = None) -> Batch:
    more: dict[str, Any] = {} if note is None else {"note": note}
    return Batch(labels=labels, views=1, epoch=0, step=0, progress=0.0, **more)


def kd_of(config: Supervision, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return logit_term(config, batch(labels), student, teacher, labels)["kd"]


# Labels and weights


def test_terms_are_weighted_and_the_logit_term_is_left_out_without_a_weight() -> None:
    student, teacher, labels = draw(4, 5), draw(4, 5, seed=1), labels_of(4, 5)
    answers = ModelOutput(logits=student), ModelOutput(logits=teacher)
    terms = supervised_terms(MineConfig(ce_weight=0.3), batch(labels), *answers)
    assert set(terms) == {"ce"}
    assert torch.equal(terms["ce"], 0.3 * F.cross_entropy(student, labels))
    terms = supervised_terms(MineConfig(kd_weight=0.5, kd_temperature=2.0), batch(labels), *answers)
    assert set(terms) == {"ce", "kd"}
    assert torch.equal(terms["kd"], 0.5 * soft_target_kl(student, teacher, 2.0))


def test_without_a_weight_the_teacher_is_not_read() -> None:
    student, labels = ModelOutput(logits=draw(4, 5)), labels_of(4, 5)
    assert set(supervised_terms(MineConfig(), batch(labels), student, ModelOutput(owner="teacher"))) == {"ce"}
    assert logit_term(MineConfig(), batch(labels), draw(4, 5), draw(4, 5), labels) == {}


# Corrected targets (knowledge adjustment)


def test_a_row_is_wrong_where_another_class_is_above_the_label() -> None:
    teacher = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [2.0, 2.0, 0.0], [2.0, 2.0, 0.0]])
    assert wrongly_taught(teacher, torch.tensor([0, 1, 0, 1])).tolist() == [True, False, False, False]


def test_probability_shift_is_worked_by_hand() -> None:
    teacher = torch.tensor([[1.0, 5.0, 3.0], [1.0, 5.0, 3.0], [4.0, 4.0, 0.0]])
    shifted = probability_shift(teacher, torch.tensor([2, 1, 1]))
    assert shifted.tolist() == [[1.0, 3.0, 5.0], [1.0, 5.0, 3.0], [4.0, 4.0, 0.0]]


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, classes=st.integers(2, 6))
def test_probability_shift_makes_the_label_highest_and_keeps_the_values(seed: int, classes: int) -> None:
    teacher, labels = draw(8, classes, seed=seed), labels_of(8, classes, seed)
    shifted = probability_shift(teacher, labels)
    assert torch.equal(shifted.argmax(1), labels)
    assert torch.equal(shifted.sort(1).values, teacher.sort(1).values)
    assert torch.equal(probability_shift(shifted, labels), shifted)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, classes=st.integers(2, 6))
def test_probability_shift_towards_the_class_that_was_highest_undoes_it(seed: int, classes: int) -> None:
    teacher, labels = draw(8, classes, seed=seed), labels_of(8, classes, seed)
    assert torch.equal(probability_shift(probability_shift(teacher, labels), teacher.argmax(1)), teacher)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, temperature=st.floats(0.5, 20))
def test_probability_shift_and_softmax_may_change_places(seed: int, temperature: float) -> None:
    teacher, labels = draw(8, 5, seed=seed), labels_of(8, 5, seed)
    after = probability_shift((teacher / temperature).softmax(1), labels)
    assert torch.allclose((probability_shift(teacher, labels) / temperature).softmax(1), after, atol=1e-15)


@pytest.mark.parametrize("temperature", [4.0, torch.tensor([[1.0], [4.0], [20.0]], dtype=torch.float64)])
def test_label_smooth_is_the_same_distribution_at_every_temperature(temperature: float | Tensor) -> None:
    teacher, labels = torch.tensor([[1.0, 5.0, 3.0]] * 3).double(), torch.tensor([2, 0, 1])
    targets = (label_smooth(teacher, labels, temperature, 0.1) / temperature).softmax(1)
    assert targets[0].tolist() == pytest.approx([0.05, 0.05, 0.9])
    assert targets[1].tolist() == pytest.approx([0.9, 0.05, 0.05])
    plain = (teacher / temperature).softmax(1)
    assert torch.equal(targets[2], plain[2])  # taught right: left alone


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, target=st.sampled_from(["ps", "ls"]))
def test_a_batch_that_is_taught_right_is_left_as_it_is(seed: int, target: Any) -> None:
    student, teacher = draw(6, 4, seed=seed + 1), draw(6, 4, seed=seed)
    targets, temperature = lesson(
        MineConfig(kd_target=target), batch(teacher.argmax(1)), student, teacher, teacher.argmax(1)
    )
    assert torch.equal(targets, teacher)
    assert temperature == 4.0


@pytest.mark.parametrize("target", ["none", "ps", "ls"])
def test_the_teachers_logits_are_not_written_to(target: Any) -> None:
    student, teacher, labels = draw(6, 4), draw(6, 4, seed=1), labels_of(6, 4)
    before = teacher.clone()
    kd_of(MineConfig(kd_weight=1.0, kd_target=target, kd_temperature_policy="flsw"), student, teacher, labels)
    assert torch.equal(teacher, before)


@pytest.mark.parametrize("target", ["ps", "ls"])
def test_the_share_of_corrected_targets_is_noted(target: Any) -> None:
    noted: dict[str, float] = {}
    teacher, labels = torch.eye(4), torch.tensor([0, 1, 3, 3])
    seen = batch(labels, lambda name, value: noted.update({name: value.item()}))
    lesson(MineConfig(kd_target=target), seen, draw(4, 4), teacher, labels)
    assert noted == {"kd_corrected": 0.25}


# Temperatures (dynamic temperature distillation)


def test_focal_weights_are_worked_by_hand() -> None:
    # Cosines 1, 0 and -1.
    student = torch.tensor([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
    teacher = torch.tensor([[5.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert focal_weights(student, teacher, 1.0).tolist() == pytest.approx([0, 1, 2])
    assert focal_weights(student, teacher, 2.0).tolist() == pytest.approx([0, 1, 4])
    assert focal_weights(student, teacher, 0.5).tolist() == pytest.approx([0, 1, 2**0.5])


def test_confidence_weights_are_worked_by_hand() -> None:
    # Highest probabilities 1/2 and 3/4.
    assert confidence_weights(torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])).tolist() == pytest.approx([2, 4 / 3])


def test_temperatures_are_worked_by_hand() -> None:
    # Weights 0 and 1, mean 1/2: 10 + 4 * (1/2 - w).
    assert image_temperatures(torch.tensor([0.0, 1.0]), 10.0, 4.0, 1.0).tolist() == [[12.0], [8.0]]
    assert image_temperatures(torch.tensor([0.0, 1.0]), 10.0, 40.0, 1.0).tolist() == [[30.0], [1.0]]


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, beta=st.floats(0, 100), base=st.floats(0.1, 20), policy=st.sampled_from(POLICIES))
def test_temperatures_have_the_mean_that_was_set_before_the_lower_bound(
    seed: int, beta: float, base: float, policy: tuple[Any, Any]
) -> None:
    weights = weights_of(policy, draw(16, 10, seed=seed), draw(16, 10, seed=seed + 1))
    each = image_temperatures(weights, base, beta, least=-math.inf)
    assert each.shape == (16, 1)
    assert each.mean().item() == pytest.approx(base, rel=1e-9, abs=1e-9)


def weights_of(policy: tuple[str, str], student: Tensor, teacher: Tensor) -> Tensor:
    weights = focal_weights(student, teacher, 1.0) if policy[0] == "flsw" else confidence_weights(student)
    return weights / weights.sum() if policy[1] == "l1" else weights


@pytest.mark.parametrize(("policy", "normalize"), POLICIES)
def test_lesson_gives_each_image_the_temperature_of_its_policy(policy: Any, normalize: Any) -> None:
    student, teacher, labels = draw(6, 4), draw(6, 4, seed=1), labels_of(6, 4)
    config = MineConfig(
        kd_temperature=10.0,
        kd_temperature_policy=policy,
        kd_temperature_normalize=normalize,
        kd_temperature_beta=3.0,
        kd_temperature_min=9.0,
    )
    _, each = lesson(config, batch(labels), student, teacher, labels)
    expected = image_temperatures(weights_of((policy, normalize), student, teacher), 10.0, 3.0, 9.0)
    assert isinstance(each, Tensor)
    assert torch.allclose(each, expected)
    assert each.min().item() >= 9.0


@pytest.mark.parametrize(("policy", "normalize"), [("flsw", "none"), ("cwsm", "l1")])
def test_automatic_normalising_is_that_of_cwsm_alone(policy: Any, normalize: Any) -> None:
    student, teacher, labels = draw(6, 4), draw(6, 4, seed=1), labels_of(6, 4)
    chosen = [
        lesson(
            MineConfig(kd_temperature_policy=policy, kd_temperature_normalize=way),
            batch(labels),
            student,
            teacher,
            labels,
        )[1]
        for way in ("auto", normalize)
    ]
    assert torch.equal(torch.as_tensor(chosen[0]), torch.as_tensor(chosen[1]))


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS, policy=st.sampled_from(["flsw", "cwsm"]), weight=st.floats(0.1, 5))
def test_without_beta_it_is_plain_distillation_bit_for_bit(seed: int, policy: Any, weight: float) -> None:
    student, teacher, labels = draw(6, 4, seed=seed), draw(6, 4, seed=seed + 1), labels_of(6, 4, seed)
    config = MineConfig(kd_weight=weight, kd_temperature_policy=policy, kd_temperature_beta=0.0)
    assert torch.equal(kd_of(config, student, teacher, labels), weight * soft_target_kl(student, teacher, 4.0))


@pytest.mark.parametrize(("policy", "normalize"), POLICIES)
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e4])
@pytest.mark.parametrize("beta", [40.0, 1e6])
def test_no_policy_ever_gives_a_number_that_is_not_one(policy: Any, normalize: Any, scale: float, beta: float) -> None:
    teacher, labels = draw(5, 4, seed=1, scale=scale), labels_of(5, 4)
    student = torch.cat([teacher[:2], -teacher[2:4], torch.zeros(1, 4)]).requires_grad_()
    config = MineConfig(
        kd_weight=1.0,
        kd_temperature_policy=policy,
        kd_temperature_normalize=normalize,
        kd_temperature_beta=beta,
        kd_target="ps",
    )
    loss = kd_of(config, student, teacher, labels)
    torch.autograd.backward(loss)
    assert torch.isfinite(loss)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_one_image_alone_has_the_temperature_that_was_set() -> None:
    config = MineConfig(kd_temperature_policy="cwsm", kd_temperature_normalize="none")
    _, each = lesson(config, batch(torch.tensor([0])), draw(1, 4), draw(1, 4, seed=1), torch.tensor([0]))
    assert torch.as_tensor(each).tolist() == [[4.0]]


def test_the_range_of_the_temperatures_is_noted() -> None:
    noted: dict[str, float] = {}
    labels = labels_of(6, 4)
    seen = batch(labels, lambda name, value: noted.update({name: value.item()}))
    _, each = lesson(MineConfig(kd_temperature_policy="flsw"), seen, draw(6, 4), draw(6, 4, seed=1), labels)
    assert isinstance(each, Tensor)
    assert noted == {
        "kd_temperature_low": each.min().item(),
        "kd_temperature_mean": each.mean().item(),
        "kd_temperature_high": each.max().item(),
    }


# Both together


@pytest.mark.parametrize("target", ["none", "ps", "ls"])
def test_the_corrected_term_equals_a_slow_loop(target: Any) -> None:
    student, teacher, labels = draw(6, 4), draw(6, 4, seed=1), labels_of(6, 4)
    config = MineConfig(kd_weight=0.7, kd_target=target, kd_temperature_policy="flsw", kd_temperature_beta=2.0)
    cosines = [
        sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))
        for one, other in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    mean = sum(1 - cosine for cosine in cosines) / 6
    total = 0.0
    for row, label in enumerate(labels.tolist()):
        temperature = 4.0 + 2.0 * (mean - (1 - cosines[row]))
        ours, theirs = ((each[row] / temperature).softmax(0).tolist() for each in (student, teacher))
        top = max(range(4), key=lambda place, given=theirs: given[place])
        if target == "ps":
            theirs[top], theirs[label] = theirs[label], theirs[top]
        if target == "ls" and top != label:
            theirs = [0.9 if place == label else 0.1 / 3 for place in range(4)]
        total += temperature**2 * sum(p * math.log(p / q) for p, q in zip(theirs, ours, strict=True))
    assert wrongly_taught(teacher, labels).any()
    assert kd_of(config, student, teacher, labels).item() == pytest.approx(0.7 * total / 6)


@pytest.mark.parametrize("target", ["none", "ps", "ls"])
@pytest.mark.parametrize("policy", ["constant", "flsw", "cwsm"])
def test_gradient_is_that_with_targets_and_temperatures_held_still(target: Any, policy: Any) -> None:
    student, teacher, labels = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_(), labels_of(4, 3)
    config = MineConfig(kd_weight=1.0, kd_target=target, kd_temperature_policy=policy, kd_temperature_beta=2.0)
    targets, temperature = lesson(config, batch(labels), student, teacher, labels)
    assert not targets.requires_grad
    assert torch.autograd.gradcheck(lambda logits: soft_target_kl(logits, targets, temperature), student)
    held = torch.autograd.grad(soft_target_kl(student, targets, temperature), student)[0]
    torch.autograd.backward(kd_of(config, student, teacher, labels))
    assert student.grad is not None
    assert torch.equal(student.grad, held)
    assert teacher.grad is None


@pytest.mark.parametrize("target", ["none", "ps", "ls"])
def test_half_precision_is_corrected_in_float32(target: Any) -> None:
    student, teacher, labels = draw(6, 4).half(), draw(6, 4, seed=1).half(), labels_of(6, 4)
    config = MineConfig(kd_weight=1.0, kd_target=target, kd_temperature_policy="flsw")
    loss = kd_of(config, student, teacher, labels)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, kd_of(config, student.float(), teacher.float(), labels))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"kd_temperature": 0.0}, r"mine.kd_temperature must be > 0, got 0.0"),
        ({"kd_target_epsilon": 0.0}, r"mine.kd_target_epsilon must be in \(0, 1\), got 0.0"),
        ({"kd_target_epsilon": 1.0}, r"mine.kd_target_epsilon must be in \(0, 1\), got 1.0"),
        ({"kd_temperature_beta": -1.0}, r"mine.kd_temperature_beta must be >= 0, got -1.0"),
        ({"kd_temperature_gamma": 0.0}, r"mine.kd_temperature_gamma must be > 0, got 0.0"),
        ({"kd_temperature_min": 0.0}, r"mine.kd_temperature_min must be > 0, got 0.0"),
        ({"ce_weight": math.nan}, r"mine.ce_weight must be >= 0, got nan"),
        ({"kd_weight": -0.1}, r"mine.kd_weight must be >= 0, got -0.1"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MineConfig(**chosen)
