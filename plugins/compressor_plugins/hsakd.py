"""HSAKD: at every depth a branch tells class and turn of an image at once, and the student's imitate the teacher's."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Phase, Schedule, Terms
from compressor.functional import soft_target_kl, wide
from compressor.matching import match_stages, parse_stages
from compressor.supervision import Lesson, lesson
from compressor_plugins._branches import (
    VIEWS,
    Branches,
    branch_kl,
    check_branches,
    joint_cross_entropy,
    link_branches,
    plain_rows,
)


@dataclass(frozen=True, kw_only=True)
class HSAKDConfig(Lesson):
    """Settings of HSAKD; the defaults are those of the authors' CIFAR-100 code."""

    variant: Literal["frozen", "joint"] = (
        "frozen"  # branches on a trained teacher, or teacher and branches from scratch
    )
    ce_weight: float = 1.0  # >= 0, of the labels, on plain images
    kd_weight: float = 1.0  # >= 0, of the teacher's classes, on plain and turned images
    branch_weight: float = 1.0  # >= 0, of the teacher's joint distributions, summed over the branches
    kd_temperature: float = 3.0  # > 0, of the teacher's classes
    branch_temperature: float = 3.0  # > 0, of the joint distributions
    stages: str | None = None  # student:teacher such as "1:1,2:3" (the stem is 0); None: by depth and stride
    branch_epochs: int = 100  # >= 0, of the teacher's branches (frozen)
    branch_lr: float = 0.05  # > 0, of the teacher's branches (frozen)
    branch_milestones: tuple[float, ...] = (0.3, 0.6, 0.9)  # shares of their epochs at which the rate falls tenfold
    teacher_epochs: int = 240  # >= 0, of teacher and branches together (joint)
    teacher_lr: float = 0.05  # > 0, of teacher and branches together (joint)
    teacher_milestones: tuple[float, ...] = (0.625, 0.75, 0.875)  # shares of these epochs, likewise

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            positive=("branch_temperature", "branch_lr", "teacher_lr"),
            not_negative=("ce_weight", "kd_weight", "branch_weight", "branch_epochs", "teacher_epochs"),
        )
        for name in ("branch_milestones", "teacher_milestones"):
            shares = getattr(self, name)
            if not all(0 < share < 1 for share in shares):
                raise ValueError(f"hsakd.{name} must be in (0, 1), got {list(shares)}")
        parse_stages("hsakd.stages", self.stages)


class HSAKD(Distiller[HSAKDConfig]):
    """Yang et al., IJCAI 2021, arXiv:2107.13715; needs stages that can be copied, and four rotations of one crop.

    First the teacher's branches learn the joint labels, on the frozen teacher or together with it from scratch (phase
    ``branches`` or ``teacher``, kept for every student). Then the student, with branches of its own, imitates theirs.
    """

    name = "hsakd"
    Config = HSAKDConfig
    capturable = "phase"
    needs = Needs(stages=True, tails=True, views=VIEWS)
    zero_when_equal = ("kd",)

    def __init__(self, config: HSAKDConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        teacher = pair.require_teacher(self.name)
        self.matches = match_stages(pair, self.name, config.stages)
        self.student_branches = Branches(pair.student, [match.student for match in self.matches], pair.num_classes)
        self.teacher_branches = Branches(teacher, teacher_stages(config, pair), pair.num_classes)

    @classmethod
    def needs_for(cls, config: HSAKDConfig) -> Needs:
        """Return the needs: in the joint variant no trained teacher, but a network in its place."""
        return cls.needs if config.variant == "frozen" else replace(cls.needs, own_teacher=True)

    @classmethod
    def check(cls, config: HSAKDConfig, pair: Pair) -> None:
        """Refuse networks without stages, or whose stages cannot be copied."""
        teacher = pair.require_teacher(cls.name)
        matches = match_stages(pair, cls.name, config.stages)
        check_branches(pair.student, [match.student for match in matches])
        check_branches(teacher, teacher_stages(config, pair))

    def phases(self) -> Sequence[Phase]:
        """Return the teacher's phase, whose product belongs to the teacher, and the student's."""
        first = self._branch_phase() if self.config.variant == "frozen" else self._teacher_phase()
        return (first, Phase(name="student", trains=("student", "student_branches"), terms=self.terms))

    def _branch_phase(self) -> Phase:
        config = self.config
        return Phase(
            name="branches",
            trains=("teacher_branches",),
            terms=self.branch_terms,
            schedule=Schedule(epochs=config.branch_epochs, lr=config.branch_lr, milestones=config.branch_milestones),
            runs_student=False,
            artefact=True,
            artefact_settings=("stages",),
        )

    def _teacher_phase(self) -> Phase:
        config = self.config
        return Phase(
            name="teacher",
            trains=("teacher", "teacher_branches"),
            terms=self.teacher_terms,
            schedule=Schedule(epochs=config.teacher_epochs, lr=config.teacher_lr, milestones=config.teacher_milestones),
            runs_student=False,
            artefact=True,
            artefact_settings=("stages",),
        )

    def plan(self) -> Sequence[Link]:
        """Return the matched stages, each with a branch on both sides."""
        return link_branches(self.pair, self.matches, self.student_branches, self.teacher_branches)

    def branch_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``joint``: the branches' cross entropies; no gradient reaches the teacher."""
        maps = [stage.detach() for stage in teacher.stages]
        return {"joint": joint_cross_entropy(self.teacher_branches(maps), batch.labels, batch.views)}

    def teacher_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce`` of the network in the teacher's place, on plain images, and ``joint`` of its branches."""
        return {
            "ce": F.cross_entropy(plain_rows(wide(teacher.logits), batch.views), batch.labels),
            "joint": joint_cross_entropy(self.teacher_branches(teacher.stages), batch.labels, batch.views),
        }

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``kd`` and ``branch``, each already weighted; the student's branches see no label."""
        config = self.config
        labels = batch.labels.repeat_interleave(batch.views)
        taught = lesson(config, batch, student.logits, teacher.logits, labels)
        with torch.no_grad():
            theirs = self.teacher_branches(teacher.stages, [match.teacher for match in self.matches])
        ours = self.student_branches(student.stages)
        return {
            "ce": config.ce_weight * F.cross_entropy(plain_rows(wide(student.logits), batch.views), batch.labels),
            "kd": config.kd_weight * soft_target_kl(student.logits, *taught),
            "branch": config.branch_weight * branch_kl(ours, theirs, config.branch_temperature),
        }


def teacher_stages(config: HSAKDConfig, pair: Pair) -> tuple[int, ...]:
    """Return where the teacher has branches: at the stages that are set, or at all but the stem.

    Whoever the student is: so the branches belong to the teacher alone. A student of fewer stages uses some of them.
    """
    chosen = parse_stages("hsakd.stages", config.stages)
    if chosen is None:
        return tuple(range(1, len(pair.require_teacher("hsakd").stages)))
    return tuple(sorted({match.teacher for match in chosen}))
