"""FitNet: a regressor on a middle stage of the student is pulled to the teacher's feature map ("hint")."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Terms
from compressor.matching import StageMatch, link_stages, match_stages, parse_stages
from compressor.modules import MapRegressor
from compressor.supervision import Supervision, supervised_terms


@dataclass(frozen=True, kw_only=True)
class FitNetConfig(Supervision):
    """Settings of FitNet; the defaults are those of the CIFAR-100 benchmark, where hint and labels train jointly."""

    hint_weight: float = 100.0  # >= 0, of the mean squared error between the maps, summed over the hints
    stages: str | None = (
        None  # hints as student:teacher such as "2:2" (the first map is 0); None: the middle one of each
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("hint_weight",))
        parse_stages("fitnet.stages", self.stages)


class FitNet(Distiller[FitNetConfig]):
    """Romero et al. 2015, arXiv:1412.6550; needs stage maps."""

    name = "fitnet"
    Config = FitNetConfig
    capturable = "phase"
    needs = Needs(stages=True)

    def __init__(self, config: FitNetConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        teacher = pair.require_teacher(self.name)
        self.hints = hints(config, pair)
        self.regressors = nn.ModuleList(
            MapRegressor(pair.student.stages[hint.student], teacher.stages[hint.teacher]) for hint in self.hints
        )

    @classmethod
    def check(cls, config: FitNetConfig, pair: Pair) -> None:
        """Refuse networks that show no maps, and stages that are not there."""
        hints(config, pair)

    def plan(self) -> Sequence[Link]:
        """Return each hint with its regressor."""
        return [
            link_stages(self.pair, hint, "convolution, batch normalisation, ReLU", regressor)
            for hint, regressor in zip(self.hints, self.regressors, strict=True)
        ]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``hint`` and, with a weight, ``kd``."""
        losses = [
            hint_loss(regressor(student.stages[hint.student]), teacher.stages[hint.teacher])
            for hint, regressor in zip(self.hints, self.regressors, strict=True)
        ]
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "hint": self.config.hint_weight * torch.stack(losses).sum(),
        }


def hint_loss(regressed: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference over all elements.

    Args:
        regressed: (B, C, H, W), with gradient.
        teacher_map: (B, C, H', W'), detached; averaged to (H, W) where its size differs.

    Returns:
        0-d tensor >= 0.

    Source: Romero et al. 2015, equation 3, with a mean in place of half the sum, as the CIFAR-100 benchmark has it.
    """
    target = teacher_map.detach()
    if target.shape[-2:] != regressed.shape[-2:]:
        target = F.adaptive_avg_pool2d(target, (regressed.shape[-2], regressed.shape[-1]))
    return F.mse_loss(regressed, target)


def hints(config: FitNetConfig, pair: Pair) -> tuple[StageMatch, ...]:
    """Return the stages to compare: those that were set, or the middle one of each network, the first map being 0.

    Raises:
        UnsupportedPair: a network shows no maps, or has no such stage.
    """
    teacher = pair.require_teacher("fitnet")
    middle = f"{len(pair.student.stages) // 2}:{len(teacher.stages) // 2}"
    return match_stages(pair, "fitnet", config.stages or middle)
