"""Normalisation belongs to a network, not to the data: teacher and student may each want their own."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import InputError


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
    def of_network(net: nn.Module, channels: int) -> "Normalisation | None":
        """Return what a network with timm's ``pretrained_cfg`` was trained with, None for any other.

        Arguments and errors as `told`.
        """
        settings = getattr(net, "pretrained_cfg", None)
        if not isinstance(settings, dict) or "mean" not in settings or "std" not in settings:
            return None
        return Normalisation.told(settings["mean"], settings["std"], channels)

    @staticmethod
    def told(mean: Any, std: Any, channels: int) -> "Normalisation":
        """Return what a description says that came with weights, perhaps a stranger's.

        Args:
            channels: C of the images that the network is to see.

        Raises:
            InputError: they are no finite means and positive deviations, one a channel.
        """
        means, deviations = _values(mean), _values(std)
        fits = len(means) == len(deviations) and (len(means) == channels or 1 in (len(means), channels))
        if not means or not fits or min(deviations) <= 0:
            raise InputError(
                f"the weights come with mean {str(mean)!r:.60} and std {str(std)!r:.60}; "
                f"images of {channels} channels need as many finite means and positive deviations"
            )
        return Normalisation(means, deviations)


def _values(told: Any) -> tuple[float, ...]:
    """Return numbers from a stranger's settings; empty where they are none."""
    try:
        values = tuple(float(value) for value in told)
    except (TypeError, ValueError, OverflowError):
        return ()
    return values if all(map(math.isfinite, values)) else ()


@lru_cache(maxsize=64)
def _on_device(normalisation: Normalisation, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return mean and deviation as (C, 1, 1); once a device, as the host waits for a copy to it."""
    mean, std = torch.tensor([normalisation.mean, normalisation.std], device=device)
    return mean.view(-1, 1, 1), std.view(-1, 1, 1)
