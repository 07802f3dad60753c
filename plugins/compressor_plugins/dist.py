"""DIST: the student keeps the teacher's relations, of the classes in an image and of the images in a class."""

from dataclasses import dataclass, replace

from torch import Tensor

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, ModelOutput, Pair, Terms
from compressor.functional import wide
from compressor.supervision import Supervision, lesson, supervised_terms

_EPSILON = 1e-8


@dataclass(frozen=True, kw_only=True)
class DISTConfig(Supervision):
    """Settings of DIST; the defaults are those of the authors' CIFAR-100 code."""

    inter_weight: float = 2.0  # >= 0, of the classes' relations within each image (beta)
    intra_weight: float = 2.0  # >= 0, of the images' relations within each class (gamma)
    temperature: float = 4.0  # > 0, of both relations (tau)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, positive=("temperature",), not_negative=("inter_weight", "intra_weight"))


class DIST(Distiller[DISTConfig]):
    """Huang et al., NeurIPS 2022, arXiv:2205.10536; needs logits only."""

    name = "dist"
    Config = DISTConfig
    capturable = "phase"
    zero_when_equal = ("inter", "intra")

    def __init__(self, config: DISTConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        # Images are compared with one another, so all are softened alike: no temperature for each of them.
        self._lesson = replace(config, kd_temperature=config.temperature, kd_temperature_policy="constant")

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``inter``, ``intra`` and, with a weight, ``kd``."""
        config = self.config
        targets, _ = lesson(self._lesson, batch, student.logits, teacher.logits, batch.labels)
        ours = (wide(student.logits) / config.temperature).softmax(1)
        theirs = (wide(targets) / config.temperature).softmax(1)
        factor = config.temperature**2
        return {
            **supervised_terms(config, batch, student, teacher),
            "inter": config.inter_weight * factor * relation_loss(ours, theirs),
            "intra": config.intra_weight * factor * relation_loss(ours.T, theirs.T),
        }


def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Measure how far corresponding rows are from being linearly related.

    Args:
        student: (R, N), with gradient. teacher: (R, N), detached.

    Returns:
        0-d tensor in [0, 2] up to rounding: 1 less the rows' mean Pearson correlation; about 0 when every student's
        row is ``a * teacher + b`` with a > 0. The 1e-8 that the authors add to the product of the rows' lengths makes
        a row without any variation count as not correlated, and its gradient finite.

    Source: Huang et al. 2022, equations 6 to 9.
    """
    ours, theirs = (rows - rows.mean(1, keepdim=True) for rows in (student, teacher.detach()))
    lengths = ours.norm(dim=1) * theirs.norm(dim=1)
    correlation: Tensor = (ours * theirs).sum(1) / (lengths + _EPSILON)
    return 1 - correlation.mean()
