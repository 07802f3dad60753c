"""HSSAKD online: two networks learn together from scratch, each from the other's branches at every depth."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Phase, Terms
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
class HSSAKDConfig(Lesson):
    """Settings of online HSSAKD, the same for both networks; the defaults are those of the authors' CIFAR-100 code."""

    ce_weight: float = 1.0  # >= 0, of the labels, on plain images
    joint_weight: float = 1.0  # >= 0, of the joint labels, summed over the branches
    kd_weight: float = 1.0  # >= 0, of the other network's classes, on plain and turned images
    branch_weight: float = 1.0  # >= 0, of the other network's joint distributions, summed over the branches
    kd_temperature: float = 3.0  # > 0, of the other network's classes
    branch_temperature: float = 3.0  # > 0, of the joint distributions
    stages: str | None = None  # student:teacher such as "1:1,2:3" (the stem is 0); None: by depth and stride

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(
            self,
            positive=("branch_temperature",),
            not_negative=("ce_weight", "joint_weight", "kd_weight", "branch_weight"),
        )
        chosen = parse_stages("hssakd.stages", self.stages) or ()
        if len({match.teacher for match in chosen}) < len(chosen):
            raise ValueError(f"hssakd.stages names a stage of the teacher twice: {self.stages!r}")


class HSSAKD(Distiller[HSSAKDConfig]):
    """Yang et al., IEEE TNNLS 2024, arXiv:2109.03075, online form; its offline form is `compressor_plugins.hsakd`.

    The network in the teacher's place is a peer with random weights of its own: both learn at once, in one step.
    """

    name = "hssakd"
    Config = HSSAKDConfig
    capturable = "phase"
    needs = Needs(stages=True, tails=True, views=VIEWS, own_teacher=True)
    zero_when_equal = ("kd", "peer_kd")

    def __init__(self, config: HSSAKDConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        teacher = pair.require_teacher(self.name)
        self.matches = match_stages(pair, self.name, config.stages)
        self.student_branches = Branches(pair.student, [match.student for match in self.matches], pair.num_classes)
        self.teacher_branches = Branches(teacher, [match.teacher for match in self.matches], pair.num_classes)

    @classmethod
    def check(cls, config: HSSAKDConfig, pair: Pair) -> None:
        """Refuse networks without stages, or whose stages cannot be copied."""
        teacher = pair.require_teacher(cls.name)
        matches = match_stages(pair, cls.name, config.stages)
        check_branches(pair.student, [match.student for match in matches])
        check_branches(teacher, [match.teacher for match in matches])

    def phases(self) -> Sequence[Phase]:
        """Return the one phase, in which both networks learn."""
        trains = ("student", "teacher", "student_branches", "teacher_branches")
        return (Phase(name="student", trains=trains, terms=self.terms),)

    def plan(self) -> Sequence[Link]:
        """Return the matched stages, each with a branch on both sides."""
        return link_branches(self.pair, self.matches, self.student_branches, self.teacher_branches)

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``joint``, ``kd`` and ``branch`` of the student, and of its peer under ``peer_``."""
        ours = self.student_branches(student.stages)
        theirs = self.teacher_branches(teacher.stages)
        peer = self._one_sided(batch, teacher.logits, theirs, student.logits, ours)
        return {
            **self._one_sided(batch, student.logits, ours, teacher.logits, theirs),
            **{f"peer_{name}": term for name, term in peer.items()},
        }

    def _one_sided(
        self, batch: Batch, logits: Tensor, branches: Sequence[Tensor], other_logits: Tensor, others: Sequence[Tensor]
    ) -> Terms:
        """Return what one network learns: from the labels, and from the other's answers, which get no gradient."""
        config = self.config
        taught = lesson(config, batch, logits, other_logits, batch.labels.repeat_interleave(batch.views))
        return {
            "ce": config.ce_weight * F.cross_entropy(plain_rows(wide(logits), batch.views), batch.labels),
            "joint": config.joint_weight * joint_cross_entropy(branches, batch.labels, batch.views),
            "kd": config.kd_weight * soft_target_kl(logits, *taught),
            "branch": config.branch_weight * branch_kl(branches, others, config.branch_temperature),
        }
