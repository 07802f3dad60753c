"""Which training images are held out and which the student may see: by class, by a seed that is not the run's."""

import torch
from torch import Tensor

from compressor.errors import InputError, UsageError
from compressor.streams import generator


def hold_out(labels: Tensor, share: float, *, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Part positions class by class, so that both sides have each class in the same proportion.

    Args:
        labels: (N,) int64. share: of each class that is held out, in [0, 1), rounded to whole images (half up); a
            class always keeps at least one image.

    Returns:
        Positions kept and positions held out, each rising, together all N; a function of the arguments alone.
    """
    held: list[Tensor] = []
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        count = min(int(share * len(members) + 0.5), len(members) - 1)
        held.append(members[_shuffled(len(members), seed, purpose, label)[:count]])
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.cat(held)] = True
    return (~mask).nonzero().flatten(), mask.nonzero().flatten()


def validation_split(labels: Tensor, share: float, *, seed: int) -> tuple[Tensor, Tensor | None]:
    """Hold a validation part out of training.

    Returns:
        Positions left for training, and those held out: None when ``share`` is 0.

    Raises:
        UsageError: ``share`` is outside [0, 1). InputError: it is so small that nothing would be held out.
    """
    if not 0 <= share < 1:
        raise UsageError(f"val_split must be in [0, 1), got {share}", hint="--val-split 0.1")
    if share == 0:
        return torch.arange(len(labels)), None
    kept, held = hold_out(labels, share, seed=seed, purpose="val-split")
    if len(held) == 0:
        raise InputError(
            f"a validation share of {share} holds no image out of {len(labels)}: every class is too small",
            hint="--val-split 0, or a larger share",
        )
    return kept, held


def first_of_each_class(labels: Tensor, counts: Tensor, *, seed: int) -> Tensor:
    """Choose images of each class from the head of an order of its own: fewer images are part of more.

    Args:
        labels: (N,) int64. counts: (K,) int64 how many of each class, not more than it has.

    Returns:
        (sum of counts,) positions, rising.
    """
    chosen = [
        members[_shuffled(len(members), seed, "shots", label)[:count]]
        for label, count in enumerate(counts.tolist())
        for members in [(labels == label).nonzero().flatten()]
    ]
    return torch.cat(chosen).sort().values


def _shuffled(count: int, seed: int, purpose: str, label: int) -> Tensor:
    return torch.randperm(count, generator=generator(seed, purpose, label))
