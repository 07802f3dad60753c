"""Similarity preservation: images that excite the teacher alike are to excite the student alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Terms
from compressor.functional import unit_vectors, wide
from compressor.matching import StageMatch, link_stages, match_last, match_stages, parse_stages
from compressor.supervision import Supervision, supervised_terms


@dataclass(frozen=True, kw_only=True)
class SPConfig(Supervision):
    """Settings of similarity preservation; the defaults are those of the CIFAR-100 benchmark."""

    sp_weight: float = 3000.0  # >= 0, of the difference of the similarities, summed over the stages
    stages: str | None = None  # student:teacher pairs such as "2:2,3:3" (the first map is 0); None: the last of each

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("sp_weight",))
        parse_stages("sp.stages", self.stages)


class SP(Distiller[SPConfig]):
    """Tung and Mori, ICCV 2019, arXiv:1907.09682; needs stage maps."""

    name = "sp"
    Config = SPConfig
    capturable = "phase"
    needs = Needs(stages=True)
    zero_when_equal = ("sp",)

    def __init__(self, config: SPConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.matches = _matches(config, pair)

    @classmethod
    def check(cls, config: SPConfig, pair: Pair) -> None:
        """Refuse networks that show no maps, and stages that are not there."""
        _matches(config, pair)

    def plan(self) -> Sequence[Link]:
        """Return the matched stages; their images' similarities are compared, so sizes need not agree."""
        return [link_stages(self.pair, match, "similarities between the images") for match in self.matches]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``sp`` and, with a weight, ``kd``."""
        losses = [
            similarity_loss(student.stages[match.student], teacher.stages[match.teacher]) for match in self.matches
        ]
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "sp": self.config.sp_weight * torch.stack(losses).sum(),
        }


def similarity_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared difference of the two matrices of similarities between a batch's images.

    Args:
        student_map: (B, ...), with gradient. teacher_map: (B, ...), detached; any other shape behind B.

    Returns:
        0-d tensor in [0, 4 / B]; 0 when the similarities are proportional in every row.

    Source: Tung and Mori 2019, arXiv:1907.09682, section 3.
    """
    return (similarities(student_map) - similarities(teacher_map.detach())).square().mean()


def similarities(feature_map: Tensor) -> Tensor:
    """Compare each image of a batch with all: inner products, each row divided by its length.

    Args:
        feature_map: (B, ...), flattened behind B.

    Returns:
        (B, B), rows of length 1; a row of zeros for an image whose map is zero everywhere.

    Source: Tung and Mori 2019, arXiv:1907.09682, section 3.
    """
    rows = wide(feature_map).flatten(1)
    return unit_vectors(rows @ rows.T)


def _matches(config: SPConfig, pair: Pair) -> tuple[StageMatch, ...]:
    return match_stages(pair, "sp", config.stages) if config.stages else (match_last(pair, "sp"),)
