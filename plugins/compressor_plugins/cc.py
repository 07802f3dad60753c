"""Correlation congruence: how a batch's images relate to each other is to be as the teacher sees it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Terms
from compressor.functional import unit_vectors, wide
from compressor.matching import link_embeddings
from compressor.supervision import Supervision, supervised_terms


@dataclass(frozen=True, kw_only=True)
class CCConfig(Supervision):
    """Settings of correlation congruence; weight and width are those of the CIFAR-100 benchmark."""

    cc_weight: float = 0.02  # >= 0, of the congruence; the benchmark's number is for pairs and neighbours
    form: Literal["pairs", "neighbours", "kernel"] = "pairs"  # all pairs of images, the benchmark's, or the paper's
    feature_dim: int = 128  # >= 1, width that both embeddings are brought to; not for kernel
    kernel_gamma: float = 0.4  # > 0, how fast the kernel falls off
    kernel_order: int = 2  # >= 1, of the kernel's Taylor expansion

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            positive=("kernel_gamma",),
            not_negative=("cc_weight",),
            at_least_one=("feature_dim", "kernel_order"),
        )


class CC(Distiller[CCConfig]):
    """Peng et al., ICCV 2019, arXiv:1904.01802; needs embeddings.

    Three forms of the same wish. ``kernel`` compares the two matrices of similarities, as the paper does.
    ``neighbours`` is what the CIFAR-100 benchmark made of it: two linear layers bring both embeddings to one width,
    and the differences of images that follow each other in the batch are multiplied; so it depends on the order of the
    batch. ``pairs`` is its mean over all orders.
    """

    name = "cc"
    Config = CCConfig
    capturable = "phase"
    needs = Needs(embedding=True)

    def __init__(self, config: CCConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        teacher = pair.require_teacher(self.name)
        if config.form != "kernel":
            self.embed_student = nn.Linear(pair.student.embedding_width, config.feature_dim)
            self.embed_teacher = nn.Linear(teacher.embedding_width, config.feature_dim)

    @classmethod
    def check(cls, config: CCConfig, pair: Pair) -> None:
        """Refuse a run without a teacher."""
        pair.require_teacher(cls.name)

    def plan(self) -> Sequence[Link]:
        """Return the two embeddings, and what brings them to one width."""
        if self.config.form == "kernel":
            return [link_embeddings(self.pair, "none, a kernel between the images")]
        both = nn.ModuleList([self.embed_student, self.embed_teacher])
        return [link_embeddings(self.pair, f"a linear layer each, to {self.config.feature_dim}", both)]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``cc`` and, with a weight, ``kd``."""
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "cc": self.config.cc_weight * self.congruence(student.embedding, teacher.embedding.detach()),
        }

    def congruence(self, student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
        """Return the loss of the form that was set, unweighted.

        Args:
            student_embedding: (B, D), with gradient. teacher_embedding: (B, D'), none; its own layer is trained.
        """
        config = self.config
        if config.form == "kernel":
            return kernel_loss(student_embedding, teacher_embedding, config.kernel_gamma, config.kernel_order)
        of_form = pairs_loss if config.form == "pairs" else neighbours_loss
        return of_form(self.embed_student(student_embedding), self.embed_teacher(teacher_embedding))


def neighbours_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Multiply the absolute differences of images that follow each other in the batch.

    Args:
        student, teacher: (B, F), with gradient both.

    Returns:
        0-d tensor >= 0, the mean of the B - 1 products; 0 for a single image. It depends on the order of the rows.

    Source: the CIFAR-100 benchmark RepDistiller (Tian et al. 2020, arXiv:1910.10699).
    """
    difference = (wide(student) - wide(teacher)).abs()
    return (difference[:-1] * difference[1:]).sum() / max(1, len(difference) - 1)


def pairs_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Multiply the absolute differences of every two images.

    Args:
        student, teacher: (B, F), with gradient both.

    Returns:
        0-d tensor >= 0, the mean of the B (B - 1) products, which is that of `neighbours_loss` over all orders of the
        batch; 0 for a single image.
    """
    difference = (wide(student) - wide(teacher)).abs()
    with_themselves = difference.square().sum()
    everything = difference.sum(0).square().sum()
    return (everything - with_themselves).clamp(min=0) / max(1, len(difference) * (len(difference) - 1))


def kernel_loss(student_embedding: Tensor, teacher_embedding: Tensor, gamma: float, order: int) -> Tensor:
    """Mean squared difference of the two matrices of similarities.

    Args:
        student_embedding: (B, D), with gradient. teacher_embedding: (B, D'), detached.
        gamma: > 0. order: >= 1; both as `taylor_kernel`.

    Returns:
        0-d tensor >= 0; 0 where all cosines agree.

    Source: Peng et al. 2019, arXiv:1904.01802.
    """
    student = taylor_kernel(student_embedding, gamma, order)
    return (student - taylor_kernel(teacher_embedding.detach(), gamma, order)).square().mean()


def taylor_kernel(embedding: Tensor, gamma: float, order: int) -> Tensor:
    """Approximate ``exp(-gamma * |a - b|**2)`` between unit vectors by a Taylor expansion in their cosine.

    Args:
        embedding: (B, D), divided by their length here. gamma: > 0. order: >= 1, the highest power of the cosine.

    Returns:
        (B, B): ``exp(-2 gamma) * sum_p (2 gamma cosine)**p / p!``.

    Source: Peng et al. 2019, arXiv:1904.01802.
    """
    units = unit_vectors(wide(embedding))
    scaled = 2 * gamma * (units @ units.T)
    total = torch.ones_like(scaled)
    for power in range(order, 0, -1):  # 1 + x (1 + x / 2 (1 + x / 3 ...)): no factorial, so no overflow
        total = 1 + scaled / power * total
    return math.exp(-2 * gamma) * total
