"""ShuffleNetV2 at width 1 (Ma et al. 2018, arXiv:1807.11164) for small images.

The stem is a 1x1 convolution of stride 1 and no pooling follows it.

Checkpoints of RepDistiller (``ShuffleV2``) load without renaming.
"""

import torch
from timm.models import DefaultCfg
from torch import Tensor, nn

from compressor_zoo.architectures.base import Noted, Stage, ZooNetwork, activate, note, variant
from compressor_zoo.architectures.shufflenetv1 import channel_shuffle

default_cfgs: dict[str, DefaultCfg] = {}

STEM_WIDTH = 24
WIDTHS = (116, 232, 464)
DEPTHS = (3, 7, 3)  # blocks after the one that halves the side
LAST_WIDTH = 1024


class SplitBlock(nn.Module):
    """Half of the channels passes by, half goes through 1x1, 3x3 depth-wise and 1x1 convolution; then both shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor, noted: Noted = None) -> Tensor:
        """Return the shuffled map; note both halves unshuffled, the second not yet activated."""
        passive, active = x.chunk(2, dim=1)
        active = activate(self.bn1(self.conv1(active)))
        active = self.bn3(self.conv3(self.bn2(self.conv2(active))))
        if noted is not None:
            noted.append(torch.cat([passive, active], dim=1))
        return channel_shuffle(torch.cat([passive, activate(active)], dim=1), 2)


class DownBlock(nn.Module):
    """Two branches (depth-wise and 1x1; 1x1, depth-wise and 1x1) halve the side at stride 2; join and shuffle them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, stride, padding=1, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(in_channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, stride, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        """Return the shuffled map."""
        left = activate(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = activate(self.bn3(self.conv3(x)))
        right = activate(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return channel_shuffle(torch.cat([left, right], dim=1), 2)


class CifarShuffleNetV2(ZooNetwork):
    """Stem and three stages at 1, 1/2, 1/4 and 1/8 of the input's side; a 1x1 convolution stands in front of the head.

    A pre-activation map has its channels in the order before the last shuffle, and its first half has been activated
    by an earlier block, as in the official code: ``relu(preact)`` is the stage's map in another channel order.
    """

    paper = "arXiv:1807.11164"
    stem_module = "relu"
    stage_modules = (("layer1",), ("layer2",), ("layer3",))
    tail_modules = ("conv2", "bn2")
    classifier_name = "linear"

    def __init__(
        self, *, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        """Build the network; keywords as in `CifarResNet`."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, STEM_WIDTH, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stack(STEM_WIDTH, WIDTHS[0], DEPTHS[0])
        self.layer2 = _stack(WIDTHS[0], WIDTHS[1], DEPTHS[1])
        self.layer3 = _stack(WIDTHS[1], WIDTHS[2], DEPTHS[2])
        self.conv2 = nn.Conv2d(WIDTHS[2], LAST_WIDTH, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST_WIDTH)
        self._finish(
            channels=(STEM_WIDTH, *WIDTHS),
            reductions=(1, 2, 4, 8),
            num_features=LAST_WIDTH,
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )

    def _stage(self, index: int, x: Tensor, noted: Noted) -> Tensor:
        if index == 0:
            return note(self.relu(self.bn1(self.conv1(x))), noted)
        result: Tensor = getattr(self, f"layer{index}")(x, noted)
        return result

    def _tail(self, x: Tensor, noted: Noted) -> Tensor:
        return activate(self.bn2(self.conv2(x)))

    def _fresh_stage(self, index: int, *, again: bool = False) -> Stage:
        in_channels, channels, stride = self._shape(index, again)
        return _stack(in_channels, channels, DEPTHS[index - 1], stride)

    def _fresh_rest(self) -> nn.Sequential:
        conv = nn.Conv2d(WIDTHS[-1], LAST_WIDTH, 1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(LAST_WIDTH), nn.ReLU(inplace=True))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """Leave torch's own initial weights, as the official code does."""


def _stack(in_channels: int, channels: int, depth: int, stride: int = 2) -> Stage:
    return Stage(DownBlock(in_channels, channels, stride), *(SplitBlock(channels) for _ in range(depth)))


cifar_shufflenetv2 = variant("cifar_shufflenetv2", CifarShuffleNetV2)
