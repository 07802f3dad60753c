"""The test's side of the fork server: children that are started, heard, shot at, and waited for."""

import itertools
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PRELOAD = (
    "compressor.cli.main",
    "compressor.comparison.grid",
    "compressor.comparison.report.page",
    "compressor.api",
    "compressor.engine.runs",
    "compressor.publishing.republish",
    "compressor_zoo.architectures.resnet",
    "compressor_plugins.kd",
    "compressor_plugins.sskd",
    "fault_children",
)


class Child:
    """One order: a process that has been forked for it, and what it said so far."""

    def __init__(self, server: "Server", number: str, place: Path) -> None:
        self._server = server
        self._number = number
        self.place = place
        self.pid = 0
        self.said: list[str] = []
        self.status: int | None = None
        self._hold = -1

    @property
    def output(self) -> str:
        """What it wrote to stdout and stderr."""
        file = self.place / "output.txt"
        return file.read_text(errors="replace") if file.is_file() else ""

    def wait(self, seconds: float = 300.0) -> int:
        """Return the exit status, negative for the signal that ended it."""
        self._server.until(lambda: self.status is not None, seconds, self)
        assert self.status is not None
        return self.status

    def hear(self, words: str, seconds: float = 300.0) -> bool:
        """Wait until it has said ``words``, or has ended; tells whether it said so."""
        self._server.until(lambda: words in self.said or self.status is not None, seconds, self)
        return words in self.said

    def talk(self, seconds: float = 300.0) -> Iterator[str]:
        """Yield what it says, one by one, until it ends."""
        for number in itertools.count():
            self._server.until(partial(self._further, number), seconds, self)
            if len(self.said) <= number:
                return
            yield self.said[number]

    def _further(self, number: int) -> bool:
        return len(self.said) > number or self.status is not None

    def last(self, prefix: str) -> int | None:
        """Return the number at the end of the last thing said that begins so."""
        found = [words for words in self.said if words.startswith(prefix)]
        return int(found[-1].split()[-1]) if found else None

    def held(self) -> str:
        """Make the pipe that it waits at."""
        pipe = self.place.with_name(f"{self.place.name}.hold{self._number}")
        os.mkfifo(pipe)
        self._hold = os.open(pipe, os.O_RDWR)
        return str(pipe)

    def release(self) -> None:
        """Let it go on from the words at which it was told to wait, if it was."""
        if self._hold >= 0:
            os.write(self._hold, b".")  # the pipe stays open: it may not have come to it yet

    def ended(self, status: int) -> None:
        """Take down how it ended."""
        self.status = status
        if self._hold >= 0:
            os.close(self._hold)
            self._hold = -1

    def signal(self, number: int = signal.SIGKILL, *, group: bool = True) -> None:
        """Send a signal to its process group, or to it alone; it may have ended by itself."""
        self._server.until(lambda: self.pid != 0, 300.0, self)
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)


class Server:
    """The process that forks."""

    def __init__(self, **environ: str) -> None:
        path = os.pathsep.join([*map(str, (ROOT, ROOT / "plugins", ROOT / "zoo")), os.environ.get("PYTHONPATH", "")])
        own = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
        own["FAULT_PRELOAD"] = json.dumps(PRELOAD)
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "fault_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **own, **environ},
        )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._rest = ""
        self._ready = False
        self._children: dict[str, Child] = {}
        self._numbers = itertools.count(1)
        self.until(lambda: self._ready, 600.0)

    def start(
        self,
        do: str,
        place: Path,
        environ: Mapping[str, str | None] | None = None,
        *,
        die_at: str | None = None,
        hold_at: str | None = None,
        **given: Any,
    ) -> Child:
        """Fork a child that calls ``fault_children:do`` in ``place``.

        Args:
            die_at: words at which it and its group are killed. hold_at: words at which it waits until it is released.
        """
        child = Child(self, str(next(self._numbers)), place)
        self._children[child._number] = child
        order = {
            "id": child._number,
            "do": do if ":" in do else f"fault_children:{do}",
            "with": given,
            "cwd": str(place),
            "environ": dict(environ or {}),
            "die_at": die_at,
            "hold": None if hold_at is None else [hold_at, child.held()],
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        return child

    def run(
        self,
        do: str,
        place: Path,
        environ: Mapping[str, str | None] | None = None,
        *,
        patience: float = 300.0,
        **given: Any,
    ) -> Child:
        """Start a child and wait for its end, no longer than ``patience`` seconds."""
        child = self.start(do, place, environ, **given)
        child.wait(patience)
        return child

    def until(self, done: Callable[[], bool], seconds: float, child: Child | None = None) -> None:
        """Hear what children say until ``done()``."""
        deadline = time.monotonic() + seconds
        while not done():
            left = deadline - time.monotonic()
            story = "" if child is None else f" after {child.said[-3:]}:\n{child.output[-2000:]}"
            assert left > 0, f"nothing came within {seconds} s{story}"
            if self._selector.select(left):
                self._hear()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        data = self._process.stdout.read()
        assert data, "the fork server died"
        *lines, self._rest = (self._rest + data.decode()).split("\n")
        for line in lines:
            number, kind, words = (*line.split(" ", 2), "")[:3]
            if number == "0":
                self._ready = True
                continue
            child = self._children[number]
            if kind == "pid":
                child.pid = int(words)
            elif kind == "said":
                child.said.append(words)
            else:
                child.ended(int(words))
                del self._children[number]

    def close(self) -> None:
        """End the server and whatever it has forked."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._selector.close()
        self._process.wait(30)
