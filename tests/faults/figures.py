"""How many faults a row tries, and where it writes down what came of them.

``COMPRESSOR_NIGHTLY=1`` asks for the large counts, ``COMPRESSOR_SEED`` for other random moments and inputs (0 unless
told). ``COMPRESSOR_FIGURES`` names a file that gets one JSON line a test; ``benchmarks.faults`` sums them.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

NIGHTLY = os.environ.get("COMPRESSOR_NIGHTLY", "") not in ("", "0")
SEED = int(os.environ.get("COMPRESSOR_SEED", "0"))


def count(push: int, nightly: int) -> int:
    """Return how often to try: ``push`` times on every push, ``nightly`` times at night."""
    return nightly if NIGHTLY else push


def note(
    row: str,
    *,
    tried: int,
    exits: Iterable[int] = (),
    tracebacks: int = 0,
    executions: int = 0,
    wrong: int = 0,
    **more: int | float | Mapping[str, int | float],
) -> None:
    """Write down what came of one test of a row, where somebody asked for it.

    Args:
        row: of the catalogue, such as ``K1``. tried: kills, states or bad inputs. exits: exit codes that were seen.
        tracebacks: that a user saw. executions: of foreign code. wrong: weights, tables or files that were not as they
            should be. more: other numbers, or tables of numbers, that are summed over tests.
    """
    place = os.environ.get("COMPRESSOR_FIGURES")
    if not place:
        return
    codes = {str(code): number for code, number in sorted(Counter(exits).items())}
    figures: dict[str, Any] = {"tried": tried, "tracebacks": tracebacks, "executions": executions, "wrong": wrong}
    test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0]
    line = json.dumps({"row": row, "test": test, **figures, "exits": codes, **more}) + "\n"
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(descriptor, line.encode())  # one write: several test processes share the file
    finally:
        os.close(descriptor)
