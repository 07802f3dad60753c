"""ResNet-50 for 32x32 images: the bottleneck blocks of He et al. 2016 (arXiv:1512.03385) behind a 3x3 stem of stride 1.

There is no max-pooling. timm's ``resnet50`` is another network (7x7 stem of stride 2). Checkpoints of RepDistiller
load without renaming.
"""

from timm.models import DefaultCfg
from torch import Tensor, nn

from compressor_zoo.architectures.base import Noted, Stage, ZooNetwork, activate, note, variant

default_cfgs: dict[str, DefaultCfg] = {}

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolution beside an identity or a 1x1 projection."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        channels = EXPANSION * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()  # empty: the identity
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor, noted: Noted = None) -> Tensor:
        """Return the activated sum; note the sum itself."""
        out = activate(self.bn1(self.conv1(x)))
        out = activate(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += self.shortcut(x)
        return activate(out, noted)


class CifarResNet50(ZooNetwork):
    """Stem and four stages at 1, 1/2, 1/4 and 1/8 of the input's side; pre-activations are the sums before ReLU."""

    paper = "arXiv:1512.03385"
    stem_module = "relu"
    stage_modules = (("layer1",), ("layer2",), ("layer3",), ("layer4",))
    classifier_name = "linear"

    def __init__(
        self, *, num_classes: int = 100, in_chans: int = 3, global_pool: str = "avg", drop_rate: float = 0.0
    ) -> None:
        """Build the network; keywords as in `CifarResNet`."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stack(64, 64, blocks=3, stride=1)
        self.layer2 = _stack(256, 128, blocks=4, stride=2)
        self.layer3 = _stack(512, 256, blocks=6, stride=2)
        self.layer4 = _stack(1024, 512, blocks=3, stride=2)
        self._finish(
            channels=(64, 256, 512, 1024, 2048),
            reductions=(1, 1, 2, 4, 8),
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
        return _stack(in_channels, channels // EXPANSION, len(getattr(self, f"layer{index}")), stride)


def _stack(in_channels: int, width: int, blocks: int, stride: int) -> Stage:
    rest = (Bottleneck(EXPANSION * width, width, 1) for _ in range(blocks - 1))
    return Stage(Bottleneck(in_channels, width, stride), *rest)


cifar_resnet50 = variant("cifar_resnet50", CifarResNet50)
