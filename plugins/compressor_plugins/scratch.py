"""No distillation: the student learns from labels alone. What every other method has to beat."""

from dataclasses import dataclass

from torch.nn import functional as F

from compressor.distiller import Batch, Distiller, ModelOutput, Needs, Terms


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """Settings of training without a teacher."""

    label_smoothing: float = 0.0  # in [0, 1), share of the target spread over all classes

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"scratch.label_smoothing must be in [0, 1), got {self.label_smoothing}")


class Scratch(Distiller[ScratchConfig]):
    """Labels alone, smoothed if asked (Szegedy et al. 2016, arXiv:1512.00567, section 7); needs no teacher."""

    name = "scratch"
    Config = ScratchConfig
    capturable = "phase"
    needs = Needs(teacher=False)

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``."""
        return {"ce": F.cross_entropy(student.logits, batch.labels, label_smoothing=self.config.label_smoothing)}
