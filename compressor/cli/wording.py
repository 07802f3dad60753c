"""Numbers and times as people read them."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from compressor.events import LaneFailed

MAIN_PHASE = "student"
STOPPING = "Stopping after this step (Ctrl-C again to stop now)"


def stamp(moment: float) -> str:
    """Return a moment (seconds since 1970) as ``2026-11-20T14:44:01Z``."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock(moment: float) -> str:
    """Return a moment (seconds since 1970) as local ``14:52``."""
    return datetime.fromtimestamp(moment).strftime("%H:%M")  # the user's own clock is meant


def duration(seconds: float) -> str:
    """Return a time as ``8m51s``, ``3.2s`` or ``2h05m``; ``?`` where it is not known."""
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def big(count: float | None) -> str:
    """Return a count as ``21.3 M``; ``-`` where there is none."""
    if count is None:
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return f"{count:.0f}"


def size(count: float) -> str:
    """Return bytes as ``1.1 GB``."""
    return f"{big(count)}B" if count >= 1000 else f"{count:.0f} B"


def terms(values: Mapping[str, float]) -> str:
    """Return loss terms as ``kd 1.10 ce 0.32``."""
    return " ".join(f"{name} {value:.2f}" for name, value in values.items())


def accuracy(value: float | None) -> str:
    """Return a percentage with one digit; ``-`` where there is none."""
    return "-" if value is None else f"{value:.1f}"


def extras(student: Mapping[str, Any]) -> list[str]:
    """Name what a method published beside the student, in one line; none where it is the student alone."""
    parts = [f"{words} ({big(count)})" for words, count in student.get("extras", {}).items()]
    return [f"counts {' and '.join(parts)}, which stay with the student"] if parts else []


def failure(event: LaneFailed) -> str:
    """Return a lane's failure as one line."""
    hint = f" ({event.hint})" if event.hint else ""
    return f"{event.lane} failed: {event.message}{hint}"
