"""MobileNetV2 at half width for small images (Sandler et al. 2018, arXiv:1801.04381), with two stems.

``mobilenetv2_half`` halves the side in its stem and ends in 2x2 maps at 32x32: RepDistiller's and SSKD's network.
``mobilenetv2_half_stride1`` does not and ends in 4x4 maps: HSAKD's. Their results are not comparable: without a
teacher HSAKD reports 73.51 % on CIFAR-100, RepDistiller 64.60 %.

State-dict keys are RepDistiller's; `checkpoint_filter_fn` turns SSKD's and HSAKD's into them.
"""

from collections.abc import Mapping

from timm.models import DefaultCfg
from torch import Tensor, nn

from compressor_zoo.architectures.base import Noted, ZooNetwork, note, variant

default_cfgs: dict[str, DefaultCfg] = {}

# Other official code keeps the classifier outside a Sequential; everything else has the same name.
SSKD_KEYS: Mapping[str, str] = {"classifier.weight": "classifier.0.weight", "classifier.bias": "classifier.0.bias"}

# Per group of blocks: expansion, channels, number of blocks, stride of the first. Widths are half of the paper's,
# and the second group has stride 1 instead of 2.
GROUPS = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)
STEM_WIDTH = 16
LAST_WIDTH = 1280


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter depth-wise by 3x3, project by a linear 1x1 convolution; add the input if shapes agree."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = expansion * in_channels
        self.adds_input = stride == 1 and in_channels == channels
        self.conv = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a map that no activation follows."""
        out: Tensor = self.conv(x)
        return x + out if self.adds_input else out


class CifarMobileNetV2(ZooNetwork):
    """Stem and four stages; a 1x1 convolution to 1280 channels stands in front of the head.

    The stages' maps are linear (negative values included), so maps and pre-activations are the same tensors.
    """

    paper = "arXiv:1801.04381"
    stem_module = "conv1"
    stage_modules = (("blocks.0", "blocks.1"), ("blocks.2",), ("blocks.3", "blocks.4"), ("blocks.5", "blocks.6"))
    tail_modules = ("conv2",)
    classifier_name = "classifier.0"
    first_conv = "conv1.0"

    def __init__(
        self,
        stem_stride: int = 2,
        *,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        """Build the network; ``stem_stride`` is 1 or 2, other keywords as in `CifarResNet`.

        Raises:
            ValueError: another ``stem_stride``.
        """
        super().__init__()
        if stem_stride not in (1, 2):
            raise ValueError(f"stem_stride must be 1 or 2, got {stem_stride}")
        self.conv1 = _conv_bn_relu(in_chans, STEM_WIDTH, kernel=3, stride=stem_stride)
        self.blocks = nn.ModuleList()
        width = STEM_WIDTH
        for expansion, channels, depth, stride in GROUPS:
            self.blocks.append(_group(width, channels, depth, stride, expansion))
            width = channels
        self.conv2 = _conv_bn_relu(width, LAST_WIDTH, kernel=1, stride=1)
        self.classifier = nn.Sequential(nn.Identity())  # its only entry is set with the head
        self._finish(
            channels=(STEM_WIDTH, 12, 16, 48, 160),
            reductions=tuple(stem_stride * factor for factor in (1, 1, 2, 4, 8)),
            num_features=LAST_WIDTH,
            num_classes=num_classes,
            in_chans=in_chans,
            global_pool=global_pool,
            drop_rate=drop_rate,
        )

    def _stage(self, index: int, x: Tensor, noted: Noted) -> Tensor:
        names = (self.stem_module,) if index == 0 else self.stage_modules[index - 1]
        for name in names:
            x = self.get_submodule(name)(x)
        return note(x, noted)

    def _tail(self, x: Tensor, noted: Noted) -> Tensor:
        result: Tensor = self.conv2(x)
        return result

    def _fresh_stage(self, index: int, *, again: bool = False) -> nn.Sequential:
        width = self._shape(index, again)[0]
        groups = []
        for name in self.stage_modules[index - 1]:
            expansion, channels, depth, stride = GROUPS[int(name.removeprefix("blocks."))]
            groups.append(_group(width, channels, depth, 1 if again else stride, expansion))
            width = channels
        return nn.Sequential(*groups)

    def _fresh_rest(self) -> nn.Sequential:
        return _conv_bn_relu(GROUPS[-1][1], LAST_WIDTH, kernel=1, stride=1)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        """Set initial weights as the residual networks do, the classifier's N(0, 0.01 ** 2) with bias 0."""
        ZooNetwork._initialise(module)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)


def checkpoint_filter_fn(state_dict: Mapping[str, Tensor], model: nn.Module | None = None) -> dict[str, Tensor]:
    """Rename the entries of an SSKD or HSAKD state dict to RepDistiller's; others pass unchanged.

    ``model`` is there because timm hands it to every such filter; it plays no part.
    """
    return {SSKD_KEYS.get(key, key): value for key, value in state_dict.items()}


def _group(in_channels: int, channels: int, depth: int, stride: int, expansion: int) -> nn.Sequential:
    first = InvertedResidual(in_channels, channels, stride, expansion)
    return nn.Sequential(first, *(InvertedResidual(channels, channels, 1, expansion) for _ in range(depth - 1)))


def _conv_bn_relu(in_channels: int, channels: int, *, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


cifar_mobilenetv2_half = variant("cifar_mobilenetv2_half", CifarMobileNetV2, stem_stride=2)
cifar_mobilenetv2_half_stride1 = variant("cifar_mobilenetv2_half_stride1", CifarMobileNetV2, stem_stride=1)
