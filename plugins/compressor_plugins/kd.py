"""Logit distillation: the student imitates the teacher's softened class distribution."""

from dataclasses import dataclass

from torch.nn import functional as F

from compressor.distiller import Batch, Distiller, ModelOutput, Terms
from compressor.functional import soft_target_kl


@dataclass(frozen=True, kw_only=True)
class KDConfig:
    """Settings of logit distillation; the defaults are those of the CIFAR-100 benchmark (Tian et al. 2020)."""

    temperature: float = 4.0  # > 0, no unit
    ce_weight: float = 0.1  # >= 0, of the labels
    kd_weight: float = 0.9  # >= 0, of the teacher

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"kd.temperature must be > 0, got {self.temperature}")
        if min(self.ce_weight, self.kd_weight) < 0:
            raise ValueError(f"kd weights must be >= 0, got ce {self.ce_weight}, kd {self.kd_weight}")


class KD(Distiller[KDConfig]):
    """Hinton et al. 2015, arXiv:1503.02531; needs logits only."""

    name = "kd"
    Config = KDConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce`` and ``kd``, each already weighted."""
        config = self.config
        return {
            "ce": config.ce_weight * F.cross_entropy(student.logits, batch.labels),
            "kd": config.kd_weight * soft_target_kl(student.logits, teacher.logits, config.temperature),
        }
