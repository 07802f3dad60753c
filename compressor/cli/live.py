"""The live line of a terminal: where the run is, how fast, what is left; each epoch leaves one line above."""

import re
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TextIO, cast

from rich.console import Console
from rich.live import Live as RichLive
from rich.text import Text

from compressor.cli.output import Output, Patient
from compressor.cli.wording import MAIN_PHASE, STOPPING, accuracy, clock, duration, failure, terms
from compressor.events import EpochDone, Event, Fact, LaneDone, LaneFailed, PhaseStarted, Progress, Stopping, Warned

_TITLE = 9
_BAR = 28
_SEED = re.compile(r"s\d+")


@dataclass
class _Lane:
    """What is known of a lane."""

    state: str = "waiting"
    epoch: EpochDone | None = None


class Live:
    """Listens to a run and draws on the terminal while it is entered.

    Args:
        output: its stderr is the terminal. many: several lanes run; then a board of them is drawn.
        now: seconds since 1970.
    """

    def __init__(self, output: Output, *, many: bool = False, now: Callable[[], float] = time.time) -> None:
        self._output = output
        self._many = many
        self._now = now
        self._lanes: dict[str, _Lane] = {}
        self._facts: set[Fact] = set()
        self._progress: Progress | None = None
        self.console = Console(
            file=cast("TextIO", Patient(output.stderr)),
            force_terminal=True,
            no_color=not output.colored,
            width=output.columns,
            markup=False,
            highlight=False,
            emoji=False,
            legacy_windows=False,
        )
        self._live = RichLive(console=self.console, get_renderable=self.picture, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._output.above = self.say
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress = None
        self._live.stop()
        self._output.above = None

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        if isinstance(event, Fact):
            again = self._many and (event.lane != "" or event in self._facts)  # each seed tells its data anew
            self._facts.add(event)
            if not again or self._output.manner.verbose:
                self.say(fact(event, self._output.columns))
        elif isinstance(event, Warned):
            self._output.warn(event.message)
        elif isinstance(event, Stopping):
            self.say(STOPPING)
        elif isinstance(event, LaneFailed):
            self._lane(event).state = "failed"
            self._output.warn(failure(event))
        elif isinstance(event, LaneDone):
            self._lane(event).state = f"done {accuracy(event.metrics.get('top1'))}"
        elif isinstance(event, (PhaseStarted, Progress, EpochDone)):
            self._moved(event)

    def say(self, text: str) -> None:
        """Print above the live line."""
        self.console.print(Text.from_ansi(text), soft_wrap=True)

    def picture(self) -> Text:
        """Return the live line as it is now; empty while nothing trains."""
        rows = [*self._board(), *self._now_at()]
        return Text("\n".join(row[: self._output.columns] for row in rows), no_wrap=True)

    def _moved(self, event: PhaseStarted | Progress | EpochDone) -> None:
        lane = self._lane(event)
        if isinstance(event, PhaseStarted):
            lane.state = "running"
            return
        if isinstance(event, Progress):
            self._progress = event
            lane.state = f"running {event.epoch}/{event.epochs}"
            return
        lane.epoch = event
        seen = "" if event.val_top1 is None else f" {event.val_top1:.1f}"
        lane.state = f"running {event.epoch}/{event.epochs}{seen}"
        if event.epoch == event.epochs:
            self._progress = None
            lane.state = "finishing" if event.phase == MAIN_PHASE and event.lane != "teacher" else lane.state
        if not self._many or self._output.manner.verbose:
            self.say(self._output.dim(epoch_line(event, self._many, self._output.columns)))

    def _lane(self, event: Event) -> _Lane:
        return self._lanes.setdefault(event.lane, _Lane())

    def _board(self) -> list[str]:
        """Return one row a method, one field a seed."""
        if not self._many:
            return []
        rows: dict[str, list[str]] = {}
        for name, lane in self._lanes.items():
            method, _, seed = name.rpartition(" ")
            if method and _SEED.fullmatch(seed):  # others are teachers and what is trained on them
                rows.setdefault(method, []).append(f"{seed} {lane.state}")
        wide = max((len(method) for method in rows), default=0)
        return [f"  {method:{wide}}  {' | '.join(fields)}" for method, fields in rows.items()]

    def _now_at(self) -> list[str]:
        event = self._progress
        if event is None:
            waits = any(lane.state == "finishing" for lane in self._lanes.values())
            return ["finishing: test images, latency, a fresh process loads the student"] if waits else []
        together = self._many and event.phase == MAIN_PHASE and event.lane != "teacher"
        name = "" if together else whose(event, self._many)
        head = f"{name}epoch {event.epoch:>{len(str(event.epochs))}}/{event.epochs} "
        tail = f" {event.images_per_second:.0f} img/s"
        if not self._many:
            tail = f" loss {event.loss:.2f} ({terms(event.terms)}) {tail}"
        room = min(_BAR, max(8, self._output.columns - len(head) - len(tail) - 2))
        return [head + bar(event.step / max(1, event.steps), room) + tail, self._second_line(event)]

    def _second_line(self, event: Progress) -> str:
        parts = []
        last = self._lanes[event.lane].epoch if event.lane in self._lanes else None
        if last is not None and last.val_top1 is not None and not self._many:
            parts.append(f"val top-1 {last.val_top1:.1f}{_best(last)}")
        if last is not None:
            parts.append(f"lr {last.lr:.3g}")
        parts.append(f"data wait {100 * event.data_wait:.0f} %")
        left = event.seconds_left
        at = f", ~{clock(self._now() + left)}" if 0 <= left < 1e7 else ""
        return "  " + "   ".join([*parts, f"left {duration(left)}{at}"])


def fact(event: Fact, columns: int) -> str:
    """Return a line of the heading, its title in a column of its own."""
    indent = " " * _TITLE
    title = f"{event.title:{_TITLE - 1}} "
    return textwrap.fill(
        title + event.text, max(40, columns), subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    ).replace("\t", " ")


def epoch_line(event: EpochDone, many: bool = False, columns: int = 1000) -> str:
    """Return the line that an epoch leaves; what matters least is left out where it would not fit."""
    number = f"{event.epoch:>{len(str(event.epochs))}}/{event.epochs}"
    head = f"{whose(event, many)}epoch {number}  loss {event.loss:.2f} ({terms(event.terms)})"
    seen = "" if event.val_top1 is None else f"  val {event.val_top1:.1f}"
    best = _best(event) if seen else ""
    lines = (head + seen + best + f"  lr {event.lr:.3g}", head + seen + best, head + seen)
    return next((line for line in lines if len(line) <= columns), lines[-1][:columns])


def whose(event: Any, many: bool) -> str:
    """Name lane and phase where they are not what everybody expects."""
    lane = event.lane if many or event.lane == "teacher" else ""
    phase = "" if event.phase == MAIN_PHASE or lane.endswith(f" {event.phase}") else event.phase
    return "".join(f"{word} " for word in (lane, phase) if word)


def bar(share: float, columns: int) -> str:
    """Draw ``[###-----]`` with ``columns`` signs inside for a share in [0, 1]."""
    full = round(min(1.0, max(0.0, share)) * columns)
    return "[" + "#" * full + "-" * (columns - full) + "]"


def _best(event: EpochDone) -> str:
    return "" if event.best_top1 is None else f" (best {event.best_top1:.1f} @{event.best_epoch})"
