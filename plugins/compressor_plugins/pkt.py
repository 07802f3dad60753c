"""Probabilistic knowledge transfer: the student's neighbourhoods in a batch are to be the teacher's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Terms
from compressor.functional import wide
from compressor.matching import link_embeddings
from compressor.supervision import Supervision, supervised_terms

_EPSILON = 1e-7


@dataclass(frozen=True, kw_only=True)
class PKTConfig(Supervision):
    """Settings of probabilistic knowledge transfer; the defaults are those of the CIFAR-100 benchmark."""

    pkt_weight: float = 30000.0  # >= 0, of the divergence, a mean over the B x B pairs of images

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("pkt_weight",))


class PKT(Distiller[PKTConfig]):
    """Passalis and Tefas, ECCV 2018, arXiv:1803.10837; needs embeddings."""

    name = "pkt"
    Config = PKTConfig
    capturable = "phase"
    needs = Needs(embedding=True)
    zero_when_equal = ("pkt",)

    @classmethod
    def check(cls, config: PKTConfig, pair: Pair) -> None:
        """Refuse a run without a teacher."""
        pair.require_teacher(cls.name)

    def plan(self) -> Sequence[Link]:
        """Return the two embeddings; their images' neighbourhoods are compared, so widths need not agree."""
        return [link_embeddings(self.pair, "none, cosines between the images")]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``pkt`` and, with a weight, ``kd``."""
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "pkt": self.config.pkt_weight * neighbourhood_loss(student.embedding, teacher.embedding),
        }


def neighbourhood_loss(student_embedding: Tensor, teacher_embedding: Tensor, epsilon: float = _EPSILON) -> Tensor:
    """Divergence of the student's neighbourhoods from the teacher's, as a mean over all pairs of images.

    Args:
        student_embedding: (B, D), with gradient. teacher_embedding: (B, D'), detached.
        epsilon: > 0, added to both probabilities, and to the lengths.

    Returns:
        0-d tensor, nats divided by B, >= 0 up to epsilon; 0 when both see the same neighbourhoods.

    Source: Passalis and Tefas 2018, arXiv:1803.10837, with the cosine kernel; the mean over B x B pairs in place of the
        sum over one image's is that of the authors' code.
    """
    student = neighbourhoods(student_embedding, epsilon)
    teacher = neighbourhoods(teacher_embedding.detach(), epsilon)
    return (teacher * torch.log((teacher + epsilon) / (student + epsilon))).mean()


def neighbourhoods(embedding: Tensor, epsilon: float = _EPSILON) -> Tensor:
    """Say how probable each image is as the neighbour of each, from cosines moved to [0, 1].

    An embedding of zeros has the cosine 0 with all, and gets a gradient as if its length were ``epsilon``.

    Args:
        embedding: (B, D). epsilon: > 0, added to the lengths.

    Returns:
        (B, B), >= 0, each row of sum 1, an image counting as its own neighbour.

    Source: Passalis and Tefas 2018, arXiv:1803.10837; as in the authors' code.
    """
    rows = wide(embedding)
    units = rows / (torch.linalg.vector_norm(rows, dim=1, keepdim=True) + epsilon)
    closeness: Tensor = (units @ units.T + 1) / 2
    return closeness / closeness.sum(1, keepdim=True)
