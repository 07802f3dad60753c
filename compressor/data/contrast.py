"""Contrast indices: for each sample a positive and many negatives out of the training set."""

import numpy as np
import torch
from torch import Tensor

from compressor.distiller import Negatives
from compressor.errors import InputError
from compressor.streams import generator


class ContrastSampler:
    """Draws positions of other classes for each sample, as contrastive methods want them.

    Every draw belongs to (seed, epoch, position): batches, steps and processes have no part in it.

    Args:
        labels: (N,) int64 of the student's training set.
        negatives: how many and which positive.
        seed: of the run.

    Raises:
        InputError: all samples have one class.

    Source: Tian et al. 2020, arXiv:1910.10699, section 3.2: N negatives of other classes and one positive.
    """

    def __init__(self, labels: Tensor, negatives: Negatives, seed: int) -> None:
        self._labels = labels.cpu()
        self._negatives = negatives
        self._seed = seed
        self._order = self._labels.argsort(stable=True)
        self._counts = torch.bincount(self._labels)
        self._starts = self._counts.cumsum(0) - self._counts
        if len(labels) == 0 or int(self._counts.max()) == len(labels):
            raise InputError("negatives are drawn from other classes, but the training images have fewer than two")

    def draw(self, positions: Tensor, epoch: int) -> Tensor:
        """Draw for these samples.

        Args:
            positions: (B,) int64. epoch: from 0.

        Returns:
            (B, 1 + K) int64 on the CPU. Column 0 is the sample itself, or with ``relaxed`` any sample of its class,
            itself among them. The others are a uniform choice among the samples of other classes, without repetition
            where K of them exist, else with; their order says nothing.
        """
        drawn = torch.empty((len(positions), 1 + self._negatives.count), dtype=torch.int64)
        for row, position in zip(drawn, positions.tolist(), strict=True):
            label = int(self._labels[position])
            start, count = int(self._starts[label]), int(self._counts[label])
            owned = generator(self._seed, "negatives", epoch, position)
            places = _choose(len(self._labels) - count, self._negatives.count, owned)
            # Sorted by class, the sample's own class is one block: whoever stands behind it moves up by its length.
            places[int(torch.searchsorted(places, start)) :] += count
            torch.index_select(self._order, 0, places, out=row[1:])
            row[0] = position if self._negatives.positive == "exact" else self._relaxed(start, count, owned)
        return drawn

    def _relaxed(self, start: int, count: int, owned: torch.Generator) -> int:
        return int(self._order[start + int(torch.randint(count, (1,), generator=owned))])


def _choose(pool: int, count: int, owned: torch.Generator) -> Tensor:
    """Choose ``count`` of ``pool`` numbers, all sets equally likely, rising; with repetition from a smaller pool."""
    if count > pool:
        return torch.randint(pool, (count,), generator=owned).sort().values
    if count > pool // 2:
        return _numbers(~_distinct(pool, pool - count, owned))
    return _numbers(_distinct(pool, count, owned))


def _distinct(pool: int, count: int, owned: torch.Generator) -> Tensor:
    """Mark ``count`` <= ``pool / 2 + 1`` of ``pool`` numbers.

    As many numbers as are still missing are drawn and marked, again and again. No number is treated unlike another, so
    all sets of that size are equally likely; and what is missing at least halves each time, on average.
    """
    marked = torch.zeros(pool, dtype=torch.bool)
    view = marked.numpy()  # counting and listing marks is several times faster there
    missing = count
    while missing:
        marked[torch.randint(pool, (missing,), generator=owned)] = True
        missing = count - int(np.count_nonzero(view))
    return marked


def _numbers(marked: Tensor) -> Tensor:
    return torch.from_numpy(np.flatnonzero(marked.numpy()).astype(np.int64, copy=False))
