"""One time budget for everything that a command trains."""

import time
from collections.abc import Callable

from compressor.errors import Stopped


class Budget:
    """Seconds for everything a command does, counted from when this was made.

    Args:
        seconds: > 0, or None for no limit. now: of a clock that never jumps.
    """

    def __init__(self, seconds: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._deadline = None if seconds is None else now() + seconds

    def left(self) -> float | None:
        """Return the seconds that are left, None for no limit.

        Raises:
            Stopped: none are left; what was trained is saved.
        """
        if self._deadline is None:
            return None
        left = self._deadline - self._now()
        if left <= 0:
            message = "Time budget spent: the next students were not begun."
            raise Stopped(message, hint="resume with the same command")
        return left
