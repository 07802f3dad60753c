"""A tiny real network for each made-up one: it shows the maps that its shapes promise, and can be copied in parts."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Shape = tuple[int, int, int]
"""(C, H, W) of a feature map."""


class TinyNetwork(nn.Module):
    """Images (B, 3, H, W) of the first map's size to logits (B, K), with the interface that timm's networks have.

    Args:
        maps: shapes of its feature maps, stem first. width: of the embedding. classes: of the logits.
    """

    def __init__(self, maps: tuple[Shape, ...], width: int, classes: int) -> None:
        super().__init__()
        channels = (3, *(shape[0] for shape in maps))
        self.stages = nn.ModuleList(TinyStage(before, shape) for before, shape in zip(channels[:-1], maps, strict=True))
        self.neck = nn.Identity() if width == channels[-1] else nn.Linear(channels[-1], width)
        self.fc = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the (B, K) logits."""
        return self.forward_head(self.forward_intermediates(images, intermediates_only=True)[-1])

    def forward_head(self, final: Tensor) -> Tensor:
        """Return the (B, K) logits of the last map."""
        logits: Tensor = self.fc(self.neck(final.mean((2, 3))))
        return logits

    def forward_intermediates(
        self, images: Tensor, *, output_fmt: str = "NCHW", intermediates_only: bool = False
    ) -> list[Tensor]:
        """Return all maps, (B, C, H, W) each."""
        maps = [images]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def get_classifier(self) -> nn.Module:
        """Return the linear layer."""
        return self.fc


class TinyStage(nn.Module):
    """Average to a size, convolve 1x1, ReLU."""

    def __init__(self, channels: int, shape: Shape) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, shape[0], 1)
        self.size = shape[1:]

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C, H, W) >= 0."""
        return F.relu(self.conv(F.adaptive_avg_pool2d(maps, self.size)))


class TinyTail(nn.Module):
    """What stands behind a stage, in short: a convolution and global pooling, (B, C, H, W) to (B, width)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.conv = nn.Conv2d(channels, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, width) >= 0."""
        return F.relu(self.conv(maps)).mean((2, 3))


def tiny_classifier(width: int, classes: int) -> nn.Linear:
    """Return a frozen linear layer whose weights are always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(width, classes).requires_grad_(False)
