"""SSKD: beside the classes, the teacher passes on how it tells which image a turned one comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Phase, Rotations, Schedule, Terms
from compressor.functional import cosine_matrix, rank_of_target, select_by_error_level, soft_target_kl
from compressor.matching import link_embeddings
from compressor.modules import projection_head
from compressor.supervision import Lesson, lesson

_VIEWS = 4
WEIGHTINGS = {
    "cifar": {"ce_weight": 0.1, "kd_weight": 0.9, "tf_weight": 2.7, "ss_weight": 10.0},
    "imagenet": {"ce_weight": 1.0, "kd_weight": 0.9, "tf_weight": 2.7, "ss_weight": 10.0},
}
"""``cifar``: the authors' code for CIFAR-100. ``imagenet``: an independent re-implementation for ImageNet."""


@dataclass(frozen=True, kw_only=True)
class SSKDConfig(Lesson):
    """Settings of SSKD; the defaults are those of the authors' CIFAR-100 code."""

    weighting: Literal["cifar", "imagenet"] = "cifar"  # the published set of weights that unset ones come from
    ce_weight: float | None = None  # >= 0, of the labels
    kd_weight: float | None = None  # >= 0, of the teacher's classes on plain images
    tf_weight: float | None = None  # >= 0, of the teacher's classes on turned images
    ss_weight: float | None = None  # >= 0, of the teacher's similarities
    tf_temperature: float = 4.0  # > 0
    ss_temperature: float = 0.5  # > 0
    tf_ratio: float = 1.0  # in [0, 1], share of the wrongly classified turned images that is transferred
    ss_ratio: float = 0.75  # in [0, 1], share of the wrongly matched turned images that is transferred
    head_epochs: int = 60  # >= 0, of the teacher's head
    head_lr: float = 0.05  # > 0, of the teacher's head
    head_milestones: tuple[float, ...] = (0.5, 0.75)  # shares of the head's epochs at which its rate falls tenfold

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            positive=("tf_temperature", "ss_temperature", "head_lr"),
            share=("tf_ratio", "ss_ratio"),
            not_negative=(*WEIGHTINGS["cifar"], "head_epochs"),
        )
        if not all(0 < share < 1 for share in self.head_milestones):
            raise ValueError(f"sskd.head_milestones must be in (0, 1), got {list(self.head_milestones)}")

    def weight(self, key: str) -> float:
        """Return a term's weight: as it was set, or the weighting's."""
        given: float | None = getattr(self, key)
        return WEIGHTINGS[self.weighting][key] if given is None else given


class SSKD(Distiller[SSKDConfig]):
    """Xu et al., ECCV 2020, arXiv:2006.07114; needs embeddings of four rotations.

    A head on the frozen teacher first learns to match turned images with their originals (phase ``head``, without
    labels, kept for every student). Then a student with a head of its own imitates the classes and the matches.
    """

    name = "sskd"
    Config = SSKDConfig
    capturable = "phase"
    needs = Needs(embedding=True, views=Rotations(_VIEWS))

    def __init__(self, config: SSKDConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.student_head = projection_head(pair.student.embedding_width)
        self.teacher_head = projection_head(pair.require_teacher(self.name).embedding_width)

    def phases(self) -> Sequence[Phase]:
        """Return the teacher's head phase, whose product belongs to the teacher, and the student's.

        Without a weight of ``ss`` nobody asks the head, and its phase is skipped.
        """
        config = self.config
        head_epochs = config.head_epochs if config.weight("ss_weight") else 0
        return (
            Phase(
                name="head",
                trains=("teacher_head",),
                terms=self.head_terms,
                schedule=Schedule(epochs=head_epochs, lr=config.head_lr, milestones=config.head_milestones, decay=0.1),
                runs_student=False,
                artefact=True,
            ),
            Phase(name="student", trains=("student", "student_head"), terms=self.terms),
        )

    def plan(self) -> Sequence[Link]:
        """Return the two embeddings, each with a head of its own."""
        both = nn.ModuleList([self.student_head, self.teacher_head])
        return [link_embeddings(self.pair, "a two-layer head each, cosines between images", both)]

    def head_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``match``: cross entropy of the similarities against the true originals, without a temperature."""
        similarity = view_similarity(self.teacher_head(teacher.embedding.detach()), batch.views)
        return {"match": F.cross_entropy(similarity, originals(similarity, batch.views))}

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``kd``, ``tf`` and ``ss``, each already weighted."""
        config, views = self.config, batch.views
        plain, turned = split_views(student.logits, views)
        teacher_plain, teacher_turned = split_views(teacher.logits, views)
        with torch.no_grad():
            teacher_similarity = view_similarity(self.teacher_head(teacher.embedding), views)
        similarity = view_similarity(self.student_head(student.embedding), views)
        taught = lesson(config, batch, plain, teacher_plain, batch.labels)
        keep_tf = self._keep_classes(teacher_turned, batch.labels, views)
        keep_ss = kept_rows(teacher_similarity, originals(teacher_similarity, views), config.ss_ratio)
        return {
            "ce": config.weight("ce_weight") * F.cross_entropy(plain, batch.labels),
            "kd": config.weight("kd_weight") * soft_target_kl(plain, *taught),
            "tf": config.weight("tf_weight")
            * soft_target_kl(turned, teacher_turned, config.tf_temperature, keep=keep_tf),
            "ss": config.weight("ss_weight")
            * soft_target_kl(similarity, teacher_similarity, config.ss_temperature, keep=keep_ss),
        }

    def _keep_classes(self, teacher_turned: Tensor, labels: Tensor, views: int) -> Tensor | None:
        """Select by class; at a share of 1 every row stays, and the ranking is saved."""
        if self.config.tf_ratio == 1:
            return None
        return kept_rows(teacher_turned, labels.repeat_interleave(views - 1), self.config.tf_ratio)


def split_views(rows: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """Part (N * V, ...) rows, view fastest, into the plain (N, ...) and the turned ones (N * (V - 1), ...)."""
    by_image = rows.view(-1, views, *rows.shape[1:])
    return by_image[:, 0], by_image[:, 1:].flatten(0, 1)


def view_similarity(embeddings: Tensor, views: int) -> Tensor:
    """Compare every turned image with every plain one of the batch.

    Args:
        embeddings: (N * V, D) after the head, view fastest. Gradient reaches plain and turned rows alike.

    Returns:
        (N * (V - 1), N) cosines, no temperature (paper, equation 1).
    """
    plain, turned = split_views(embeddings, views)
    return cosine_matrix(turned, plain)


def originals(similarity: Tensor, views: int) -> Tensor:
    """Return, for each turned row, the column of the image it was made from: 0, 0, 0, 1, 1, 1, ..."""
    return torch.arange(similarity.shape[1], device=similarity.device).repeat_interleave(views - 1)


def kept_rows(teacher_scores: Tensor, targets: Tensor, ratio: float) -> Tensor:
    """Mark the rows in which the teacher is right, and of the others the least wrong share (paper, section 3.3).

    Args:
        teacher_scores: (R, N). targets: (R,) columns. ratio: in [0, 1].

    Returns:
        (R,) bool; equal ranks are taken in row order.
    """
    return select_by_error_level(rank_of_target(teacher_scores, targets), ratio)
