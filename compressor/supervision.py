"""What every method may add to its own terms: the labels, and the teacher's class distribution (the logit term).

The published tables of one method differ in exactly this, so it is the same few settings everywhere. They include the
two corrections of the teacher's lesson by Wen, Lai and Qian 2021, arXiv:1911.07471: of targets that are wrong
(`kd_target`) and of targets that say too little (`kd_temperature_policy`).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, ModelOutput, Terms
from compressor.functional import soft_target_kl, wide

Temperature = float | Tensor
"""T > 0 for the whole batch, or one for each row (B, 1)."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """How the teacher's logits are read: the settings that every method with a logit term inherits."""

    kd_temperature: float = 4.0  # > 0, of the logit term
    kd_target: Literal["none", "ps", "ls"] = "none"  # what is done to targets whose top class is not the label
    kd_target_epsilon: float = 0.1  # in (0, 1), what `ls` leaves to the other classes together
    kd_temperature_policy: Literal["constant", "flsw", "cwsm"] = "constant"  # a temperature for each image, or one
    kd_temperature_beta: float = 40.0  # >= 0, how far a policy moves the temperature
    kd_temperature_gamma: float = 1.0  # > 0, power of flsw
    kd_temperature_normalize: Literal["auto", "none", "l1"] = "auto"  # of a policy's weights; auto: l1 for cwsm alone
    kd_temperature_min: float = 1.0  # > 0, no policy goes below

    def __post_init__(self) -> None:
        check_ranges(
            self,
            positive=("kd_temperature", "kd_temperature_gamma", "kd_temperature_min"),
            not_negative=("kd_temperature_beta",),
            inside=("kd_target_epsilon",),
        )


@dataclass(frozen=True, kw_only=True)
class Supervision(Lesson):
    """Settings of the labels' term ``ce`` and of the logit term ``kd``, which most methods inherit."""

    ce_weight: float = 1.0  # >= 0, of the labels
    kd_weight: float = 0.0  # >= 0, of the teacher's class distribution; 0 leaves the term out

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("ce_weight", "kd_weight"))


def supervised_terms(config: Supervision, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
    """Return ``ce``, and ``kd`` where it has a weight, for methods that look at one view of each image."""
    return {
        "ce": config.ce_weight * F.cross_entropy(student.logits, batch.labels),
        **(logit_term(config, batch, student.logits, teacher.logits, batch.labels) if config.kd_weight else {}),
    }


def logit_term(
    config: Supervision, batch: Batch, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor
) -> Terms:
    """Return ``{"kd": kd_weight * soft_target_kl}`` with the lesson that the settings ask for, or nothing at weight 0.

    Args:
        student_logits, teacher_logits: (B, K). labels: (B,).
    """
    if config.kd_weight == 0:
        return {}
    targets, temperature = lesson(config, batch, student_logits, teacher_logits, labels)
    return {"kd": config.kd_weight * soft_target_kl(student_logits, targets, temperature)}


def lesson(
    config: Lesson, batch: Batch, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor
) -> tuple[Tensor, Temperature]:
    """Return the teacher's logits and the temperature as the settings correct them; the plain ones by default.

    What was done is noted in the log: the share of corrected targets, and the range of the temperature.

    Args:
        student_logits, teacher_logits: (B, K). labels: (B,). No gradient flows through any of them here.

    Returns:
        logits (B, K) whose softmax at that temperature is the target; T as a number or (B, 1).
    """
    student, teacher = wide(student_logits.detach()), wide(teacher_logits.detach())
    temperature = _temperature(config, batch, student, teacher)
    if config.kd_target == "none":
        return teacher, temperature
    wrong = wrongly_taught(teacher, labels)
    batch.note("kd_corrected", wrong.float().mean())
    if config.kd_target == "ps":
        return probability_shift(teacher, labels), temperature
    return label_smooth(teacher, labels, temperature, config.kd_target_epsilon), temperature


def wrongly_taught(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Mark the rows (B,) whose label is not among the highest logits (B, K); a tie at the top counts as right."""
    own = teacher_logits.gather(1, labels[:, None])[:, 0]
    return own < teacher_logits.amax(1)


def probability_shift(teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Exchange the highest logit and the label's in every wrongly taught row; others stay as they are.

    The same on probabilities, as softmax keeps the order.

    Args:
        teacher_logits: (B, K). labels: (B,).

    Returns:
        (B, K), a copy; the same values in each row, the label's the highest.

    Source: Wen et al. 2021, arXiv:1911.07471, "probability shift".
    """
    top, at = teacher_logits.max(1, keepdim=True)
    own = teacher_logits.gather(1, labels[:, None])
    wrong = own < top
    shifted = teacher_logits.scatter(1, at, torch.where(wrong, own, top))
    return shifted.scatter(1, labels[:, None], top)


def label_smooth(teacher_logits: Tensor, labels: Tensor, temperature: Temperature, epsilon: float) -> Tensor:
    """Put ``1 - epsilon`` on the label and share ``epsilon`` among the others, in every wrongly taught row.

    Args:
        teacher_logits: (B, K), K >= 2. labels: (B,). temperature: at which the targets will be read.
        epsilon: in (0, 1).

    Returns:
        (B, K) logits whose softmax at ``temperature`` is that distribution; a copy.

    Source: Wen et al. 2021, arXiv:1911.07471, "label smooth"; the paper's epsilon is not known.
    """
    others = math.log(epsilon / (teacher_logits.shape[1] - 1))
    smooth = torch.full_like(teacher_logits, others).scatter(1, labels[:, None], math.log(1 - epsilon))
    return torch.where(wrongly_taught(teacher_logits, labels)[:, None], smooth * temperature, teacher_logits)


def focal_weights(student_logits: Tensor, teacher_logits: Tensor, gamma: float) -> Tensor:
    """Weigh images (B,) by how little the two agree: ``(1 - cosine of the logits) ** gamma``, in [0, 2 ** gamma].

    Source: Wen et al. 2021, arXiv:1911.07471, FLSW; on logits of length 1, as the re-implementations read it.
    """
    cosine = F.cosine_similarity(student_logits, teacher_logits, dim=1)
    return (1 - cosine).clamp(min=0) ** gamma


def confidence_weights(student_logits: Tensor) -> Tensor:
    """Weigh images (B,) by the student's doubt: one over its highest probability, in [1, K].

    Source: Wen et al. 2021, arXiv:1911.07471, CWSM.
    """
    return 1 / student_logits.softmax(1).amax(1)


def image_temperatures(weights: Tensor, temperature: float, beta: float, least: float) -> Tensor:
    """Lower the temperature of images that weigh more than the batch's mean, raise that of others.

    ``T_x = T + beta * (mean(w) - w_x)``, not below ``least``. The mean is over the rows given: with several processes
    or micro-batches, those of this part of the batch.

    Args:
        weights: (B,) >= 0. temperature: T > 0. beta: >= 0. least: > 0.

    Returns:
        (B, 1); their mean is T before the lower bound.

    Source: Wen et al. 2021, arXiv:1911.07471, dynamic temperature distillation.
    """
    return (temperature + beta * (weights.mean() - weights)).clamp(min=least)[:, None]


def _temperature(config: Lesson, batch: Batch, student: Tensor, teacher: Tensor) -> Temperature:
    if config.kd_temperature_policy == "constant" or config.kd_temperature_beta == 0:
        return config.kd_temperature
    focal = config.kd_temperature_policy == "flsw"
    weights = focal_weights(student, teacher, config.kd_temperature_gamma) if focal else confidence_weights(student)
    if config.kd_temperature_normalize == "l1" or (config.kd_temperature_normalize == "auto" and not focal):
        weights = weights / weights.sum().clamp(min=1e-12)
    each = image_temperatures(weights, config.kd_temperature, config.kd_temperature_beta, config.kd_temperature_min)
    batch.note("kd_temperature_low", each.min())
    batch.note("kd_temperature_mean", each.mean())
    batch.note("kd_temperature_high", each.max())
    return each
