"""AB: before it sees a label, the student learns where the teacher's neurons are on and where they are off."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Phase, Schedule, Terms
from compressor.errors import UnsupportedPair
from compressor.functional import averaged_alike, wide
from compressor.matching import StageMatch, link_stages, match_stages, parse_stages
from compressor.modules import MapRegressor
from compressor.supervision import Supervision, supervised_terms

_SCALE = 3 / 1000


@dataclass(frozen=True, kw_only=True)
class ABConfig(Supervision):
    """Settings of activation boundaries; the defaults are those of the CIFAR-100 benchmark (Tian et al. 2020)."""

    ab_weight: float = 1.0  # >= 0, of the boundaries in the phase `init`; 0 skips the phase
    margin: float = 1.0  # > 0, how far a pre-activation must lie beyond the boundary
    stages: str | None = None  # student:teacher pairs such as "1:1,2:3"; None: all but the first map, by depth
    init_epochs: int = 30  # >= 0, of the phase `init`
    init_lr: float | None = (
        None  # > 0, of the phase `init`; constant, or a cosine where the run has one; None: the run's
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, positive=("margin", "init_lr"), not_negative=("ab_weight", "init_epochs"))
        parse_stages("ab.stages", self.stages)


class AB(Distiller[ABConfig]):
    """Heo et al., AAAI 2019, arXiv:1811.03233; needs pre-activations of both networks.

    Phase ``init``: the student and its connectors learn on which side of zero the teacher's pre-activations lie,
    without labels. Then the student learns from labels (and logits, with a weight), and the connectors are done.
    """

    name = "ab"
    Config = ABConfig
    capturable = "phase"
    needs = Needs(stages=True, preacts=True)

    def __init__(self, config: ABConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.matches = match_stages(pair, self.name, config.stages)
        self.connectors = nn.ModuleList(_connector(pair, match) for match in self.matches)

    @classmethod
    def check(cls, config: ABConfig, pair: Pair) -> None:
        """Refuse networks without pre-activations, and stages that are not there."""
        for network in (pair.student, pair.require_teacher(cls.name)):
            if not network.preacts:
                raise UnsupportedPair(
                    f"ab needs pre-activations, and {network.name} shows none",
                    hint="a network whose stages end in an activation, such as a ResNet, or --method at",
                )
        match_stages(pair, cls.name, config.stages)

    def phases(self) -> Sequence[Phase]:
        """Return the phase of the boundaries, and that of the labels, which needs the teacher only for its logits."""
        config = self.config
        return (
            Phase(
                name="init",
                trains=("student", "connectors"),
                terms=self.init_terms,
                schedule=Schedule(epochs=config.init_epochs if config.ab_weight else 0, lr=config.init_lr),
                needs=Needs(preacts=True),
            ),
            Phase(name="student", trains=("student",), terms=self.terms, needs=Needs(teacher=bool(config.kd_weight))),
        )

    def plan(self) -> Sequence[Link]:
        """Return each pair of stages with its connector."""
        return [
            link_stages(self.pair, match, _in_words(connector), connector)
            for match, connector in zip(self.matches, self.connectors, strict=True)
        ]

    def init_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ab``: the boundaries of all stages, a stage counting half of the one behind it."""
        losses = [
            boundary_loss(connector(student.preacts[match.student]), teacher.preacts[match.teacher], self.config.margin)
            for match, connector in zip(self.matches, self.connectors, strict=True)
        ]
        deepest_last = [loss / 2**behind for behind, loss in enumerate(reversed(losses))]
        return {"ab": self.config.ab_weight * torch.stack(deepest_last).sum()}

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce`` and, with a weight, ``kd``."""
        return supervised_terms(self.config, batch, student, teacher)


def boundary_loss(student_preacts: Tensor, teacher_preacts: Tensor, margin: float) -> Tensor:
    """Count, squared, by how much each student's neuron misses the teacher's side of zero by a margin.

    A neuron that is on in the teacher (> 0) should be above ``margin``, any other below ``-margin``.

    Args:
        student_preacts: (B, C, H, W) before the activation, with gradient.
        teacher_preacts: (B, C, H', W'), detached. On an axis where one is larger it is averaged down.
        margin: > 0, in the unit of the pre-activations.

    Returns:
        0-d tensor >= 0: 3/1000 of the sum over the neurons, mean over the images.

    Source: Heo et al. 2019, equation 4; the factor is that of the authors' and the benchmark's code.
    """
    ours, theirs = averaged_alike(wide(student_preacts), wide(teacher_preacts.detach()))
    missing = torch.where(theirs > 0, margin - ours, margin + ours).clamp(min=0)
    return _SCALE * missing.square().sum() / len(ours)


def _connector(pair: Pair, match: StageMatch) -> nn.Module:
    """Make a convolution and batch normalisation; nothing for maps of one shape."""
    ours, theirs = pair.student.stages[match.student], pair.require_teacher("ab").stages[match.teacher]
    if (ours.channels, ours.height, ours.width) == (theirs.channels, theirs.height, theirs.width):
        return nn.Identity()
    return MapRegressor(ours, theirs, activate=False)


def _in_words(connector: nn.Module) -> str:
    return "none" if isinstance(connector, nn.Identity) else "convolution, batch normalisation"
