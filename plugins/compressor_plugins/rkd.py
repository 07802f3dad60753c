"""Relational distillation: distances and angles between a batch's images are to be the teacher's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Terms
from compressor.functional import unit_vectors, wide
from compressor.matching import link_embeddings
from compressor.supervision import Supervision, supervised_terms

_SQUARED_FLOOR = 1e-12
_USUAL_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class RKDConfig(Supervision):
    """Settings of relational distillation; the defaults are those of the CIFAR-100 benchmark and the authors'."""

    distance_weight: float = 25.0  # >= 0, of the distances between two images
    angle_weight: float = 50.0  # >= 0, of the angles between three

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("distance_weight", "angle_weight"))


class RKD(Distiller[RKDConfig]):
    """Park, Kim, Lu and Cho, CVPR 2019, arXiv:1904.05068; needs embeddings."""

    name = "rkd"
    Config = RKDConfig
    capturable = "phase"
    needs = Needs(embedding=True)
    zero_when_equal = ("distance", "angle")

    @classmethod
    def check(cls, config: RKDConfig, pair: Pair) -> None:
        """Refuse a run without a teacher."""
        pair.require_teacher(cls.name)

    @classmethod
    def memory_bytes(cls, config: RKDConfig, pair: Pair) -> int:
        """Count differences and angles of both networks for batches of 64, and the student's gradients, in bytes."""
        teacher = pair.require_teacher(cls.name)
        differences = _USUAL_BATCH**2 * (2 * pair.student.embedding_width + teacher.embedding_width)
        return 4 * (differences + 3 * _USUAL_BATCH**3)

    def plan(self) -> Sequence[Link]:
        """Return the two embeddings; relations between their images are compared, so widths need not agree."""
        return [link_embeddings(self.pair, "none, distances and angles between the images")]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``distance``, ``angle`` and, with a weight, ``kd``."""
        config = self.config
        return {
            **supervised_terms(config, batch, student, teacher),
            "distance": config.distance_weight * distance_loss(student.embedding, teacher.embedding),
            "angle": config.angle_weight * angle_loss(student.embedding, teacher.embedding),
        }


def distance_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Smooth L1 difference of the relative distances, mean over all B x B pairs.

    Args:
        student_embedding: (B, D), with gradient. teacher_embedding: (B, D'), detached.

    Returns:
        0-d tensor >= 0; 0 when all distances are proportional, and for a single image.

    Source: Park et al. 2019, arXiv:1904.05068, distance-wise loss (RKD-D).
    """
    return F.smooth_l1_loss(relative_distances(student_embedding), relative_distances(teacher_embedding.detach()))


def angle_loss(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Smooth L1 difference of the cosines of the angles, mean over all B x B x B triples.

    Args:
        student_embedding: (B, D), with gradient. teacher_embedding: (B, D'), detached.

    Returns:
        0-d tensor in [0, 1.5]; 0 when one is the other moved, turned and scaled.

    Source: Park et al. 2019, arXiv:1904.05068, angle-wise loss (RKD-A).
    """
    return F.smooth_l1_loss(angle_cosines(student_embedding), angle_cosines(teacher_embedding.detach()))


def relative_distances(embedding: Tensor) -> Tensor:
    """Measure each pair's distance in units of the batch's mean distance between two images.

    Args:
        embedding: (B, D). Two images in one place count as 1e-6 apart, and get no gradient from it.

    Returns:
        (B, B) >= 0 with a diagonal of zeros; the others have mean 1.

    Source: Park et al. 2019, arXiv:1904.05068, distance-wise potential; the floor is that of the benchmark's code.
    """
    squared = _differences(embedding).square().sum(2)
    others = ~torch.eye(len(squared), dtype=torch.bool, device=squared.device)
    distances = squared.clamp(min=_SQUARED_FLOOR).sqrt() * others
    return distances / (distances.sum() / others.sum().clamp(min=1)).clamp(min=_SQUARED_FLOOR)


def angle_cosines(embedding: Tensor) -> Tensor:
    """Take the cosine of the angle that images j and k span as seen from image i.

    Args:
        embedding: (B, D).

    Returns:
        (B, B, B) indexed i, j, k, in [-1, 1]; 0 where j or k lies where i does, without gradient there.

    Source: Park et al. 2019, arXiv:1904.05068, angle-wise potential.
    """
    directions = unit_vectors(_differences(embedding))
    return directions @ directions.transpose(1, 2)


def _differences(embedding: Tensor) -> Tensor:
    """Return (B, B, D): at i, j what leads from image i to image j."""
    rows = wide(embedding)
    return rows[None] - rows[:, None]
