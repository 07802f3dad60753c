"""Conditions on a comparison, for scripts: ``sskd>=kd``, ``sskd>=95``."""

import re

from compressor.comparison.grid import Comparison
from compressor.errors import GateError, UsageError, suggestion

_CONDITION = re.compile(r"^\s*([\w-]+)\s*(>=|>)\s*([\w.-]+)\s*$")


def check(comparison: Comparison, condition: str) -> None:
    """Hold a comparison to a condition on mean top-1 accuracies, for every pair in it.

    Raises:
        UsageError: the condition cannot be read, or names a method that is not compared.
        GateError: it is not met, or a method in it did not finish.
    """
    match = _CONDITION.match(condition)
    if match is None:
        raise UsageError(f"--fail-under {condition!r} is not METHOD>=METHOD or METHOD>=NUMBER")
    left, sign, right = match.groups()
    for pair in dict.fromkeys(row.pair for row in comparison.rows):
        means = {row.method: row.top1_mean for row in comparison.rows if row.pair == pair}
        first = _value(left, means)
        second = _number(right) if _number(right) is not None else _value(right, means)
        met = first is not None and second is not None and (first >= second if sign == ">=" else first > second)
        if not met:
            raise GateError(f"{condition} is not met for {pair}: {_text(first)} against {_text(second)}")


def _value(name: str, means: dict[str, float | None]) -> float | None:
    if name not in means:
        raise UsageError(f"--fail-under names {name!r}, which is not compared", hint=suggestion(name, means))
    return means[name]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: float | None) -> str:
    return "not finished" if value is None else f"{value:.2f}"
