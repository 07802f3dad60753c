"""Wide residual networks (Zagoruyko and Komodakis 2016, arXiv:1605.07146): ``wrn_depth_width``, BatchNorm and ReLU
in front of each convolution.

Checkpoints of RepDistiller load without renaming.
"""

from timm.models import DefaultCfg
from torch import Tensor, nn

from compressor_zoo.architectures.base import Noted, ZooNetwork, activate, note, variant

default_cfgs: dict[str, DefaultCfg] = {}


class PreActivationBlock(nn.Module):
    """(BatchNorm, ReLU, 3x3 convolution) twice; where the width changes, the shortcut starts behind the first ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor, noted: Noted = None) -> Tensor:
        """Return the sum, which nothing has activated yet; note the normalised input."""
        active = activate(self.bn1(x), noted, held=x)
        out: Tensor = self.conv2(activate(self.bn2(self.conv1(active))))
        out += x if self.convShortcut is None else self.convShortcut(active)
        return out


class WideStage(nn.Module):
    """Blocks in a row, kept under ``layer`` as in the official checkpoints."""

    def __init__(self, in_channels: int, channels: int, blocks: int, stride: int) -> None:
        super().__init__()
        rest = (PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(PreActivationBlock(in_channels, channels, stride), *rest)

    def forward(self, x: Tensor, noted: Noted = None) -> Tensor:
        """Return the sum of the last block; the first block notes its normalised input."""
        for index, block in enumerate(self.layer):
            x = block(x, noted if index == 0 else None)
        return x


class CifarWideResNet(ZooNetwork):
    """Stem and three stages at 1, 1/2 and 1/4 of the input's side.

    The maps are the raw sums, negative values included, and the stem's is the bare convolution. The pre-activation
    of a stage is that sum after the BatchNorm that comes next (of the following stage's first block, or the last
    one). It is taken where the forward pass computes it anyway; the official code runs those BatchNorms a second
    time, so that their running statistics move twice per training step. The values and gradients are the same.
    """

    paper = "arXiv:1605.07146"
    stem_module = "conv1"
    stage_modules = (("block1",), ("block2",), ("block3",))
    tail_modules = ("bn1",)

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """Build the network.

        Args:
            depth: 6n + 4, n blocks per stage, n >= 1.
            width: factor on the widths 16, 32, 64 of the stages; the stem keeps 16.
            num_classes: width of the logits, 0 for none.
            in_chans: channels of the images.
            global_pool: timm's pooling type; "" for none.
            drop_rate: dropout in front of the classifier (not inside the blocks), 0 <= p < 1.

        Raises:
            ValueError: ``depth`` is not of the form 6n + 4.
        """
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4 (10, 16, 22, ...), got {depth}")
        blocks = (depth - 4) // 6
        widths = (16, 16 * width, 32 * width, 64 * width)
        self.conv1 = nn.Conv2d(in_chans, widths[0], 3, padding=1, bias=False)
        self.block1 = WideStage(widths[0], widths[1], blocks, stride=1)
        self.block2 = WideStage(widths[1], widths[2], blocks, stride=2)
        self.block3 = WideStage(widths[2], widths[3], blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(widths[3])
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
            return note(self.conv1(x), noted)
        # A stage notes the pre-activation of the one before it; the stem's has been noted already.
        result: Tensor = getattr(self, f"block{index}")(x, noted if index > 1 else None)
        return result

    def _tail(self, x: Tensor, noted: Noted) -> Tensor:
        return activate(self.bn1(x), noted, held=x)

    def _fresh_stage(self, index: int, *, again: bool = False) -> WideStage:
        in_channels, channels, stride = self._shape(index, again)
        return WideStage(in_channels, channels, len(getattr(self, f"block{index}").layer), stride)

    def _fresh_rest(self) -> nn.Sequential:
        return nn.Sequential(nn.BatchNorm2d(self.num_features), nn.ReLU(inplace=True))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """Set initial weights as the residual networks do, the classifier's bias 0."""
        ZooNetwork._initialise(module)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


cifar_wrn_16_1 = variant("cifar_wrn_16_1", CifarWideResNet, depth=16, width=1)
cifar_wrn_16_2 = variant("cifar_wrn_16_2", CifarWideResNet, depth=16, width=2)
cifar_wrn_40_1 = variant("cifar_wrn_40_1", CifarWideResNet, depth=40, width=1)
cifar_wrn_40_2 = variant("cifar_wrn_40_2", CifarWideResNet, depth=40, width=2)
