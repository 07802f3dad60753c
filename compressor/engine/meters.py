"""What a lane measures while it trains: means over an epoch, kept on the device so that no step waits for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Meter:
    """Sums of a lane's terms since the epoch began."""

    names: tuple[str, ...] = ()
    total: Tensor | None = None
    weight: float = 0.0

    def add(self, names: tuple[str, ...], terms: Tensor, weight: float) -> None:
        """Add the terms (T,) of one micro-batch, float32 without gradient, weighted by its images."""
        values = terms * weight
        if self.names != names:
            self.names, self.total, self.weight = names, None, 0.0
        self.total = values if self.total is None else self.total + values
        self.weight += weight

    def of_all(self, gather: Callable[[Tensor], Tensor]) -> "Meter":
        """Return the sums of all processes together; every process must ask.

        Args:
            gather: joins the rows of a tensor over all processes.
        """
        if self.total is None:
            return self
        mine = torch.cat([self.total, self.total.new_tensor([self.weight])])
        together = gather(mine[None]).sum(0)
        return Meter(self.names, together[:-1], float(together[-1]))

    def means(self) -> Mapping[str, float]:
        """Return the mean of each term; empty before the first step."""
        if self.total is None or self.weight == 0:
            return {}
        return dict(zip(self.names, (self.total / self.weight).tolist(), strict=True))


@dataclass
class Notes:
    """Numbers that a method notes for the log, each with how often it was noted since the epoch began."""

    totals: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, value: Tensor) -> None:
        """Add a 0-d number."""
        number = value.detach().float()
        self.totals[name] = self.totals[name] + number if name in self.totals else number
        self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> Mapping[str, float]:
        """Return the mean of each number over the times it was noted."""
        return {name: float(total) / self.counts[name] for name, total in self.totals.items()}
