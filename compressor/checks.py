"""Ranges of a method's settings, refused in one wording."""

import math
from collections.abc import Callable, Iterable
from typing import Any


def check_ranges(
    settings: Any,
    *,
    positive: Iterable[str] = (),
    not_negative: Iterable[str] = (),
    share: Iterable[str] = (),
    inside: Iterable[str] = (),
    at_least_one: Iterable[str] = (),
) -> None:
    """Refuse settings outside their ranges; a setting that is None is not looked at.

    Args:
        settings: a method's dataclass, whose name tells the method: ``KDConfig`` is ``kd``'s.
        positive: names that must be > 0. not_negative: >= 0. share: in [0, 1]. inside: in (0, 1). at_least_one: >= 1.

    Raises:
        ValueError: naming the setting, the range and what was given.
    """
    rules: tuple[tuple[Iterable[str], str, Callable[[float], bool]], ...] = (
        (positive, "> 0", lambda value: value > 0),
        (not_negative, ">= 0", lambda value: value >= 0),
        (share, "in [0, 1]", lambda value: 0 <= value <= 1),
        (inside, "in (0, 1)", lambda value: 0 < value < 1),
        (at_least_one, ">= 1", lambda value: value >= 1),
    )
    method = type(settings).__name__.removesuffix("Config").lower()
    for names, words, allowed in rules:
        for name in names:
            value = getattr(settings, name)
            if value is not None and not (allowed(value) and math.isfinite(value)):
                raise ValueError(f"{method}.{name} must be {words}, got {value}")
