"""How fast a phase goes in this process: rates for reports, and when the next checkpoint is due."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from compressor.data.types import ImageBatch

_SAVING_SHARE = 0.03


@dataclass
class Pace:
    """Seconds, steps and images of this process since a phase began or was resumed.

    Attributes:
        waited: seconds spent waiting for data. reported, saved: when that was last done, by the monotonic clock.
        saving_cost: seconds the last checkpoints took.
    """

    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    images: int = 0
    waited: float = 0.0
    reported: float = 0.0
    saved: float = field(default_factory=time.monotonic)
    saving_cost: float = 0.0

    def rates(self, steps_left: int, *, lanes: int) -> dict[str, float]:
        """Return ``images_per_second`` of all lanes, ``data_wait`` in [0, 1], and ``seconds_left`` of the phase."""
        elapsed = max(1e-9, time.monotonic() - self.began)
        return {
            "images_per_second": self.images * lanes / elapsed,
            "data_wait": min(1.0, self.waited / elapsed),
            "seconds_left": elapsed / max(1, self.steps) * steps_left,
        }

    def timed(self, batches: Iterator[ImageBatch]) -> Iterator[ImageBatch]:
        """Pass batches on, counting the time they made the loop wait."""
        while True:
            began = time.monotonic()
            batch = next(batches, None)
            self.waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def saving_is_due(self, every: float, *, end_of_epoch: bool) -> bool:
        """Say whether to save: after ``every`` seconds, or at an epoch's end when it costs at most 3 % of the time."""
        since = time.monotonic() - self.saved
        return since >= every or (end_of_epoch and since >= max(1.0, self.saving_cost / _SAVING_SHARE))
