"""A batch as a method sees it: labels and positions; the pixels went to the networks."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from compressor.errors import PluginError


@dataclass(frozen=True, kw_only=True)
class Batch:
    """N training images as a method sees them; the pixels themselves went to the networks.

    Args:
        labels: (N,) int64, one a base image; with V views the outputs have V * N rows.
        views: V, rows of an output for each label.
        epoch: of this phase, from 0.
        step: optimiser steps of this phase before this one, from 0.
        progress: share of this phase that is done, in [0, 1).
        index_or_none: (N,) int64 positions in the student's training set, where declared.
        contrast_or_none: (N, 1 + K) int64 positions: column 0 the positive, then K negatives, where declared.
        note: takes a name and a 0-d number for the log: its mean over an epoch stands beside the terms, and is no
            part of the loss.
        gather: joins a tensor's rows over all processes, in rank order; the identity with one process. No gradient.
    """

    labels: Tensor
    views: int
    epoch: int
    step: int
    progress: float
    index_or_none: Tensor | None = None
    contrast_or_none: Tensor | None = None
    note: Callable[[str, Tensor], None] = field(default=lambda name, value: None)
    gather: Callable[[Tensor], Tensor] = field(default=lambda tensor: tensor)

    @property
    def index(self) -> Tensor:
        """(N,) int64 positions in the student's training set; raises `PluginError` unless declared."""
        return self._given(self.index_or_none, "index", "Needs(index=True)")

    @property
    def contrast(self) -> Tensor:
        """(N, 1 + K) int64 positions, positive first; raises `PluginError` unless declared."""
        return self._given(self.contrast_or_none, "contrast indices", "Needs(negatives=Negatives(K))")

    @staticmethod
    def _given(value: Tensor | None, what: str, declare: str) -> Tensor:
        if value is None:
            raise PluginError(f"the batch's {what} were read but not declared", hint=f"declare {declare}")
        return value
