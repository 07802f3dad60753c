"""How many seeds a difference needs, and which difference some seeds can show: the power of the paired t test."""

import math

from scipy import optimize, stats

POWER = 0.8
LEVEL = 0.05
MOST_SEEDS = 1000
"""More than this is not counted out: nobody trains so many."""


def power(gap: float, deviation: float, count: int, *, level: float = LEVEL) -> float:
    """Return how often a two-sided paired t test finds a true mean difference.

    Args:
        gap: the true mean of the paired differences. deviation: > 0, theirs. count: pairs, >= 2. level: of the test;
            divided by the number of methods it is that of the first step of Holm's correction.

    Returns:
        a probability in [level, 1]; from the noncentral t distribution.
    """
    freedom = count - 1
    shift = abs(gap) / deviation * math.sqrt(count)
    limit = float(stats.t.ppf(1 - level / 2, freedom))
    found = float(stats.nct.sf(limit, freedom, shift)) + float(stats.nct.cdf(-limit, freedom, shift))
    return 1.0 if math.isnan(found) else found  # far out the distribution function has no number left


def seeds_for(gap: float, deviation: float, *, level: float = LEVEL) -> int | None:
    """Return the fewest seeds, three at least, that find a difference in 80 of 100 comparisons; None above 1000.

    Args:
        gap: true mean difference. deviation: >= 0, of the paired differences. level: as in `power`.
    """
    if gap == 0:
        return None
    if deviation == 0:
        return 3
    if power(gap, deviation, MOST_SEEDS, level=level) < POWER:
        return None
    low, high = 2, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(gap, deviation, middle, level=level) >= POWER else (middle, high)
    return high


def detectable(deviation: float, count: int) -> float | None:
    """Return the smallest true difference that so many seeds find in 80 of 100 comparisons; None below three seeds.

    Args:
        deviation: >= 0, of the paired differences. count: pairs.
    """
    if count < 3:
        return None
    if deviation == 0:
        return 0.0
    return float(optimize.brentq(lambda gap: power(gap, deviation, count) - POWER, 1e-6 * deviation, 50 * deviation))
