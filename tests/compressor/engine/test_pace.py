"""What is left of a phase, told early: against runs on a clock of their own whose length is known."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

from compressor.data.types import ImageBatch
from compressor.engine.pace import Pace

SAVE_EVERY = 600.0


class Clock:
    """Seconds that pass only where a run says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", made)
    return made


@dataclass(frozen=True, kw_only=True)
class Run:
    """A phase and what it costs, in seconds."""

    epochs: int
    steps: int  # of an epoch
    step: float = 0.1
    first: float = 0.1
    wait: float = 0.0  # for each batch
    look: float = 0.0  # after each epoch
    save: float = 0.0
    parts: int = 1  # of a batch
    begun: int = 0  # steps that an earlier process did

    def tell(self, clock: Clock) -> Iterator[tuple[int, float]]:
        """Go through the run as the loop does; after each step but the last tell what is left: steps, seconds."""
        pace = Pace(began=clock.now, saved=clock.now)
        whole = self.epochs * self.steps
        for epoch in range(self.begun // self.steps, self.epochs):
            first = self.begun % self.steps if epoch == self.begun // self.steps else 0
            batches = pace.timed(self._batches(clock))
            for number in range(first, self.steps):
                for _ in range(self.parts):
                    next(batches)
                clock.now += self.step if pace.steps else self.first
                pace.steps += 1
                done = epoch * self.steps + number + 1
                yield whole - done, pace.rates(whole - done, lanes=1)["seconds_left"]
                last = number == self.steps - 1
                clock.now += self.look if last else 0
                if pace.saving_is_due(SAVE_EVERY, end_of_epoch=last):
                    clock.now += self.save
                    pace.saved, pace.saving_cost = clock.now, self.save

    def _batches(self, clock: Clock) -> Iterator[ImageBatch]:
        while True:
            clock.now += self.wait
            yield ImageBatch(images=torch.empty(0), labels=torch.empty(0), index=torch.empty(0))


RUNS = {
    "long": Run(epochs=240, steps=20, look=1.0, save=0.5),
    "short": Run(epochs=10, steps=10, look=0.05),
    "one epoch": Run(epochs=1, steps=100),
    "a first step that warms up": Run(epochs=1, steps=100, first=20.0),
    "an epoch of one step": Run(epochs=50, steps=1, step=2.0, first=30.0, look=3.0),
    "long looks": Run(epochs=15, steps=20, look=2.0),
    "rare and dear checkpoints": Run(epochs=12, steps=300, step=2.0, save=30.0, look=20.0),
    "slow data": Run(epochs=20, steps=15, step=0.01, first=5.0, wait=0.3, look=1.0),
    "batches in parts": Run(epochs=30, steps=12, parts=4, wait=0.02, look=1.5, first=3.0),
}


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_after_a_tenth_what_is_left_is_told_within_a_fifth(run: Run, clock: Clock) -> None:
    told = [(clock.now, left, seconds) for left, seconds in run.tell(clock)]
    late = [(clock.now - now, seconds) for now, left, seconds in told if 0.5 < left / len(told) <= 0.9]
    assert len(late) >= 20
    for truth, seconds in late:
        assert seconds == pytest.approx(truth, rel=0.2)


@pytest.mark.parametrize("begun", [40, 47, 59])
def test_a_run_that_goes_on_in_the_middle_of_an_epoch_counts_from_there(begun: int, clock: Clock) -> None:
    run = Run(epochs=20, steps=20, look=2.0, first=10.0, begun=begun)
    told = [(clock.now, left, seconds) for left, seconds in run.tell(clock)]
    for now, left, seconds in told:
        if 50 < left < 320:
            assert seconds == pytest.approx(clock.now - now, rel=0.2)


def test_the_rest_of_an_epoch_is_not_taken_for_a_whole_one(clock: Clock) -> None:
    run = Run(epochs=20, steps=20, look=2.0, begun=59)
    told = [(clock.now, left, seconds) for left, seconds in run.tell(clock)]
    assert all(seconds < 1.2 * (clock.now - now) for now, left, seconds in told if left < 338)


def test_nothing_is_left_at_the_end(clock: Clock) -> None:
    *_, (left, seconds) = Run(epochs=3, steps=4, look=1.0).tell(clock)
    assert (left, seconds) == (0, 0.0)


def test_before_the_second_step_the_first_one_is_all_there_is_to_go_by(clock: Clock) -> None:
    left, seconds = next(Run(epochs=1, steps=10, first=3.0).tell(clock))
    assert (left, seconds) == (9, pytest.approx(27.0))
