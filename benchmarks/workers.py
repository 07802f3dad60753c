"""Two processes that do one training step in turn: never at the same time, each with a memory allocator of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from statistics import median
from types import TracebackType
from typing import Any

Step = Callable[[], float]
"""Does one step and returns its seconds."""


class Worker:
    """A process that prepares one case and then does a step whenever it is told to.

    Args:
        module: run as ``python -m module``; its main calls `serve`. arguments: of it.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._answer()

    def step(self) -> float:
        """Return the seconds of one more step."""
        self._tell("step")
        return float(self._answer()["seconds"])

    def finish(self) -> Mapping[str, Any]:
        """End the process and return what it says of itself, such as ``peak_bytes``."""
        self._tell("finish")
        said = self._answer()
        self._process.wait()
        return said

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def _tell(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def _answer(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                said: Mapping[str, Any] = json.loads(line)
                return said
        raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")


def serve(step: Step) -> None:
    """Answer the parent's words until it says ``finish``; called once all is prepared."""
    import resource

    print(json.dumps({"ready": True}), flush=True)
    for word in sys.stdin:
        if word.strip() == "finish":
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            print(json.dumps({"peak_bytes": peak}), flush=True)
            return
        print(json.dumps({"seconds": step()}), flush=True)


def paired(first: Worker, second: Worker, rounds: int, *, warm_up: int = 2) -> tuple[list[float], list[float]]:
    """Let two workers step in turn, the order changing with each round; the first rounds are not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(warm_up + rounds):
        order = ((0, first), (1, second)) if number % 2 == 0 else ((1, second), (0, first))
        taken = {place: worker.step() for place, worker in order}
        if number >= warm_up:
            for place, seconds in taken.items():
                times[place].append(seconds)
    return times


def ratio(first: list[float], second: list[float]) -> float:
    """Return the median of the paired ratios first / second."""
    return median(one / other for one, other in zip(first, second, strict=True))
