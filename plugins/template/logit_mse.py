"""Logit regression: the student's scores before softmax are pulled to the teacher's."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from compressor.distiller import Batch, Distiller, ModelOutput, Terms


@dataclass(frozen=True, kw_only=True)
class LogitMSEConfig:
    """Settings of logit regression; by default the labels have no part, as in the paper."""

    mse_weight: float = 1.0  # >= 0, of the distance to the teacher
    ce_weight: float = 0.0  # >= 0, of the labels

    def __post_init__(self) -> None:
        if min(self.mse_weight, self.ce_weight) < 0:
            raise ValueError(f"logit_mse weights must be >= 0, got mse {self.mse_weight}, ce {self.ce_weight}")


class LogitMSE(Distiller[LogitMSEConfig]):
    """Ba and Caruana 2014, arXiv:1312.6184; needs logits only."""

    name = "logit_mse"
    Config = LogitMSEConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``mse`` and, with a weight, ``ce``."""
        config = self.config
        terms = {"mse": config.mse_weight * half_squared_distance(student.logits, teacher.logits)}
        if config.ce_weight:
            terms["ce"] = config.ce_weight * F.cross_entropy(student.logits, batch.labels)
        return terms


def half_squared_distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Return half the squared distance of two rows, mean over the batch.

    Args:
        student_logits: (B, K), with gradient. teacher_logits: (B, K), detached.

    Returns:
        0-d tensor >= 0; 0 where the logits are equal.

    Source: Ba and Caruana 2014, arXiv:1312.6184, section 2.2.
    """
    return F.mse_loss(student_logits, teacher_logits.detach(), reduction="sum") / (2 * len(student_logits))
