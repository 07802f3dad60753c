"""Variational information distillation: the student's maps are to tell as much as they can of the teacher's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Terms
from compressor.functional import averaged_alike, wide
from compressor.matching import link_stages, match_stages, parse_stages
from compressor.supervision import Supervision, supervised_terms

_LINEAR_FROM = 40.0  # above it softplus is its argument to the last bit of float64; above torch's own 20 it is not


@dataclass(frozen=True, kw_only=True)
class VIDConfig(Supervision):
    """Settings of variational information distillation; the defaults are those of the CIFAR-100 benchmark."""

    vid_weight: float = 1.0  # >= 0, of the negative log-likelihood, summed over the stages
    initial_variance: float = 5.0  # > the least variance, of every channel at the start
    least_variance: float = 1e-5  # > 0, no channel's goes below
    stages: str | None = None  # student:teacher pairs such as "1:1,2:3" (the first map is 0); None: all but the first

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, positive=("initial_variance", "least_variance"), not_negative=("vid_weight",))
        if not self.initial_variance > self.least_variance:
            raise ValueError(
                f"vid.initial_variance must be > vid.least_variance = {self.least_variance}, "
                f"got {self.initial_variance}"
            )
        parse_stages("vid.stages", self.stages)


class VID(Distiller[VIDConfig]):
    """Ahn et al., CVPR 2019, arXiv:1904.05835; needs stage maps."""

    name = "vid"
    Config = VIDConfig
    capturable = "phase"
    needs = Needs(stages=True)

    def __init__(self, config: VIDConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        teacher = pair.require_teacher(self.name)
        self.matches = match_stages(pair, self.name, config.stages)
        self.guesses = nn.ModuleList(
            GaussianGuess(
                pair.student.stages[match.student].channels,
                teacher.stages[match.teacher].channels,
                config.initial_variance,
                config.least_variance,
            )
            for match in self.matches
        )

    @classmethod
    def check(cls, config: VIDConfig, pair: Pair) -> None:
        """Refuse networks that show no maps, and stages that are not there."""
        match_stages(pair, cls.name, config.stages)

    def plan(self) -> Sequence[Link]:
        """Return the matched stages, each with the network that guesses the teacher's."""
        return [
            link_stages(self.pair, match, "three 1x1 convolutions and a variance a channel", guess)
            for match, guess in zip(self.matches, self.guesses, strict=True)
        ]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``vid`` and, with a weight, ``kd``."""
        losses = [
            guess(student.stages[match.student], teacher.stages[match.teacher])
            for match, guess in zip(self.matches, self.guesses, strict=True)
        ]
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "vid": self.config.vid_weight * torch.stack(losses).sum(),
        }


class GaussianGuess(nn.Module):
    """Guess a teacher's map from a student's: a mean for every element, a variance for every channel.

    Three 1x1 convolutions without bias and without batch normalisation, ReLU between them, as wide as the teacher.

    Args:
        student_channels: C. teacher_channels: C'.
        initial_variance: of every channel at the start. least_variance: > 0, below that.

    Source: Ahn et al. 2019, arXiv:1904.05835; the layers are those of the CIFAR-100 benchmark.
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, initial_variance: float, least_variance: float
    ) -> None:
        super().__init__()
        self.mean = nn.Sequential(
            nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(teacher_channels, teacher_channels, kernel_size=1, bias=False),
        )
        self.least_variance = least_variance
        self.log_scale = nn.Parameter(
            torch.full((teacher_channels,), softplus_inverse(initial_variance - least_variance))
        )

    @property
    def variance(self) -> Tensor:
        """(C',) >= the least variance: ``softplus(log_scale)`` above it, finite where ``log(1 + exp)`` is not."""
        return F.softplus(wide(self.log_scale), threshold=_LINEAR_FROM) + self.least_variance

    def forward(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return how unlikely the teacher's map is under the guess, see `gaussian_loss`.

        Args:
            student_map: (B, C, H, W), with gradient. teacher_map: (B, C', H', W'), detached; the larger is averaged.
        """
        student, teacher = averaged_alike(student_map, teacher_map.detach())
        return gaussian_loss(self.mean(student), self.variance, teacher)


def gaussian_loss(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of independent Gaussians, mean over all elements, without the constant.

    Args:
        mean: (B, C, H, W). variance: (C,) > 0. target: (B, C, H, W). With gradient.

    Returns:
        0-d tensor, nats an element less ``log(2 pi) / 2``; of either sign.

    Source: Ahn et al. 2019, arXiv:1904.05835: the variational bound with a Gaussian.
    """
    spread = variance[:, None, None]
    return ((wide(mean) - wide(target)).square() / spread + spread.log()).mean() / 2


def softplus_inverse(value: float) -> float:
    """Return x with ``log(1 + exp(x)) = value`` for a value > 0, without overflow."""
    return value + math.log(-math.expm1(-value))
