"""ReviewKD: what the student says late is fused, stage by stage, into what it says early, and meets the teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.checks import check_ranges
from compressor.distiller import Batch, Distiller, Link, ModelOutput, Needs, Pair, Terms
from compressor.errors import UnsupportedPair
from compressor.functional import risen_share, wide
from compressor.matching import link_embeddings, link_stages, match_stages, parse_stages
from compressor.supervision import Supervision, supervised_terms

_LEVELS = (4, 2, 1)


@dataclass(frozen=True, kw_only=True)
class ReviewKDConfig(Supervision):
    """Settings of ReviewKD; the defaults are those of the authors' CIFAR-100 code but for `teacher_maps`."""

    review_weight: float = 1.0  # >= 0, of the maps; the published pairs take 1 to 8
    warmup_epochs: int = 20  # >= 0, over which that weight rises in equal steps
    teacher_maps: Literal["stages", "preacts"] = "stages"  # after the last activation, or before it as published
    stages: str | None = None  # student:teacher pairs such as "1:1,2:3"; None: all but the first map, by depth
    middle_channels: int = 512  # >= 1, at most so many in a fusion; the student's embedding width where that is less

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, not_negative=("review_weight", "warmup_epochs"), at_least_one=("middle_channels",))
        parse_stages("reviewkd.stages", self.stages)


class ReviewKD(Distiller[ReviewKDConfig]):
    """Chen et al., CVPR 2021, arXiv:2104.09044; needs stage maps and embeddings.

    The embedding counts as the last map, of size 1x1. From it towards the first, each of the student's maps is fused
    with the fused map behind it and compared with the teacher's.
    """

    name = "reviewkd"
    Config = ReviewKDConfig
    capturable = "epoch"

    def __init__(self, config: ReviewKDConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        teacher = pair.require_teacher(self.name)
        self.matches = match_stages(pair, self.name, config.stages)
        widths = [
            (pair.student.embedding_width, teacher.embedding_width),
            *(
                (pair.student.stages[match.student].channels, teacher.stages[match.teacher].channels)
                for match in reversed(self.matches)
            ),
        ]
        middle = min(config.middle_channels, pair.student.embedding_width)
        self.fusions = nn.ModuleList(
            Fusion(ours, middle, theirs, deepest=position == 0) for position, (ours, theirs) in enumerate(widths)
        )

    @classmethod
    def needs_for(cls, config: ReviewKDConfig) -> Needs:
        """Return maps and embeddings, and the teacher's pre-activations where they are set."""
        return Needs(stages=True, preacts="teacher" if config.teacher_maps == "preacts" else False, embedding=True)

    @classmethod
    def check(cls, config: ReviewKDConfig, pair: Pair) -> None:
        """Refuse stages that are not there, and pre-activations of a teacher that shows none."""
        match_stages(pair, cls.name, config.stages)
        teacher = pair.require_teacher(cls.name)
        if config.teacher_maps == "preacts" and not teacher.preacts:
            raise UnsupportedPair(
                f"reviewkd.teacher_maps is preacts, and {teacher.name} shows no pre-activations",
                hint="--set method.reviewkd.teacher_maps=stages",
            )

    def plan(self) -> Sequence[Link]:
        """Return each pair of maps with its fusion, the embeddings last."""
        words = "fused with the next, convolution to the teacher's width and size"
        deepest, *others = self.fusions
        return [
            *(
                link_stages(self.pair, match, words, fusion)
                for match, fusion in zip(self.matches, reversed(others), strict=True)
            ),
            link_embeddings(self.pair, "as a map of 1x1, convolution to the teacher's width", deepest),
        ]

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return ``ce``, ``review`` and, with a weight, ``kd``."""
        config = self.config
        ours = [student.stages[match.student] for match in self.matches]
        shown = teacher.preacts if config.teacher_maps == "preacts" else teacher.stages
        theirs = [shown[match.teacher] for match in self.matches]
        reviewed = self.review([*ours, _as_map(student.embedding)], [*theirs, _as_map(teacher.embedding)])
        losses = [pyramid_loss(*both) for both in reviewed]
        risen = risen_share(batch.epoch, config.warmup_epochs)
        return {
            **supervised_terms(config, batch, student, teacher),
            "review": risen * config.review_weight * torch.stack(losses).sum(),
        }

    def review(self, student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Go through the maps from the last to the first.

        Args:
            student_maps: (B, C, H, W) each, the first stage first, with gradient. teacher_maps: those they learn from.

        Returns:
            what the student says in place of each of the teacher's maps, and that map detached; the last first.
        """
        pairs: list[tuple[Tensor, Tensor]] = []
        fused: Tensor | None = None
        for fusion, ours, theirs in zip(self.fusions, reversed(student_maps), reversed(teacher_maps), strict=True):
            said, fused = fusion(ours, fused, (theirs.shape[-2], theirs.shape[-1]))
            pairs.append((said, theirs.detach()))
        return pairs


class Fusion(nn.Module):
    """Two maps become one by an attention that says, at each position, how much each of them counts.

    Args:
        channels: C of the student's map. middle: M of the fused one. teacher_channels: C' of what is compared.
        deepest: whether there is no map behind, and so nothing to fuse.

    Source: Chen et al. 2021, section 3.3 (attention based fusion); names and first weights as in the authors' code.
    """

    def __init__(self, channels: int, middle: int, teacher_channels: int, *, deepest: bool) -> None:
        super().__init__()
        self.conv1 = _normalised(channels, middle, kernel=1)
        self.conv2 = _normalised(middle, teacher_channels, kernel=3)
        self.att_conv = None if deepest else nn.Sequential(nn.Conv2d(2 * middle, 2, kernel_size=1), nn.Sigmoid())

    def forward(self, maps: Tensor, behind: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Fuse ``maps`` (B, C, H, W) with ``behind`` (B, M, h, w), with gradient.

        Returns:
            (B, C', *size) to be compared with the teacher's map; (B, M, H, W) for the next fusion.
        """
        fused: Tensor = self.conv1(maps)
        if self.att_conv is not None and behind is not None:
            behind = _resized(behind, (fused.shape[-2], fused.shape[-1]))
            own, others = self.att_conv(torch.cat([fused, behind], dim=1)).chunk(2, dim=1)
            fused = fused * own + behind * others
        return self.conv2(_resized(fused, size)), fused


def pyramid_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Compare two maps at their own size and averaged to 4x4, 2x2 and 1x1, as far as these are smaller.

    Args:
        student_map: (B, C, H, W), with gradient. teacher_map: same shape, detached.

    Returns:
        0-d tensor >= 0: the mean squared differences, weighted 1, 1/2, 1/4, 1/8 in this order over the sizes that
        there are, divided by the sum of these weights. Sides that are already shorter than 4 or 2 stay.

    Source: Chen et al. 2021, section 3.4 (hierarchical context loss); weights and sizes as in the authors' code.
    """
    ours, theirs = wide(student_map), wide(teacher_map.detach())
    height, width = ours.shape[-2:]
    losses = [F.mse_loss(ours, theirs)]
    for level in _LEVELS:
        size = (min(level, height), min(level, width))
        if size != (height, width):
            losses.append(F.mse_loss(F.adaptive_avg_pool2d(ours, size), F.adaptive_avg_pool2d(theirs, size)))
    weights = [0.5**position for position in range(len(losses))]
    weighted = torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)])
    return weighted.sum() / sum(weights)


def _as_map(embedding: Tensor) -> Tensor:
    return embedding[:, :, None, None]


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring maps (B, C, H, W) to a size: the nearest values where it is larger, averages where it is smaller."""
    height, width = maps.shape[-2:]
    if (height, width) == size:
        return maps
    if size[0] < height or size[1] < width:
        maps = F.adaptive_avg_pool2d(maps, (min(height, size[0]), min(width, size[1])))
    return F.interpolate(maps, size, mode="nearest")


def _normalised(before: int, after: int, *, kernel: int) -> nn.Sequential:
    """Make a convolution without bias that keeps the size, and batch normalisation."""
    convolution = nn.Conv2d(before, after, kernel_size=kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(after))
