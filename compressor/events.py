"""What a run tells while it goes: plain facts for whoever listens (the terminal, a log file, a notebook)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something happened in a run; ``lane`` is the method's name and seed, such as ``kd s0``, or ``teacher``."""

    lane: str = ""


@dataclass(frozen=True, kw_only=True)
class Fact(Event):
    """One line of the heading: ``Teacher``, ``Student``, ``Data``, ``Method``, ``Run`` and what is to be said of it."""

    title: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Warned(Event):
    """Something the user should know and may want to mend; the run goes on."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Stopping(Event):
    """Somebody asked the run to stop: it ends its step, saves, and stops; a second Ctrl-C ends it at once."""


@dataclass(frozen=True, kw_only=True)
class PhaseStarted(Event):
    """A phase begins or resumes at ``step`` of ``steps``."""

    phase: str
    step: int
    steps: int
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """Where a phase is; told a few times a second at most.

    Args:
        terms: mean of each weighted term since the last report. images_per_second: base images, all lanes.
        data_wait: share of the time spent waiting for data, in [0, 1]. seconds_left: of this phase.
    """

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    terms: Mapping[str, float]
    images_per_second: float
    data_wait: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class EpochDone(Event):
    """An epoch of a lane is over; accuracies are percentages, None where nothing was looked at."""

    phase: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    terms: Mapping[str, float]
    lr: float
    val_top1: float | None
    val_loss: float | None
    best_top1: float | None
    best_epoch: int | None
    images_per_second: float
    data_wait: float
    seconds_left: float


@dataclass(frozen=True, kw_only=True)
class Saved(Event):
    """A checkpoint is complete on disk."""

    step: int
    path: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LaneFailed(Event):
    """A lane stopped with an error; others go on."""

    message: str
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class LaneDone(Event):
    """A lane is finished and its result is on disk."""

    run: str
    metrics: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listen and say nothing."""
