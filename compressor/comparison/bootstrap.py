"""What the test images allow to be said of two sets of students as they are: the paired bootstrap over images."""

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_SEED = 0


def image_interval(
    differences: NDArray[np.float64], *, resamples: int = RESAMPLES, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the mean difference when the test images are drawn anew.

    Images with equal differences are exchangeable, so a resample is a multinomial draw of how often each value occurs:
    the same distribution as drawing images one by one, in a fraction of the time. The seed is fixed.

    Args:
        differences: (n,) one a test image, such as the share of a method's seeds that are right on it minus that of
            the baseline's; n >= 1.

    Returns:
        low and high, in the unit of ``differences``.

    Source: Efron 1979, the percentile interval; paired, since one draw counts for both sides.
    """
    values, counts = np.unique(differences, return_counts=True)
    drawn = np.random.default_rng(_SEED).multinomial(len(differences), counts / len(differences), size=resamples)
    means = drawn @ values / len(differences)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)
