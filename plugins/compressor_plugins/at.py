"""Attention transfer: where the teacher's feature maps are strong, the student's are to be strong too."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Terms
from compressor.functional import averaged_alike, unit_vectors, wide
from compressor.matching import link_stages, match_stages, parse_stages
from compressor.supervision import Supervision, supervised_terms


@dataclass(frozen=True, kw_only=True)
class ATConfig(Supervision):
    """Settings of attention transfer; the defaults are those of the CIFAR-100 benchmark."""

    at_weight: float = 1000.0  # >= 0, of the mean squared difference of the attention maps, summed over the stages
    power: float = 2.0  # >= 1, of the absolute activations
    stages: str | None = None  # student:teacher pairs such as "1:1,2:3" (the first map is 0); None: all but the first

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("at_weight",), at_least_one=("power",))
        parse_stages("at.stages", self.stages)


class AT(Distiller[ATConfig]):
    """Zagoruyko and Komodakis, ICLR 2017, arXiv:1612.03928; needs stage maps."""

    name = "at"
    Config = ATConfig
    capturable = "phase"
    needs = Needs(stages=True)
    zero_when_equal = ("at",)

    def __init__(self, config: ATConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.matches = match_stages(pair, self.name, config.stages)

    @classmethod
    def check(cls, config: ATConfig, pair: Pair) -> None:
        """Refuse networks that show no maps, and stages that are not there."""
        match_stages(pair, cls.name, config.stages)

    def plan(self) -> Sequence[Link]:
        """Return the matched stages; nothing is learned between them."""
        return [link_stages(self.pair, match) for match in self.matches]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``at`` and, with a weight, ``kd``."""
        losses = [
            attention_loss(student.stages[match.student], teacher.stages[match.teacher], self.config.power)
            for match in self.matches
        ]
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "at": self.config.at_weight * torch.stack(losses).sum(),
        }


def attention_loss(student_map: Tensor, teacher_map: Tensor, power: float = 2.0) -> Tensor:
    """Mean squared difference of the two attention maps.

    Args:
        student_map: (B, C, H, W), with gradient.
        teacher_map: (B, C', H', W'), detached. The larger of the two is averaged down before anything else.
        power: >= 1.

    Returns:
        0-d tensor in [0, 4 / (H W)]; 0 when the maps are strong at the same places, whatever their scale.

    Source: Zagoruyko and Komodakis 2017, section 3.1, with the mean of the squares in place of the length of the
        difference, as the CIFAR-100 benchmark has it.
    """
    student, teacher = averaged_alike(wide(student_map), wide(teacher_map.detach()))
    return (attention_map(student, power) - attention_map(teacher, power)).square().mean()


def attention_map(feature_map: Tensor, power: float = 2.0) -> Tensor:
    """Say where a feature map is strong: the mean over channels of ``|x| ** power``, as a vector of length one.

    Args:
        feature_map: (B, C, H, W). power: >= 1.

    Returns:
        (B, H * W), >= 0; all zero for a map that is zero everywhere.

    Source: Zagoruyko and Komodakis 2017, section 3.1 (sum of absolute values to a power, the same after scaling).
    """
    return unit_vectors(feature_map.abs().pow(power).mean(1).flatten(1))
