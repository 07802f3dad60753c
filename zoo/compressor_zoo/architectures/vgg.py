"""VGG with BatchNorm and a single linear classifier (Simonyan and Zisserman 2015, arXiv:1409.1556) for small images.

``vgg8`` has one convolution per block, which the paper does not list. Checkpoints of RepDistiller (its ``*_bn``
functions) load without renaming.
"""

from itertools import pairwise

from timm.models import DefaultCfg
from torch import Tensor, nn
from torch.nn import functional as F

from compressor_zoo.architectures.base import Noted, ZooNetwork, activate, note, variant

default_cfgs: dict[str, DefaultCfg] = {}

WIDTHS = (64, 128, 256, 512, 512)
POOLED_FROM = (None, 0, 0, 0, 8)  # per block, the least side of a map that is pooled in front of it


class ConvBlock(nn.Sequential):
    """Convolution, BatchNorm, ReLU in turn; the last ReLU is applied in `forward` and has no place of its own."""

    def __init__(self, in_channels: int, channels: int, depth: int) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise((in_channels, *[channels] * depth)):
            # The bias has no effect in front of a BatchNorm, but the official checkpoints carry it.
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        super().__init__(*layers[:-1])

    def forward(self, x: Tensor, noted: Noted = None) -> Tensor:
        """Return the activated map; note it as it is before the activation."""
        for layer in self:
            x = layer(x)
        return activate(x, noted)


class PooledBlock(nn.Module):
    """A block with the max-pooling in front of it, as stages of `CifarVGG.make_tail` have it; see `pool`."""

    def __init__(self, block: ConvBlock, pooled_from: int | None) -> None:
        super().__init__()
        self.block = block
        self.pooled_from = pooled_from

    def forward(self, x: Tensor) -> Tensor:
        """Return the activated map of the block."""
        result: Tensor = self.block(pool(x, self.pooled_from))
        return result


def pool(x: Tensor, pooled_from: int | None) -> Tensor:
    """Halve height and width by max-pooling if both are at least ``pooled_from``; None: never."""
    return F.max_pool2d(x, 2) if pooled_from is not None and min(x.shape[-2:]) >= pooled_from else x


class CifarVGG(ZooNetwork):
    """Five blocks of 3x3 convolutions; block 0 is the stem and its pre-activation is its map, as in the official code.

    Max-pooling halves the side between blocks 0, 1, 2 and 3. Between blocks 3 and 4 the official code pools 64x64
    images only; here it pools whenever the map is at least 8 wide and high. That is the same at 32 and at 64, gives
    images larger than 64 the fifth resolution that the paper has, and lets images from 8x8 upward through.

    `make_tail` follows HSAKD's code, which takes blocks 3 and 4 for one stage: two blocks of their shape stand behind
    block 4. That code branches off blocks 0, 1, 2 and 4 (``stages`` of its methods names them), and not off block 3,
    behind which block 4 alone stands here.
    """

    paper = "arXiv:1409.1556"
    stem_module = "block0"
    stage_modules = (("block1",), ("block2",), ("block3",), ("block4",))
    classifier_name = "classifier"
    first_conv = "block0.0"

    def __init__(
        self,
        depths: tuple[int, int, int, int, int],
        *,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """Build the network.

        Args:
            depths: convolutions in each of the five blocks.
            num_classes: width of the logits, 0 for none.
            in_chans: channels of the images.
            global_pool: timm's pooling type; "" for none.
            drop_rate: dropout in front of the classifier, 0 <= p < 1.
        """
        super().__init__()
        for index, (before, after) in enumerate(pairwise((in_chans, *WIDTHS))):
            self.add_module(f"block{index}", ConvBlock(before, after, depths[index]))
        self._finish(
            channels=WIDTHS,
            reductions=(1, 2, 4, 8, 8),
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )

    def _stage(self, index: int, x: Tensor, noted: Noted) -> Tensor:
        block = getattr(self, f"block{index}")
        if index == 0:
            return note(block(x), noted)
        result: Tensor = block(pool(x, POOLED_FROM[index]), noted)
        return result

    def _fresh_stage(self, index: int, *, again: bool = False) -> nn.Module:
        if again:
            return nn.Sequential(*(ConvBlock(WIDTHS[-1], WIDTHS[-1], self._depth(one)) for one in (index - 1, index)))
        block = ConvBlock(WIDTHS[index - 1], WIDTHS[index], self._depth(index))
        return PooledBlock(block, POOLED_FROM[index])

    def _depth(self, index: int) -> int:
        return sum(isinstance(layer, nn.Conv2d) for layer in getattr(self, f"block{index}"))

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """Set initial weights as the residual networks do, the classifier's N(0, 0.01 ** 2) with bias 0."""
        ZooNetwork._initialise(module)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


cifar_vgg8 = variant("cifar_vgg8", CifarVGG, depths=(1, 1, 1, 1, 1))
cifar_vgg11 = variant("cifar_vgg11", CifarVGG, depths=(1, 1, 2, 2, 2))
cifar_vgg13 = variant("cifar_vgg13", CifarVGG, depths=(2, 2, 2, 2, 2))
cifar_vgg16 = variant("cifar_vgg16", CifarVGG, depths=(2, 2, 3, 3, 3))
cifar_vgg19 = variant("cifar_vgg19", CifarVGG, depths=(2, 2, 4, 4, 4))
