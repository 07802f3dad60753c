"""Neuron selectivity transfer: the student's channels are to fire at the places where the teacher's do, as a crowd."""

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
class NSTConfig(Supervision):
    """Settings of neuron selectivity transfer; the defaults are those of the CIFAR-100 benchmark."""

    nst_weight: float = 50.0  # >= 0, of the squared discrepancy of the channels, summed over the stages
    stages: str | None = None  # student:teacher pairs such as "1:1,2:3" (the first map is 0); None: all but the first

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("nst_weight",))
        parse_stages("nst.stages", self.stages)


class NST(Distiller[NSTConfig]):
    """Huang and Wang 2017, arXiv:1707.01219; needs stage maps."""

    name = "nst"
    Config = NSTConfig
    capturable = "phase"
    needs = Needs(stages=True)
    zero_when_equal = ("nst",)

    def __init__(self, config: NSTConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.matches = match_stages(pair, self.name, config.stages)

    @classmethod
    def check(cls, config: NSTConfig, pair: Pair) -> None:
        """Refuse networks that show no maps, and stages that are not there."""
        match_stages(pair, cls.name, config.stages)

    def plan(self) -> Sequence[Link]:
        """Return the matched stages; nothing is learned between them."""
        return [link_stages(self.pair, match) for match in self.matches]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``nst`` and, with a weight, ``kd``."""
        losses = [
            selectivity_loss(student.stages[match.student], teacher.stages[match.teacher]) for match in self.matches
        ]
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "nst": self.config.nst_weight * torch.stack(losses).sum(),
        }


def selectivity_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the two sets of channels, kernel ``(a . b) ** 2``, mean over the images.

    Args:
        student_map: (B, C, H, W), with gradient.
        teacher_map: (B, C', H', W'), detached. The larger of the two is averaged down before anything else.

    Returns:
        0-d tensor in [0, 1] up to rounding; 0 when the channels fire at the same places, in any order.

    Source: Huang and Wang 2017, arXiv:1707.01219, with the polynomial kernel of power 2 and without a constant.
    """
    maps = averaged_alike(wide(student_map), wide(teacher_map.detach()))
    student, teacher = (unit_vectors(one.flatten(2)) for one in maps)
    own = mean_squared_product(student, student) + mean_squared_product(teacher, teacher)
    return own - 2 * mean_squared_product(student, teacher)


def mean_squared_product(first: Tensor, second: Tensor) -> Tensor:
    """Average ``(a . b) ** 2`` over the images and every channel a of the first and b of the second.

    The sum of squares of ``A B'`` is the inner product of ``A' A`` and ``B' B``: the smaller of the two is computed.

    Args:
        first: (B, C, P). second: (B, C', P). With gradient.

    Returns:
        0-d tensor >= 0.
    """
    channels = first.shape[1] * second.shape[1]
    if first.shape[2] ** 2 < channels:
        total = ((first.mT @ first) * (second.mT @ second)).sum()
    else:
        total = (first @ second.mT).square().sum()
    return total / (len(first) * channels)
