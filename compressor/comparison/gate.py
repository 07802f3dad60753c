"""Conditions on a comparison, for scripts: ``sskd>=kd``, ``sskd>=95``."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from compressor.errors import GateError, UsageError, suggestion

if TYPE_CHECKING:
    from compressor.comparison.grid import Comparison

_NAME = r"[\w.-]+(?: \([^<>=]*\))?"
_CONDITION = re.compile(rf"^\s*({_NAME})\s*(>=|>)\s*({_NAME})\s*$")


def parse(condition: str, methods: Iterable[str]) -> tuple[str, str, str]:
    """Read a condition into left side, sign and right side, before anything is trained.

    Raises:
        UsageError: it cannot be read, or names a method that is not compared.
    """
    match = _CONDITION.match(condition)
    if match is None:
        raise UsageError(f"--fail-under {condition!r} is not METHOD>=METHOD or METHOD>=NUMBER")
    left, sign, right = match.groups()
    for name in (left, *([] if _number(right) is not None else [right])):
        if name not in (known := {"teacher", *methods}):
            raise UsageError(f"--fail-under names {name!r}, which is not compared", hint=suggestion(name, known))
    return left, sign, right


def check(comparison: "Comparison", condition: str) -> None:
    """Hold a comparison to a condition on mean top-1 accuracies, for every pair in it.

    Raises:
        UsageError: see `parse`. GateError: it is not met, or a method in it did not finish.
    """
    left, sign, right = parse(condition, [row.method for row in comparison.rows])
    for pair in dict.fromkeys(row.pair for row in comparison.rows):
        means = {row.method: row.top1_mean for row in comparison.rows if row.pair == pair}
        number = _number(right)
        first, second = means.get(left), means.get(right) if number is None else number
        met = first is not None and second is not None and (first >= second if sign == ">=" else first > second)
        if not met:
            raise GateError(f"{condition} is not met for {pair}: {_text(first)} against {_text(second)}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _text(value: float | None) -> str:
    return "not finished" if value is None else f"{value:.2f}"
