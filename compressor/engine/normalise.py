"""Normalisation belongs to a network, not to the data: teacher and student may each want their own."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation, a value a channel, in units of [0, 1]; ``identity`` where data comes normalised."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    identity: bool = False

    def __call__(self, images: Tensor) -> Tensor:
        """Return float images of the same shape (..., C, H, W) from uint8 ones; normalised float ones pass through."""
        if self.identity or images.dtype != torch.uint8:
            return images
        mean, std = _on_device(self, images.device)
        return images.float().div_(255).sub_(mean).div_(std)

    @staticmethod
    def of_network(net: nn.Module) -> "Normalisation | None":
        """Return what a network with timm's ``pretrained_cfg`` was trained with, None for any other."""
        settings = getattr(net, "pretrained_cfg", None)
        if not isinstance(settings, dict) or "mean" not in settings or "std" not in settings:
            return None
        return Normalisation(tuple(settings["mean"]), tuple(settings["std"]))


@lru_cache(maxsize=64)
def _on_device(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation as (C, 1, 1); once a device, as the host waits for a copy to it."""
    mean, std = torch.tensor([normalisation.mean, normalisation.std], device=device)
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)
