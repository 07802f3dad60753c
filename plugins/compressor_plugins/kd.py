"""Logit distillation: the student imitates the teacher's softened class distribution."""

from dataclasses import dataclass, replace

from torch import Tensor

from compressor.distiller import Batch, Distiller, ModelOutput, Needs, Rotations, Terms, Views
from compressor.supervision import Supervision, supervised_terms


@dataclass(frozen=True)
class Crops(Views):
    """The plain image again and again, each time cropped by a draw of its own."""

    def transform(self, images: Tensor, view: int) -> Tensor:
        """Return ``images`` (N, C, H, W) untouched, whatever the view."""
        return images


@dataclass(frozen=True, kw_only=True)
class KDConfig(Supervision):
    """Settings of logit distillation; the defaults are those of the CIFAR-100 benchmark (Tian et al. 2020)."""

    ce_weight: float = 0.1  # >= 0, of the labels
    kd_weight: float = 0.9  # >= 0, of the teacher
    views: int = 1  # 1 to 16, times that each image is shown in a step, every time cropped anew
    turn_views: bool = False  # whether the views are quarter turns (4 at most), each with the image's label

    def __post_init__(self) -> None:
        super().__post_init__()
        most = 4 if self.turn_views else 16
        if not 1 <= self.views <= most:
            raise ValueError(f"kd.views must be 1 to {most}, got {self.views}")


class KD(Distiller[KDConfig]):
    """Hinton et al. 2015, arXiv:1503.02531; needs logits only.

    With ``views`` it sees as many images as methods do that look at several views of each, and learns nothing else from
    them: the baseline of equal compute.
    """

    name = "kd"
    Config = KDConfig
    capturable = "phase"
    zero_when_equal = ("kd",)

    @classmethod
    def needs_for(cls, config: KDConfig) -> Needs:
        """Return the class's needs, with as many views of each image as the settings say."""
        if config.views == 1:
            return cls.needs
        return replace(cls.needs, views=Rotations(config.views) if config.turn_views else Crops(config.views))

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce`` and ``kd``, each already weighted; every view counts as an image of its own."""
        labels = batch.labels.repeat_interleave(batch.views)
        return supervised_terms(self.config, replace(batch, labels=labels), student, teacher)
