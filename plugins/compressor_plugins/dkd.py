"""DKD: what the teacher says of the right class and what it says of the others are two terms, each with its weight."""

from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, ModelOutput, Pair, Terms
from compressor.errors import UnsupportedPair
from compressor.functional import risen_share, soft_target_kl, wide
from compressor.supervision import Supervision, Temperature, lesson, supervised_terms


@dataclass(frozen=True, kw_only=True)
class DKDConfig(Supervision):
    """Settings of DKD; the defaults are those of the authors' CIFAR-100 code. The temperature is `kd_temperature`."""

    tckd_weight: float = 1.0  # >= 0, of the right class against all others together (alpha)
    nckd_weight: float = 8.0  # >= 0, of the others among themselves (beta)
    warmup_epochs: int = 20  # >= 0, over which both weights rise in equal steps

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("tckd_weight", "nckd_weight", "warmup_epochs"))


class DKD(Distiller[DKDConfig]):
    """Zhao et al., CVPR 2022, arXiv:2203.08679; needs logits of at least three classes."""

    name = "dkd"
    Config = DKDConfig
    capturable = "epoch"
    zero_when_equal = ("tckd", "nckd")

    @classmethod
    def check(cls, config: DKDConfig, pair: Pair) -> None:
        """Refuse two classes: beside the right one there is nothing to tell apart."""
        if pair.num_classes < 3:
            raise UnsupportedPair(
                f"dkd tells the wrong classes apart, and of {pair.num_classes} classes at most one is wrong",
                hint="--method kd",
            )

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``tckd``, ``nckd`` and, with a weight, ``kd``."""
        config = self.config
        targets, temperature = lesson(config, batch, student.logits, teacher.logits, batch.labels)
        answers = (student.logits, targets, batch.labels, temperature)
        risen = risen_share(batch.epoch, config.warmup_epochs)
        return {
            **supervised_terms(config, batch, student, teacher),
            "tckd": risen * config.tckd_weight * target_class_kl(*answers),
            "nckd": risen * config.nckd_weight * other_classes_kl(*answers),
        }


def target_class_kl(student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: Temperature) -> Tensor:
    """Compare how much probability both networks leave to the right class, and so to all others together.

    Args:
        student_logits: (B, K), with gradient. teacher_logits: (B, K), detached. labels: (B,) right classes.
        temperature: T > 0, or one for each row (B, 1).

    Returns:
        0-d tensor, nats times T**2, mean over the batch, >= 0; 0 when both leave the same. Finite however sure a
        network is, as the probabilities are only handled as logarithms.

    Source: Zhao et al. 2022, section 3.1, TCKD.
    """
    student = _right_or_not(student_logits, labels, temperature)
    return soft_target_kl(student, _right_or_not(teacher_logits.detach(), labels, temperature), temperature)


def other_classes_kl(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: Temperature
) -> Tensor:
    """Compare how both networks share out what they leave to the wrong classes.

    Arguments and result as `target_class_kl`; 0 when the logits of the wrong classes differ by a constant alone.

    Source: Zhao et al. 2022, section 3.1, NCKD.
    """
    return soft_target_kl(_others(student_logits, labels), _others(teacher_logits.detach(), labels), temperature)


def _right_or_not(logits: Tensor, labels: Tensor, temperature: Temperature) -> Tensor:
    """Return two logits (B, 2) whose softmax at the temperature is (right class, all others together)."""
    others = temperature * torch.logsumexp(wide(_others(logits, labels)) / temperature, dim=1, keepdim=True)
    return torch.cat([wide(logits).gather(1, labels[:, None]), others], dim=1)


def _others(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits (B, K - 1) of the wrong classes, in their order."""
    columns = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(logits), -1)
    return logits.gather(1, columns + (columns >= labels[:, None]))
