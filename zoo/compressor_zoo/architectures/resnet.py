"""Residual networks of depth 6n + 2 for 32x32 images (He et al. 2016, arXiv:1512.03385, section 4.2).

Names: ``resnet20`` has 20 weighted layers and widths 16, 32, 64; ``x4`` multiplies the three stages by 4 (and the
stem by 2), ``x05`` and ``x0375`` the whole network by 0.5 and 0.375. Checkpoints of RepDistiller and of SSKD load
without renaming.
"""

from timm.models import DefaultCfg
from torch import Tensor, nn

from compressor_zoo.architectures.base import Noted, Stage, ZooNetwork, activate, note, variant

default_cfgs: dict[str, DefaultCfg] = {}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an identity, or beside a 1x1 projection where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor, noted: Noted = None) -> Tensor:
        """Return the activated sum; note the sum itself."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(activate(self.bn1(self.conv1(x)))))
        out += identity
        return activate(out, noted)


class CifarResNet(ZooNetwork):
    """Stem and three stages at 1, 1/2 and 1/4 of the input's side; pre-activations are the sums before ReLU."""

    paper = "arXiv:1512.03385"
    stem_module = "relu"
    stage_modules = (("layer1",), ("layer2",), ("layer3",))

    def __init__(
        self,
        depth: int,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        *,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """Build the network.

        Args:
            depth: 6n + 2 weighted layers, n blocks per stage, n >= 1.
            widths: channels of the stem and of the three stages.
            num_classes: width of the logits, 0 for none.
            in_chans: channels of the images.
            global_pool: timm's pooling type; "" for none.
            drop_rate: dropout in front of the classifier, 0 <= p < 1.

        Raises:
            ValueError: ``depth`` is not of the form 6n + 2.
        """
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 (8, 14, 20, ...), got {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_chans, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stack(widths[0], widths[1], blocks, stride=1)
        self.layer2 = _stack(widths[1], widths[2], blocks, stride=2)
        self.layer3 = _stack(widths[2], widths[3], blocks, stride=2)
        self._finish(
            channels=widths,
            reductions=(1, 1, 2, 4),
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
        return _stack(in_channels, channels, len(getattr(self, f"layer{index}")), stride)


def _stack(in_channels: int, channels: int, blocks: int, stride: int) -> Stage:
    return Stage(
        BasicBlock(in_channels, channels, stride), *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1))
    )


cifar_resnet8 = variant("cifar_resnet8", CifarResNet, depth=8)
cifar_resnet14 = variant("cifar_resnet14", CifarResNet, depth=14)
cifar_resnet20 = variant("cifar_resnet20", CifarResNet, depth=20)
cifar_resnet32 = variant("cifar_resnet32", CifarResNet, depth=32)
cifar_resnet44 = variant("cifar_resnet44", CifarResNet, depth=44)
cifar_resnet56 = variant("cifar_resnet56", CifarResNet, depth=56)
cifar_resnet110 = variant("cifar_resnet110", CifarResNet, depth=110)
cifar_resnet8x4 = variant("cifar_resnet8x4", CifarResNet, depth=8, widths=(32, 64, 128, 256))
cifar_resnet32x4 = variant("cifar_resnet32x4", CifarResNet, depth=32, widths=(32, 64, 128, 256))
cifar_resnet14x05 = variant("cifar_resnet14x05", CifarResNet, depth=14, widths=(8, 8, 16, 32))
cifar_resnet20x05 = variant("cifar_resnet20x05", CifarResNet, depth=20, widths=(8, 8, 16, 32))
cifar_resnet20x0375 = variant("cifar_resnet20x0375", CifarResNet, depth=20, widths=(6, 6, 12, 24))
