"""What OFA puts behind a feature map of the student to read logits off it: convolutions, or attention for tokens."""

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import StageSpec

HEADS = 4
"""Of the attention: the width of the student's embedding must be a multiple of it."""
_FINAL_GRID = 7
_ISOTROPIC_EXITS = (2 / 12, 4 / 12, 10 / 12, 1.0)
_MOST_MAPS = 5


class ConvolutionExit(nn.Sequential):
    """Halve a map until it has the size of the network's last one, average it, and read logits off the mean.

    A halving doubles the channels, the last one leads to ``width``. The last map itself goes through a 1x1 convolution.

    Args:
        stage: the map. last: the network's last map. width: F. classes: K.

    Shapes: (B, C, H, W) to (B, K), with gradient.

    Source: the authors' code of Hao et al. 2023, arXiv:2310.19444, where the maps are four and each half as large as
    the one before.
    """

    def __init__(self, stage: StageSpec, last: StageSpec, width: int, classes: int) -> None:
        channels = [stage.channels * 2**number for number in range(_halvings(stage, last))] + [width]
        halvings = [_halving(*both) for both in pairwise(channels)]
        super().__init__(
            *(halvings if halvings else [nn.Conv2d(stage.channels, width, 1)]),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, classes),
        )
        self.words = f"{_counted(len(halvings), 'halving')}, linear" if halvings else "1x1 convolution, linear"
        self.apply(_draw)


class AttentionExit(nn.Sequential):
    """Merge a map's places until about 7x7 are left, let them attend to each other, and read logits off their mean.

    Args:
        stage: the map. width: D, a multiple of 4. blocks: of attention, >= 1. classes: K.

    Shapes: (B, C, H, W) to (B, K), with gradient.

    Source: the authors' code of Hao et al. 2023, arXiv:2310.19444, for students without a class token. A map whose
    places need no merging and whose channels are not D meets a linear layer, and a side of odd length gets a row of
    zeros before it is merged; both are ours.
    """

    def __init__(self, stage: StageSpec, width: int, blocks: int, classes: int) -> None:
        count = max(int(math.log2(min(stage.height, stage.width) / _FINAL_GRID)), 0)
        merges: list[nn.Module] = [
            PlaceMerging(width if number else stage.channels, width, activate=number == 0 or number < count - 1)
            for number in range(count)
        ]
        if not merges and stage.channels != width:
            merges = [nn.Linear(stage.channels, width)]
        super().__init__(
            ChannelsLast(),
            *merges,
            nn.Flatten(1, 2),
            *(AttentionBlock(width) for _ in range(blocks)),
            PlaceMean(),
            nn.Linear(width, classes),
        )
        self.words = f"{_counted(count, 'merging')}, {_counted(blocks, 'block')} of attention, linear"
        self.apply(_draw)


class PlaceMerging(nn.Module):
    """Join each 2x2 places of (B, H, W, C) into one of ``width`` values: (B, H / 2, W / 2, D), rounded up.

    Source: Liu et al. 2021, arXiv:2103.14030, section 3.1; the GELU at the end is of the authors' code of OFA.
    """

    def __init__(self, channels: int, width: int, *, activate: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.linear = nn.Linear(4 * channels, width, bias=False)
        self.activate = activate

    def forward(self, places: Tensor) -> Tensor:
        """Return the joined places, with gradient."""
        images, height, across, channels = places.shape
        even = F.pad(places, (0, 0, 0, across % 2, 0, height % 2))
        squares = even.reshape(images, (height + 1) // 2, 2, (across + 1) // 2, 2, channels)
        joined: Tensor = self.linear(self.norm(squares.permute(0, 1, 3, 4, 2, 5).flatten(3)))
        return F.gelu(joined) if self.activate else joined


class AttentionBlock(nn.Module):
    """A transformer's block on places (B, N, D): attention of 4 heads, then two layers of width 4 D between.

    Source: Dosovitskiy et al. 2021, arXiv:2010.11929, equations 2 and 3; queries, keys and values have no bias.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width)
        self.norm_layers = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, places: Tensor) -> Tensor:
        """Return (B, N, D), with gradient."""
        images, count, width = places.shape
        joint: Tensor = self.queries_keys_values(self.norm_attention(places))
        queries, keys, values = joint.reshape(images, count, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2)
        mixed: Tensor = places + self.mix(attended)
        changed: Tensor = self.narrow(F.gelu(self.widen(self.norm_layers(mixed))))
        return mixed + changed


class ChannelsLast(nn.Module):
    """Turn (B, C, H, W) into (B, H, W, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return a view."""
        return maps.permute(0, 2, 3, 1)


class PlaceMean(nn.Module):
    """Average (B, N, D) over the places: (B, D)."""

    def forward(self, places: Tensor) -> Tensor:
        """Return the mean, with gradient."""
        return places.mean(1)


def isotropic(stages: Sequence[StageSpec]) -> bool:
    """Say whether all maps of a network are of one shape, as those of plain transformers and mixers are."""
    return len(stages) > 1 and len({(stage.channels, stage.height, stage.width) for stage in stages}) == 1


def default_exits(stages: Sequence[StageSpec]) -> tuple[int, ...]:
    """Return the positions of all maps but the first; of more than five maps of one shape, those of four.

    These stand where the authors' do in twelve blocks: behind the second, fourth, tenth and twelfth.
    """
    if isotropic(stages) and len(stages) > _MOST_MAPS:
        return tuple(round(share * len(stages)) - 1 for share in _ISOTROPIC_EXITS)
    return tuple(range(1, len(stages)))


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _halvings(stage: StageSpec, last: StageSpec) -> int:
    """How often a map's sides are to be halved to those of the last map, on the average of both axes."""
    return max(round(math.log2(stage.height * stage.width / (last.height * last.width)) / 2), 0)


def _halving(channels: int, width: int) -> nn.Sequential:
    """Make two separable convolutions 3x3, the first of which halves the sides."""
    return nn.Sequential(*_separable(channels, channels, stride=2), *_separable(channels, width, stride=1))


def _separable(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]


def _draw(module: nn.Module) -> None:
    """Draw a layer's first weights as the authors' code does."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
