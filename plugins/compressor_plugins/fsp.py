"""FSP: before it sees a label, the student learns how the teacher's maps flow from one stage into the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Phase, Schedule, Terms
from compressor.errors import UnsupportedPair
from compressor.functional import averaged_alike, wide
from compressor.matching import StageMatch, link_stages, match_stages, parse_stages
from compressor.supervision import Supervision, supervised_terms


@dataclass(frozen=True, kw_only=True)
class FSPConfig(Supervision):
    """Settings of FSP; the defaults are those of the CIFAR-100 benchmark (Tian et al. 2020)."""

    fsp_weight: float = 50.0  # >= 0, of the flows in the phase `init`; 0 skips the phase
    stages: str | None = None  # two or more student:teacher pairs such as "0:0,2:2"; None: all, by depth
    init_epochs: int = 30  # >= 0, of the phase `init`
    init_lr: float | None = (
        None  # > 0, of the phase `init`; constant, or a cosine where the run has one; None: the run's
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, positive=("init_lr",), not_negative=("fsp_weight", "init_epochs"))
        parse_stages("fsp.stages", self.stages)


class FSP(Distiller[FSPConfig]):
    """Yim et al., CVPR 2017 (flow of solution procedure); needs stage maps of equal widths.

    Phase ``init``: the student learns the teacher's flows, without labels. Then it learns from labels (and logits, with
    a weight).
    """

    name = "fsp"
    Config = FSPConfig
    capturable = "phase"
    needs = Needs(stages=True)
    zero_when_equal = ("fsp",)

    def __init__(self, config: FSPConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.matches = match_stages(pair, self.name, config.stages, stem=True)

    @classmethod
    def check(cls, config: FSPConfig, pair: Pair) -> None:
        """Refuse fewer than two stages, stages of unequal widths, and stages that are not there."""
        matches = match_stages(pair, cls.name, config.stages, stem=True)
        if len(matches) < 2:
            raise UnsupportedPair("fsp looks at the way from one stage to the next, and only one stage is matched")
        _check_widths(matches, pair)

    def phases(self) -> Sequence[Phase]:
        """Return the phase of the flows, and that of the labels, which needs the teacher only for its logits."""
        config = self.config
        return (
            Phase(
                name="init",
                trains=("student",),
                terms=self.init_terms,
                schedule=Schedule(epochs=config.init_epochs if config.fsp_weight else 0, lr=config.init_lr),
                needs=Needs(stages=True),
            ),
            Phase(name="student", trains=("student",), terms=self.terms, needs=Needs(teacher=bool(config.kd_weight))),
        )

    def plan(self) -> Sequence[Link]:
        """Return the matched stages; each but the first is compared together with the one before."""
        return [link_stages(self.pair, match, "products with the next stage") for match in self.matches]

    def init_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``fsp``: the differences of the flows, summed over consecutive stages."""
        losses = [
            flow_loss(
                flow(student.stages[one.student], student.stages[other.student]),
                flow(teacher.stages[one.teacher], teacher.stages[other.teacher]),
            )
            for one, other in pairwise(self.matches)
        ]
        return {"fsp": self.config.fsp_weight * torch.stack(losses).sum()}

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce`` and, with a weight, ``kd``."""
        return supervised_terms(self.config, batch, student, teacher)


def flow(earlier: Tensor, later: Tensor) -> Tensor:
    """Multiply every channel of one map with every channel of another, mean over the positions.

    Args:
        earlier: (B, C, H, W). later: (B, C', H', W'). On an axis where one is larger it is averaged down. Gradient
            reaches both.

    Returns:
        (B, C, C').

    Source: Yim et al. 2017, equation 1.
    """
    one, other = (each.flatten(2) for each in averaged_alike(wide(earlier), wide(later)))
    return one @ other.mT / one.shape[2]


def flow_loss(student_flow: Tensor, teacher_flow: Tensor) -> Tensor:
    """Mean squared difference of two flows (B, C, C'), the teacher's detached; a 0-d tensor >= 0.

    Source: Yim et al. 2017, equation 2, with a mean in place of the sum, as the CIFAR-100 benchmark has it.
    """
    return F.mse_loss(student_flow, teacher_flow.detach())


def _check_widths(matches: Sequence[StageMatch], pair: Pair) -> None:
    teacher = pair.require_teacher("fsp")
    alike = []
    wrong = ""
    for match in matches:
        ours, theirs = pair.student.stages[match.student], teacher.stages[match.teacher]
        if ours.channels == theirs.channels:
            alike.append(f"{match.student}:{match.teacher}")
        elif not wrong:
            wrong = (
                f"fsp compares stages of equal width: {ours.name} of {pair.student.name} has {ours.channels} channels, "
                f"{theirs.name} of {teacher.name} has {theirs.channels}"
            )
    if wrong:
        chosen = ",".join(alike)
        raise UnsupportedPair(
            wrong,
            hint=f"--set method.fsp.stages={chosen}" if len(alike) > 1 else "networks of one family, or --method at",
        )
