"""A process that has imported everything and forks a child for each command, so that a kill costs no import.

Reads one JSON line a command: ``args`` of ``compress``, ``cwd``, ``cache``. Answers with lines ``pid N``, ``at STAGE``
(from the child, when it gets there) and ``exit CODE`` (negative: ended by that signal). Its child leads a process
group of its own, as a command in a terminal does.
"""

import json
import os
import sys
from typing import Any

import compressor.engine.runs
import compressor_plugins.sskd
import compressor_zoo
from compressor.cli.main import main
from compressor.engine.session import Seat
from compressor.events import EpochDone, Event, PhaseStarted

LOADED = (compressor.engine.runs, compressor_plugins.sskd, compressor_zoo)


def say(text: str) -> None:
    os.write(STAGES, f"{text}\n".encode())


def stage_of(event: Event) -> str | None:
    if isinstance(event, PhaseStarted):
        return "teacher" if event.lane == "teacher" else event.phase
    if isinstance(event, EpochDone) and event.epoch == event.epochs:
        return "keep" if event.lane == "teacher" else f"after {event.phase}"
    return None


def telling(tell: Any) -> Any:
    def wrapped(seat: Seat, session: Any, event: Event) -> None:
        tell(seat, session, event)
        stage = stage_of(event)
        if stage is not None:
            say(f"at {stage}")

    return wrapped


def child(order: dict[str, Any]) -> int:
    os.setsid()
    os.chdir(order["cwd"])
    os.environ["XDG_CACHE_HOME"] = order["cache"]
    log = os.open("output.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o666)
    for number in (0, 1, 2):
        os.dup2(log, number)
    Seat.tell = telling(Seat.tell)  # type: ignore[method-assign]  # the only place every event passes
    # That a folder loads in a new process is tested elsewhere; here it would only be seconds of import to be killed in.
    compressor.publishing.folder.check_in_fresh_process = lambda *_args, **_more: 0.0
    say("at start")
    return main(order["args"])


def serve() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        number = os.fork()
        if number == 0:
            code = 1
            try:
                code = child(order)
            finally:
                os._exit(code)
        say(f"pid {number}")
        _, status = os.waitpid(number, 0)
        say(f"exit {os.waitstatus_to_exitcode(status)}")


STAGES = os.dup(1)

if __name__ == "__main__":
    say("ready")
    serve()
