"""KDSVD: each stage is said in a few directions of channel space; how they change between stages is passed on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, NetworkSpec, Pair, Terms
from compressor.errors import UnsupportedPair
from compressor.functional import unit_vectors, wide
from compressor.matching import StageMatch, link_stages, match_stages, parse_stages
from compressor.supervision import Supervision, supervised_terms

_SPARE = 3  # directions the student shows beyond those of the teacher, to find each of them one that fits
_KERNEL = 8.0  # twice the squared width of the radial kernel
_USUAL_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class KDSVDConfig(Supervision):
    """Settings of KDSVD; one direction is the benchmark's number, the weight is ours, as none was published."""

    svd_weight: float = 1.0  # >= 0, of the relations between consecutive stages
    directions: int = 1  # >= 1, singular vectors of the teacher's map that are kept (k)
    stages: str | None = None  # two or more student:teacher pairs such as "1:1,2:2"; None: all but the first map

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("svd_weight",), at_least_one=("directions",))
        parse_stages("kdsvd.stages", self.stages)


class KDSVD(Distiller[KDSVDConfig]):
    """Lee, Kim and Song, ECCV 2018, arXiv:1807.06819 (self-supervised, using SVD); needs maps of equal widths."""

    name = "kdsvd"
    Config = KDSVDConfig
    needs = Needs(stages=True)
    zero_when_equal = ("svd",)

    def __init__(self, config: KDSVDConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        self.matches = match_stages(pair, self.name, config.stages)

    @classmethod
    def check(cls, config: KDSVDConfig, pair: Pair) -> None:
        """Refuse fewer than two stages, unequal widths, maps too small for so many directions."""
        matches = match_stages(pair, cls.name, config.stages)
        if len(matches) < 2:
            raise UnsupportedPair("kdsvd compares consecutive stages, and only one stage is matched")
        faults = [(match, _fault(config, pair, match)) for match in matches]
        if any(fault for _, fault in faults):
            fitting = [f"{match.student}:{match.teacher}" for match, fault in faults if not fault]
            raise UnsupportedPair(
                next(fault for _, fault in faults if fault),
                hint=f"--set method.kdsvd.stages={','.join(fitting)}" if len(fitting) > 1 else "--method at",
            )

    @classmethod
    def memory_bytes(cls, config: KDSVDConfig, pair: Pair) -> int:
        """Count the kernels between all channels of two stages and their gradients, for batches of 64, in bytes."""
        widths = [pair.student.stages[match.student].channels for match in match_stages(pair, cls.name, config.stages)]
        return 6 * 4 * _USUAL_BATCH * config.directions * sum(one * other for one, other in pairwise(widths))

    def plan(self) -> Sequence[Link]:
        """Return the matched stages; each but the first is compared together with the one before."""
        return [link_stages(self.pair, match, "singular vectors over the channels") for match in self.matches]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``svd`` and, with a weight, ``kd``."""
        both = [
            stage_directions(student.stages[match.student], teacher.stages[match.teacher], self.config.directions)
            for match in self.matches
        ]
        losses = [change_loss(one, other, its, others) for (one, its), (other, others) in pairwise(both)]
        return {
            **supervised_terms(self.config, batch, student, teacher),
            "svd": self.config.svd_weight * torch.stack(losses).sum(),
        }


def stage_directions(student_map: Tensor, teacher_map: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Describe a stage of both networks by directions that correspond.

    The teacher's are its first ``count``, those of the student the ones among its first ``count + 3`` that lie nearest
    to them up to the sign, turned to the same side. Both are multiplied by the teacher's singular values, brought to
    length 1 over the kept ones (so a single one counts 1).

    Args:
        student_map: (B, C, H, W), with gradient. teacher_map: (B, C, H', W'), detached.

    Returns:
        student's and teacher's directions, (B, C, count) each.

    Source: Lee et al. 2018, section 3.1, as in the CIFAR-100 benchmark's code, but for the sign (see
    `leading_directions`).
    """
    theirs, values = leading_directions(teacher_map.detach(), count)
    ours, _ = leading_directions(student_map, count + _SPARE)
    cosines = theirs.mT @ ours.detach()
    nearest = cosines.abs().argmax(2, keepdim=True)
    side = torch.where(cosines.gather(2, nearest) < 0, -1.0, 1.0).to(ours.dtype)
    chosen = ours.gather(2, nearest.mT.expand(-1, ours.shape[1], -1)) * side.mT
    scale = unit_vectors(values)[:, None]
    return chosen * scale, theirs * scale


def leading_directions(maps: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the directions of channel space along which a map's positions lie, the strongest first.

    A singular vector may point either way, and what comes next depends on it: here the sum of its entries is never
    negative, so no result hangs on the machine's linear algebra.

    The gradient is that of singular vectors, in which ``1 / gap`` of squared singular values stands; here it is
    ``gap / (gap**2 + e**2)`` with e the largest squared value times the root of the machine's precision. So it is
    finite where two values meet or vanish, and untouched where they are well apart.

    Args:
        maps: (B, C, H, W). count: 1 to min(C, H * W).

    Returns:
        (B, C, count) unit vectors, with gradient; (B, count) their singular values >= 0, without.
    """
    rows = wide(maps).flatten(2).mT
    with torch.no_grad():
        _, values, vectors = torch.linalg.svd(torch.nan_to_num(rows, posinf=0.0, neginf=0.0), full_matrices=False)
        basis = torch.where(vectors.sum(2, keepdim=True) < 0, -vectors, vectors).mT
    leading = basis[:, :, :count]
    return leading + _first_order_change(rows, basis, values, count), values[:, :count]


def _first_order_change(rows: Tensor, basis: Tensor, values: Tensor, count: int) -> Tensor:
    """Return zeros (B, C, count) whose gradient towards ``rows`` is that of the leading right singular vectors.

    A small change D of ``rows^T rows`` turns the vector j towards each other vector i by ``(i . D j) / gap``, the gap
    being the difference of their squared singular values, 0 for directions in which the rows do not reach at all.
    """
    leading = basis[:, :, :count]
    image = rows.mT @ (rows @ leading)
    change = image - image.detach()
    squares = values.square()
    along = basis.mT @ change
    within = basis @ (along * _reciprocal(squares[:, None, :count] - squares[:, :, None], squares))
    beyond = (change - basis @ along) * _reciprocal(squares[:, None, :count], squares)
    return within + beyond


def _reciprocal(gaps: Tensor, squares: Tensor) -> Tensor:
    """Return about ``1 / gaps`` (B, ...), bounded, 0 for a gap of 0."""
    precision = torch.finfo(squares.dtype)
    least: Tensor = (squares[:, :1, None] * math.sqrt(precision.eps)).clamp(min=math.sqrt(precision.tiny))
    return gaps / (gaps.square() + least.square())


def change_loss(earlier: Tensor, later: Tensor, teacher_earlier: Tensor, teacher_later: Tensor) -> Tensor:
    """Compare how directions change from one stage to the next, entry by entry.

    Args:
        earlier, teacher_earlier: (B, C, k). later, teacher_later: (B, C', k); the student's with gradient, the
            teacher's detached.

    Returns:
        0-d tensor >= 0: squared difference of ``exp(-(later - earlier)**2 / 8)`` for all pairs of channels, summed over
        them and k, mean over the images.

    Source: Lee et al. 2018, section 3.2; the kernel's width is that of the CIFAR-100 benchmark's code.
    """
    difference = _kernel(earlier, later) - _kernel(teacher_earlier, teacher_later).detach()
    total: Tensor = difference.square().sum()
    return total / len(earlier)


def _kernel(earlier: Tensor, later: Tensor) -> Tensor:
    return torch.exp(-(later[:, :, None] - earlier[:, None]).square() / _KERNEL)


def _fault(config: KDSVDConfig, pair: Pair, match: StageMatch) -> str:
    """Say in words why a pair of stages cannot be compared; nothing where it can."""
    teacher = pair.require_teacher("kdsvd")
    ours, theirs = pair.student.stages[match.student], teacher.stages[match.teacher]
    if ours.channels != theirs.channels:
        return (
            f"kdsvd compares stages of equal width: {ours.name} of {pair.student.name} has {ours.channels} channels, "
            f"{theirs.name} of {teacher.name} has {theirs.channels}"
        )
    return _too_small(pair.student, match.student, config.directions + _SPARE) or _too_small(
        teacher, match.teacher, config.directions
    )


def _too_small(network: NetworkSpec, stage: int, count: int) -> str:
    spec = network.stages[stage]
    if min(spec.channels, spec.height * spec.width) >= count:
        return ""
    shape = f"{spec.channels}x{spec.height}x{spec.width}"
    return f"kdsvd needs {count} singular vectors, and {spec.name} of {network.name} ({shape}) has fewer"
