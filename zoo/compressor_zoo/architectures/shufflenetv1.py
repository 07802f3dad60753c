"""ShuffleNet with three groups (Zhang et al. 2018, arXiv:1707.01083) for small images.

The stem is a 1x1 convolution of stride 1 and no pooling follows it.

Checkpoints of RepDistiller (``ShuffleV1``) load without renaming.
"""

import torch
from timm.models import DefaultCfg
from torch import Tensor, nn
from torch.nn import functional as F

from compressor_zoo.architectures.base import Noted, Stage, ZooNetwork, activate, note, variant

default_cfgs: dict[str, DefaultCfg] = {}

STEM_WIDTH = 24
WIDTHS = (240, 480, 960)
DEPTHS = (4, 8, 4)
GROUPS = 3


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Deal the (B, C, H, W) channels of ``groups`` equal groups out in turn: first of each, second of each, ..."""
    if not torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]  # public, not typed
        return F.channel_shuffle(x, groups)  # keeps the layout in memory, on which the speed of its neighbours hangs
    batch, channels, height, width = x.shape  # exporters know these operations
    return x.reshape(batch, groups, channels // groups, height, width).transpose(1, 2).flatten(1, 2)


class ShuffleUnit(nn.Module):
    """1x1 grouped convolution, shuffle, 3x3 depth-wise, 1x1 grouped; the input is added, or, at stride 2, appended."""

    def __init__(self, in_channels: int, channels: int, stride: int, first_groups: int) -> None:
        super().__init__()
        out_channels = channels - in_channels if stride == 2 else channels
        hidden = out_channels // 4
        self.first_groups = first_groups
        self.stride = stride
        self.conv1 = nn.Conv2d(in_channels, hidden, 1, groups=first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, out_channels, 1, groups=GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, noted: Noted = None) -> Tensor:
        """Return the activated sum or concatenation; note it as it is before the activation."""
        out = channel_shuffle(activate(self.bn1(self.conv1(x))), self.first_groups)
        out = activate(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        halves = self.stride == 2
        out = torch.cat([out, F.avg_pool2d(x, 3, stride=2, padding=1)], dim=1) if halves else out + x
        return activate(out, noted)


class CifarShuffleNetV1(ZooNetwork):
    """Stem and three stages at 1, 1/2, 1/4 and 1/8 of the input's side; pre-activations precede the last ReLU."""

    paper = "arXiv:1707.01083"
    stem_module = "relu"
    stage_modules = (("layer1",), ("layer2",), ("layer3",))
    classifier_name = "linear"

    def __init__(
        self, *, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        """Build the network; keywords as in `CifarResNet`."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, STEM_WIDTH, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.relu = nn.ReLU(inplace=True)
        # The paper does not group the very first 1x1 convolution: its input has few channels.
        self.layer1 = _stack(STEM_WIDTH, WIDTHS[0], DEPTHS[0], first_groups=1)
        self.layer2 = _stack(WIDTHS[0], WIDTHS[1], DEPTHS[1], first_groups=GROUPS)
        self.layer3 = _stack(WIDTHS[1], WIDTHS[2], DEPTHS[2], first_groups=GROUPS)
        self._finish(
            channels=(STEM_WIDTH, *WIDTHS),
            reductions=(1, 2, 4, 8),
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

    def _fresh_stage(self, index: int, *, again: bool = False) -> Stage:
        in_channels, channels, stride = self._shape(index, again)
        first_groups = 1 if index == 1 else GROUPS
        return _stack(in_channels, channels, DEPTHS[index - 1], first_groups=first_groups, stride=stride)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """Leave torch's own initial weights, as the official code does."""


def _stack(in_channels: int, channels: int, depth: int, first_groups: int, stride: int = 2) -> Stage:
    rest = (ShuffleUnit(channels, channels, 1, GROUPS) for _ in range(depth - 1))
    return Stage(ShuffleUnit(in_channels, channels, stride, first_groups), *rest)


cifar_shufflenetv1 = variant("cifar_shufflenetv1", CifarShuffleNetV1)
