"""What seeds allow to be said: means, paired differences with intervals, and verdicts corrected for many methods."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats

from compressor.comparison.power import LEVEL, seeds_for

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Mean and standard deviation (n - 1) of n values; the deviation is None for one value."""

    mean: float
    deviation: float | None
    count: int


@dataclass(frozen=True)
class Difference:
    """A method against the baseline, paired by seed.

    Args:
        mean: method minus baseline. interval: t interval at 95 %, None with one pair.
        p_value: of the paired t test, Holm-corrected over the methods; None with fewer than three pairs.
        verdict: ``better``, ``worse``, ``not separated``, ``interval only`` (two pairs) or ``one seed, no claim``.
        seeds_needed: see `compressor.comparison.power.seeds_for`, were this mean and spread the true ones; None when
            unknown, not needed, or above 1000.
        deviation: of the paired differences, n - 1; None with one pair.
    """

    mean: float
    interval: tuple[float, float] | None
    p_value: float | None
    verdict: str
    seeds_needed: int | None
    pairs: int
    deviation: float | None = None


def summarise(values: Sequence[float]) -> Summary:
    """Return mean and spread of a non-empty sequence."""
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Summary(mean, None, 1)
    return Summary(mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1)), count)


def differences(methods: Mapping[str, Mapping[int, float]], baseline: Mapping[int, float]) -> dict[str, Difference]:
    """Compare each method with the baseline over the seeds both have.

    Args:
        methods: for each method, accuracy by seed. baseline: the same of one method.

    Returns:
        One difference a method that shares at least one seed with the baseline.
    """
    paired = {
        name: [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]
        for name, values in methods.items()
    }
    return _differences(paired)


def _differences(unrounded: Mapping[str, Sequence[float]]) -> dict[str, Difference]:
    # Shares of whole images: beyond nine digits there is only noise, which would pass for a spread.
    paired = {name: [round(value, 9) for value in pairs] for name, pairs in unrounded.items()}
    corrected = holm({name: _p_value(pairs) for name, pairs in paired.items() if len(pairs) >= 3})
    level = LEVEL / max(1, len(corrected))
    return {name: _difference(pairs, corrected.get(name), level) for name, pairs in paired.items() if pairs}


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for their number by Holm's step-down procedure (Holm 1979)."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    corrected: dict[str, float] = {}
    largest = 0.0
    for place, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - place) * p_values[name]))
        corrected[name] = largest
    return corrected


def pairwise(methods: Mapping[str, Mapping[int, float]]) -> dict[tuple[str, str], Difference]:
    """Compare every two methods, first minus second, corrected for the number of such pairs.

    Args:
        methods: for each, accuracy by seed, in the order in which pairs are formed.
    """
    together = {f"{one}\0{other}": (one, other) for one, other in itertools.combinations(methods, 2)}
    paired = {
        key: [methods[one][seed] - methods[other][seed] for seed in sorted(methods[one].keys() & methods[other].keys())]
        for key, (one, other) in together.items()
    }
    found = _differences(paired)
    return {together[key]: difference for key, difference in found.items()}


def interval(pairs: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % t interval of the mean of paired differences; None with one pair, a point without spread."""
    summary = summarise(pairs)
    if summary.deviation is None:
        return None
    half = _half_width(summary.deviation, summary.count)
    return summary.mean - half, summary.mean + half


def _half_width(deviation: float, count: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)


def _p_value(pairs: Sequence[float]) -> float:
    """Two-sided paired t test; without any spread, equal values cannot be told apart and others are."""
    if max(pairs) == min(pairs):
        return 1.0 if pairs[0] == 0 else 0.0
    return float(stats.ttest_1samp(pairs, 0.0).pvalue)


def _difference(pairs: Sequence[float], p_value: float | None, level: float) -> Difference:
    summary = summarise(pairs)
    if summary.count == 1:
        verdict = "one seed, no claim"
    elif p_value is None:
        verdict = "interval only"
    elif p_value < 1 - CONFIDENCE:
        verdict = "better" if summary.mean > 0 else "worse"
    else:
        verdict = "not separated"
    undecided = verdict in ("not separated", "interval only") and summary.deviation is not None
    needed = seeds_for(summary.mean, summary.deviation or 0.0, level=level) if undecided else None
    return Difference(
        mean=summary.mean,
        interval=interval(pairs),
        p_value=p_value,
        verdict=verdict,
        seeds_needed=needed,
        pairs=summary.count,
        deviation=summary.deviation,
    )
