"""What the children of the fork server do: a command of ours, with a disk, a clock or a listener that plays tricks."""

import fcntl
import os
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import datetime
from functools import partial
from typing import Any

import fault_server
from fault_disks import disk_of
from typer.main import get_command

import compressor.cli.main
import compressor.comparison.report.page
import compressor.engine.finish
import compressor.engine.runs
import compressor.engine.teachers
import compressor.publishing.folder
import compressor.publishing.republish
import compressor.storage.guards
from compressor import registry
from compressor.cli.main import application, main
from compressor.config.layers import Layer, resolve
from compressor.engine.evaluate import latencies
from compressor.engine.finish import Finisher
from compressor.engine.lanes import Lane
from compressor.engine.pace import Pace
from compressor.engine.session import Seat
from compressor.events import EpochDone, Event, PhaseStarted, Saved
from compressor.models.catalogue import resolve_name
from compressor.models.create import build
from compressor.storage import replaced_operations
from compressor.weights import state_sha256

SAVE_EVERY = 4
_parser: list[Any] = []


def warm() -> None:
    """Do once, before any child is forked, what every command does first; nothing is computed that needs a gradient."""
    _parser.append(get_command(application()))
    compressor.comparison.report.page._environment().get_template("report.html.j2")  # compiled once
    for group in (registry.METHODS, registry.ARCHITECTURES):
        registry.names(group)
    config = resolve([Layer("test", {"teacher.name": "resnet8", "student.name": "resnet8"})]).config
    name = resolve_name(config.student.name, role="student")
    for method in ("scratch", "kd", "sskd"):
        registry.load_method(method)
    build(name, num_classes=10, image_size=8, pretrained=False)


def compress(
    args: Sequence[str], *, disk: Mapping[str, Any] | None = None, save_every: int = SAVE_EVERY, steps: bool = False
) -> int:
    """Run one command line, say at which stage it is, and return its exit code.

    Args:
        disk: what plays tricks with the disk, see `fault_disks.disk_of`. save_every: steps between checkpoints.
        steps: say ``stepped N`` after each step of a student, too.
    """
    hurry(save_every)
    compressor.cli.main._command = lambda: _parser[0]
    compressor.comparison.report.page.make_sections = lambda *_args: []  # drawings are tested elsewhere
    Seat.tell = _telling(Seat.tell)  # type: ignore[method-assign]  # what happens to a lane passes here
    Finisher.finish = _finishing(Finisher.finish)  # type: ignore[method-assign]
    if steps:
        Lane.step = _stepping(Lane.step)  # type: ignore[method-assign]
    with nullcontext() if disk is None else replaced_operations(disk_of(**disk)) as operations:
        code = main(args)
    if disk is not None:
        operations.close_books()
    return code


def compress_in_zone(args: Sequence[str]) -> int:
    """Run one command line in the time zone that the environment names."""
    time.tzset()
    return compress(args)


def compress_without_reader(args: Sequence[str], streams: Sequence[int]) -> int:
    """Run one command line whose output nobody reads: the other ends of these streams' pipes are closed."""
    for stream in streams:
        reader, writer = os.pipe()
        os.dup2(writer, stream)
        os.close(writer)
        os.close(reader)
    return compress(args)


def compress_in_closing_terminal(args: Sequence[str], words: str) -> int:
    """Run one command line in a terminal of its own, which closes as soon as ``words`` are said."""
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for stream in (0, 1, 2):
        os.dup2(slave, stream)
    os.close(slave)
    os.set_blocking(master, False)

    def heard(said: str) -> None:
        with suppress(OSError):  # nothing to read, or closed
            os.read(master, 1 << 20)  # else a terminal that nobody reads would make the run wait
        if said == words:
            os.close(master)

    fault_server.listeners.append(heard)
    os.environ["TERM"] = "xterm"
    return compress(args)


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


def _finishing(finish: Any) -> Any:
    def wrapped(finisher: Finisher, seat: Seat, *rest: Any) -> Any:
        fault_server.say(f"finishing {seat.lane.name}")
        result = finish(finisher, seat, *rest)
        fault_server.say(f"done {seat.lane.name}")
        return result

    return wrapped


def _stepping(step: Any) -> Any:
    def wrapped(lane: Lane, parts: Any) -> None:
        step(lane, parts)
        fault_server.say(f"stepped {lane.position.step}")

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


def compress_at_another_time(args: Sequence[str], offset: float, words: str = "", jump: float = 0.0) -> int:
    """Run one command line under a wall clock that is wrong, and jumps when ``words`` are said; both in seconds."""
    real = {name: getattr(time, name) for name in ("time", "gmtime", "localtime")}
    wrong = [offset]

    def now() -> float:
        return float(real["time"]() + wrong[0])

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Wrong":
            return cls.fromtimestamp(now(), tz)

    def heard(said: str) -> None:
        wrong[0] += jump if said == words else 0.0

    time.time = now
    time.gmtime = lambda seconds=None: real["gmtime"](now() if seconds is None else seconds)
    time.localtime = lambda seconds=None: real["localtime"](now() if seconds is None else seconds)
    compressor.storage.guards.datetime = Wrong  # type: ignore[misc]  # the one place that asks for the date itself
    fault_server.listeners.append(heard)
    return compress(args)


def teacher_before_and_after(args: Sequence[str]) -> int:
    """Run one command line and say the hash of its teacher's state when it is frozen, and at the end."""
    frozen: list[Any] = []
    freeze = compressor.engine.teachers.freeze

    def keeping(net: Any, *rest: Any) -> Any:
        teacher = freeze(net, *rest)
        frozen.append(net)
        fault_server.say(f"teacher is {state_sha256(net.state_dict())}")
        return teacher

    compressor.engine.teachers.freeze = compressor.engine.runs.freeze = keeping
    code = compress(args)
    for net in frozen:
        fault_server.say(f"teacher is {state_sha256(net.state_dict())}")
    return code
