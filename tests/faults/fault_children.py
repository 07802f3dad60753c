"""What the children of the fork server do: a command of ours, with a disk, a clock or a listener that plays tricks."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import fault_server
from fault_disks import disk_of

import compressor.engine.finish
import compressor.engine.runs
import compressor.publishing.folder
import compressor.publishing.republish
from compressor.cli.main import main
from compressor.engine.evaluate import latencies
from compressor.engine.pace import Pace
from compressor.engine.session import Seat
from compressor.events import EpochDone, Event, PhaseStarted, Saved
from compressor.storage import replaced_operations

SAVE_EVERY = 4


def compress(
    args: Sequence[str], *, disk: Mapping[str, Any] | None = None, save_every: int = SAVE_EVERY, tell: bool = True
) -> int:
    """Run one command line and return its exit code.

    Args:
        disk: what plays tricks with the disk, see `fault_disks.disk_of`. save_every: steps between checkpoints.
        tell: say at which stage it is.
    """
    hurry(save_every)
    if tell:
        Seat.tell = _telling(Seat.tell)  # type: ignore[method-assign]  # the only place every event passes
    with nullcontext() if disk is None else replaced_operations(disk_of(**disk)) as operations:
        code = main(args)
    if disk is not None:
        operations.close_books()
    return code


def hurry(save_every: int = SAVE_EVERY) -> None:
    """Leave out what costs seconds and changes nothing here, and save after so many steps whatever the clock says."""
    compressor.publishing.folder.check_in_fresh_process = lambda *_args, **_more: 0.0
    compressor.publishing.republish.check_in_fresh_process = lambda *_args, **_more: 0.0
    compressor.engine.finish.latencies = partial(latencies, warm_up=0, runs=2)
    Pace.saving_is_due = lambda pace, _every, *, end_of_epoch: pace.steps % save_every == 0  # type: ignore[method-assign]


def _telling(tell: Any) -> Any:
    def wrapped(seat: Seat, session: Any, event: Event) -> None:
        tell(seat, session, event)
        words = _words(event)
        if words is not None:
            fault_server.say(words)

    return wrapped


def _words(event: Event) -> str | None:
    lane = "teacher" if event.lane == "teacher" else "run"
    if isinstance(event, PhaseStarted):
        return f"{lane} {event.phase} from {event.step}"
    if isinstance(event, Saved):
        return f"{lane} saved {event.step}"
    if isinstance(event, EpochDone):
        return f"{lane} {event.phase} epoch {event.epoch}"
    return None
