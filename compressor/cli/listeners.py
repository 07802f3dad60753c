"""Listeners that turn the events of a run into talk: lines for a log, or nothing but warnings."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from compressor.cli.output import Output
from compressor.cli.wording import MAIN_PHASE, STOPPING, failure, stamp
from compressor.events import (
    EpochDone,
    Event,
    Fact,
    LaneDone,
    LaneFailed,
    Listener,
    PhaseStarted,
    Progress,
    Stopping,
    Warned,
)

_LONGEST = 200
_EVERY = 60.0  # seconds between lines inside a long epoch


@contextmanager
def listening(output: Output, *, many: bool = False) -> Iterator[Listener]:
    """Give the listener that suits the streams, and put the terminal in order afterwards.

    Args:
        many: several lanes run, so that each line must say whose it is.
    """
    if not output.live:
        yield Quiet(output) if output.manner.quiet else Lines(output, many=many)
        return
    from compressor.cli.live import Live

    with Live(output, many=many) as live:
        yield live


class Quiet:
    """Tells warnings and failures only."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        if isinstance(event, Warned):
            self._output.warn(event.message)
        elif isinstance(event, LaneFailed):
            self._output.warn(failure(event))
        elif isinstance(event, Stopping):
            self._output.talk(STOPPING)


class Lines:
    """Tells a run as lines for a log: one an epoch, and one a minute inside long epochs.

    Args:
        many: name the lane in every line. now: seconds since 1970. elapsed: of a clock that never jumps.
    """

    def __init__(
        self,
        output: Output,
        *,
        many: bool = False,
        now: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._many = many
        self._now = now
        self._elapsed = elapsed
        self._last = elapsed()

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        if isinstance(event, (Warned, LaneFailed, Stopping)):
            Quiet(self._output)(event)
        elif isinstance(event, Fact):
            title = event.title.lower()
            whose = "" if title == event.lane else self._whose(event)
            self._line(f"{whose}{title} {' '.join(event.text.split())}")
        elif isinstance(event, PhaseStarted):
            if event.step:
                self._line(f"{self._whose(event, event.phase)}resuming step={event.step}/{event.steps}")
        elif isinstance(event, EpochDone):
            self._line(self._whose(event, event.phase) + _epoch(event))
        elif isinstance(event, Progress):
            if self._elapsed() - self._last >= _EVERY:
                self._line(self._whose(event, event.phase) + _progress(event))
        elif isinstance(event, LaneDone) and self._many:
            self._line(f"{self._whose(event)}done top1={event.metrics.get('top1', float('nan')):.1f} run={event.run}")

    def done(self, text: str) -> None:
        """Tell the end of it all."""
        self._line(text)

    def _line(self, text: str) -> None:
        self._last = self._elapsed()
        line = f"{stamp(self._now())} {text}"
        self._output.talk(line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "...")

    def _whose(self, event: Event, phase: str = MAIN_PHASE) -> str:
        lane = event.lane if self._many or event.lane == "teacher" else ""
        method, _, seed = lane.rpartition(" ")
        name = f"lane={'/'.join(part.replace(' ', '_') for part in (method, seed) if part)} " if lane else ""
        return name if phase == MAIN_PHASE else f"{name}phase={phase} "


def _epoch(event: EpochDone) -> str:
    parts = [f"epoch={event.epoch}/{event.epochs}", f"step={event.step}/{event.steps}", f"loss={event.loss:.4g}"]
    parts += _terms(event)
    if event.val_top1 is not None:
        parts.append(f"val_top1={event.val_top1:.1f}")
    if event.best_top1 is not None:
        parts.append(f"best={event.best_top1:.1f}")
    return " ".join([*parts, f"lr={event.lr:.4g}", *_pace(event)])


def _progress(event: Progress) -> str:
    parts = [f"epoch={event.epoch}/{event.epochs}", f"step={event.step}/{event.steps}", f"loss={event.loss:.4g}"]
    return " ".join([*parts, *_terms(event), *_pace(event)])


def _terms(event: EpochDone | Progress) -> list[str]:
    return [f"{name}={value:.4g}" for name, value in event.terms.items()]


def _pace(event: EpochDone | Progress) -> list[str]:
    return [f"img_s={event.images_per_second:.0f}", f"eta_s={event.seconds_left:.0f}"]
