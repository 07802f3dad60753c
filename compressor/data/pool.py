"""The augmentation pool: which of an image's few draws an epoch takes, and the numbers of all pictures that can be."""

import torch
from torch import Tensor

from compressor.data.types import Augmentation
from compressor.streams import generator


def chosen_draws(seed: int, epoch: int, count: int, pool: int) -> Tensor:
    """Say which of its ``pool`` draws each of ``count`` images takes in an epoch.

    In every cycle of ``pool`` epochs an image takes each of its draws once, in an order of its own.

    Returns:
        (count,) int64 in [0, pool), on the CPU; a function of the arguments alone.
    """
    cycle, place = divmod(epoch, pool)
    keys = torch.rand((count, pool), generator=generator(seed, "pool", cycle))
    return keys.argsort(dim=1)[:, place]


def pictures_each(augmentation: Augmentation) -> int:
    """Count the pictures that one image can become in one view: of the pool, or by every corner and both directions."""
    if augmentation.pool:
        return augmentation.pool
    return (2 * augmentation.crop_padding + 1) ** 2 * (2 if augmentation.flip else 1)
