"""Normalisation belongs to a network, not to the data: teacher and student may each want their own."""

from dataclasses import dataclass

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
        shape = (-1, 1, 1)
        mean = torch.tensor(self.mean, device=images.device).view(shape)
        std = torch.tensor(self.std, device=images.device).view(shape)
        return images.float().div_(255).sub_(mean).div_(std)

    @staticmethod
    def of_network(net: nn.Module) -> "Normalisation | None":
        """Return what a network with timm's ``pretrained_cfg`` was trained with, None for any other."""
        settings = getattr(net, "pretrained_cfg", None)
        if not isinstance(settings, dict) or "mean" not in settings or "std" not in settings:
            return None
        return Normalisation(tuple(settings["mean"]), tuple(settings["std"]))
