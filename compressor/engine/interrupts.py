"""Stopping politely: a signal or a spent time budget asks, the loop finishes its step, saves, and stops."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from compressor.errors import Stopped

_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, getattr(signal, "SIGHUP", signal.SIGTERM): 143}


class StopRequest:
    """Whether somebody wants the run to stop; a context manager that listens to signals while it is entered.

    A second Ctrl-C ends the process at once with exit code 130; what was saved before is whole. Outside of the main
    thread no signal is heard, and only the time budget counts.

    Args:
        budget: seconds from now after which the run should stop; None for no limit.
        notice: called once, when the first signal is heard.
    """

    def __init__(self, budget: float | None = None, notice: Callable[[], None] = lambda: None) -> None:
        self._notice = notice
        self._deadline = None if budget is None else time.monotonic() + budget
        self._signal: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _EXIT_CODES:
                self._previous[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    @property
    def asked(self) -> bool:
        """Whether the run should stop after this step."""
        return self._signal is not None or (self._deadline is not None and time.monotonic() >= self._deadline)

    @property
    def heard(self) -> bool:
        """Whether a signal asked, whatever the time budget says."""
        return self._signal is not None

    def stopped(self, step: int) -> Stopped:
        """Make the exception to raise once step ``step`` is saved."""
        code = 130 if self._signal is None else _EXIT_CODES[signal.Signals(self._signal)]
        why = "Time budget spent: saved" if self._signal is None else "Saved"
        return Stopped(f"{why} step {step}.", exit_code=code, hint="resume with the same command")

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            os._exit(130)
        first = self._signal is None
        self._signal = number
        if first:
            self._notice()
