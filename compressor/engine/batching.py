"""The order of an epoch, cut into batches and these into parts, as a function of seed and epoch alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.config.settings import TrainingConfig
from compressor.errors import UsageError
from compressor.streams import generator


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How positions 0 .. count-1 become batches.

    Args:
        batch_size: positions a step over all processes. micro_batches: parts of a batch, at least one a process.
        purpose: of the draws; lanes that share a loop share it. world, rank: processes, and which this one is.

    Raises:
        UsageError: the batch is larger than the set, or too small for its parts.
    """

    count: int
    batch_size: int
    purpose: str
    seed: int
    micro_batches: int = 1
    world: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        if self.batch_size > self.count:
            raise UsageError(
                f"--batch-size {self.batch_size} is larger than the training set of {self.count} images",
                hint=f"--batch-size {self.count}",
            )
        if max(self.micro_batches, self.world) % self.world:
            raise UsageError(f"--micro-batches {self.micro_batches} cannot be shared by {self.world} processes")
        if self.batch_size < self._smallest:
            raise UsageError(
                f"batches of {self.batch_size} cannot be cut into {self.parts_each * self.world} parts of at least two",
                hint="a larger --batch-size, or fewer --micro-batches",
            )

    @staticmethod
    def of(
        training: TrainingConfig, count: int, purpose: str, seed: int, *, world: int = 1, rank: int = 0
    ) -> "Batching":
        """Make the batching that a run's settings ask for; errors as above."""
        return Batching(
            count=count,
            batch_size=training.batch_size,
            micro_batches=training.micro_batches,
            purpose=f"order/{purpose}",
            seed=seed,
            world=world,
            rank=rank,
        )

    @property
    def parts_each(self) -> int:
        """Parts of a batch that each process takes."""
        return max(self.micro_batches, self.world) // self.world

    def epoch(self, number: int) -> list[Tensor]:
        """Return the batches of an epoch: int64 positions; a last one too small for batch statistics is left out."""
        order = torch.randperm(self.count, generator=generator(self.seed, self.purpose, number))
        return [batch for batch in torch.split(order, self.batch_size) if len(batch) >= self._smallest]

    def my_parts(self, batch: Tensor) -> list[Tensor]:
        """Return this process's parts of a batch; how a batch is cut does not depend on the number of processes."""
        parts = torch.tensor_split(batch, self.parts_each * self.world)
        return list(parts[self.rank * self.parts_each : (self.rank + 1) * self.parts_each])

    @property
    def _smallest(self) -> int:
        return 2 * self.parts_each * self.world
