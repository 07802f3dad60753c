"""Seeds and differences: against statsmodels' power of the t test, and against counting simulated comparisons."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from compressor.comparison.power import POWER, detectable, power, seeds_for


@pytest.mark.parametrize(
    ("gap", "deviation", "count"), [(1.0, 1.0, 5), (-0.5, 1.0, 10), (2.0, 0.7, 3), (0.1, 1.0, 900)]
)
def test_power_is_that_of_statsmodels(gap: float, deviation: float, count: int) -> None:
    theirs = TTestPower().power(abs(gap) / deviation, count, 0.05)
    assert power(gap, deviation, count) == pytest.approx(float(theirs))


def test_power_is_how_often_simulated_comparisons_find_the_gap() -> None:
    pairs = np.random.default_rng(0).normal(1.0, 1.0, (4000, 6))
    found = float(np.mean(stats.ttest_1samp(pairs, 0.0, axis=1).pvalue < 0.05))
    assert power(1.0, 1.0, 6) == pytest.approx(found, abs=0.025)


def test_power_without_a_gap_is_the_level_and_of_a_huge_one_is_certain() -> None:
    assert power(0.0, 1.0, 5) == pytest.approx(0.05)
    assert power(1e6, 1.0, 5) == 1.0


@pytest.mark.parametrize(("gap", "deviation"), [(1.0, 1.0), (-0.3, 0.8), (3.0, 0.5)])
def test_seeds_are_the_fewest_that_reach_the_power(gap: float, deviation: float) -> None:
    count = seeds_for(gap, deviation)
    assert count is not None
    assert power(gap, deviation, count) >= POWER
    assert count == 3 or power(gap, deviation, count - 1) < POWER


def test_no_number_of_seeds_finds_what_is_not_there() -> None:
    assert seeds_for(0.0, 1.0) is None
    assert seeds_for(0.001, 1.0) is None
    assert seeds_for(0.5, 0.0) == 3


def test_smallest_difference_that_seeds_can_find() -> None:
    gap = detectable(0.8, 5)
    assert gap is not None
    assert power(gap, 0.8, 5) == pytest.approx(POWER, abs=1e-6)
    assert (detectable(0.8, 2), detectable(0.0, 5)) == (None, 0.0)
    more = detectable(0.8, 50)
    assert more is not None
    assert more == pytest.approx(2.84 * 0.8 / math.sqrt(50), rel=0.03)  # the normal approximation, z of 97.5 % and 80 %
