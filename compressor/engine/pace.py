"""How fast a phase goes in this process: rates for reports, and when the next checkpoint is due."""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean

from compressor.data.types import ImageBatch

_SAVING_SHARE = 0.03
_REMEMBERED = 1000  # turns: a machine may become faster or slower


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
    _turns: "_Turns" = field(default_factory=lambda: _Turns())

    def rates(self, steps_left: int, *, lanes: int) -> dict[str, float]:
        """Return ``images_per_second`` of all lanes, ``data_wait`` in [0, 1], and ``seconds_left`` of the phase.

        What is left is reckoned from steps without the first one, which also warms up, and from the ends of epochs
        (looks at held-out images, checkpoints) apart: a few steps of one epoch tell nothing of them.
        """
        elapsed = max(1e-9, time.monotonic() - self.began)
        turns_left = steps_left * self._turns.begun / max(1, self.steps)
        reckoned = self._turns.seconds_for(turns_left)
        return {
            "images_per_second": self.images * lanes / elapsed,
            "data_wait": min(1.0, self.waited / elapsed),
            "seconds_left": elapsed / max(1, self.steps) * steps_left if reckoned is None else reckoned,
        }

    def timed(self, batches: Iterator[ImageBatch]) -> Iterator[ImageBatch]:
        """Pass an epoch's batches on, counting the time they made the loop wait."""
        self._turns.open_epoch()
        while True:
            began = time.monotonic()
            self._turns.begin(began, counts=self.steps > 0)
            batch = next(batches, None)
            self.waited += time.monotonic() - began
            if batch is None:
                return
            yield batch

    def saving_is_due(self, every: float, *, end_of_epoch: bool) -> bool:
        """Say whether to save: after ``every`` seconds, or at an epoch's end when it costs at most 3 % of the time."""
        since = time.monotonic() - self.saved
        return since >= every or (end_of_epoch and since >= max(1.0, self.saving_cost / _SAVING_SHARE))


@dataclass
class _Turns:
    """How long a batch keeps the loop busy, from its being asked for until the next one is.

    The last turn of an epoch holds what is done between epochs too, and is timed apart; those of the first step are not
    timed.

    Attributes:
        begun: turns so far. in_epoch: turns of the current epoch. longest: turns of the longest epoch that is over.
        inner, ends: seconds of the last turns within epochs, and at their ends.
        since: when the turn began that is being timed.
    """

    begun: int = 0
    in_epoch: int = 0
    longest: int = 0
    inner: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    ends: deque[float] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    since: float | None = None

    def open_epoch(self) -> None:
        """Note that the next turn is the first one of an epoch."""
        self.longest, self.in_epoch = max(self.longest, self.in_epoch), 0

    def begin(self, now: float, *, counts: bool) -> None:
        """Note that a turn begins, how long the one before it was, and whether this one shall be timed."""
        if self.since is not None:
            kind = self.inner if self.in_epoch else self.ends
            kind.append(now - self.since)
        self.since = now if counts else None
        self.begun += 1
        self.in_epoch += 1

    def seconds_for(self, turns: float) -> float | None:
        """Reckon how long so many turns will take; None while there is nothing to go by."""
        known = [fmean(kind) for kind in (self.inner, self.ends) if kind]
        if not known:
            return None
        whole = self.in_epoch <= self.longest  # else the epoch that is over was the rest of one, begun by a run before
        ends = turns / self.longest if self.ends and whole else 0.0
        return (turns - ends) * known[0] + ends * known[-1]
