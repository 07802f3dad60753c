"""A network of the user's own, named ``fault_networks:small``: so small that a run folder of it can be kept in Git."""

from torch import Tensor, nn


class Small(nn.Module):
    """Two convolutions and a classifier, about 2,000 parameters, with or without batch statistics."""

    def __init__(self, num_classes: int = 10, *, statistics: bool = True) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=not statistics),
            nn.BatchNorm2d(8) if statistics else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=not statistics),
            nn.BatchNorm2d(16) if statistics else nn.Identity(),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.classifier = nn.Linear(16, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, K) logits."""
        logits: Tensor = self.classifier(self.features(images))
        return logits


def small(num_classes: int = 10) -> Small:
    """Build it with batch statistics."""
    return Small(num_classes)


def without_statistics(num_classes: int = 10) -> Small:
    """Build it without batch statistics, so that nothing depends on who is in a batch."""
    return Small(num_classes, statistics=False)
