"""Means, intervals and verdicts against textbook values, scipy's own test, and planted data."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from compressor.comparison.statistics import differences, holm, interval, pairwise, summarise


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_mean_and_deviation_by_hand() -> None:
    summary = summarise([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert summary.mean == 5.0
    assert summary.deviation == pytest.approx(math.sqrt(32 / 7))
    assert summary.count == 8


def test_one_value_has_no_spread() -> None:
    assert summarise([3.0]).deviation is None


def test_interval_from_the_table_of_the_t_distribution() -> None:
    # Three pairs with mean 2 and deviation 1: 2 -+ 4.303 / sqrt(3), the two-sided 95 % value with 2 degrees of freedom.
    low, high = interval([1.0, 2.0, 3.0]) or (0.0, 0.0)
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), rel=1e-6)


def test_interval_of_two_pairs_is_wide_and_of_one_unknown() -> None:
    # t(0.975, 1 degree) = 12.7062; deviation of (1, 3) is sqrt(2), so the half width is 12.7062.
    assert interval([1.0, 3.0]) == pytest.approx((2 - 12.706205, 2 + 12.706205), rel=1e-6)
    assert interval([1.0]) is None


def test_holm_on_the_textbook_example() -> None:
    # Holm's steps on (0.01, 0.04, 0.03, 0.005): 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 held up to 0.06.
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({}) == {}
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


def test_holm_is_that_of_statsmodels() -> None:
    values = [0.2, 0.001, 0.04, 0.04, 0.6, 0.013]
    corrected = holm({str(number): value for number, value in enumerate(values)})
    assert [corrected[str(number)] for number in range(6)] == pytest.approx(
        multipletests(values, method="holm")[1].tolist()
    )


@budget(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_never_exceeds_one_and_keeps_the_order(values: list[float]) -> None:
    raw = {str(number): value for number, value in enumerate(values)}
    corrected = holm(raw)
    assert all(raw[name] <= corrected[name] <= 1 for name in raw)
    ordered = sorted(raw, key=lambda name: raw[name])
    assert [corrected[name] for name in ordered] == sorted(corrected.values())


def test_p_values_are_those_of_the_paired_t_test_corrected_for_the_methods() -> None:
    base = by_seed(70.0, 71.5, 69.0, 70.2)
    first, second = by_seed(72.0, 72.5, 71.5, 71.9), by_seed(70.5, 71.0, 69.6, 70.9)
    got = differences({"first": first, "second": second}, base)
    raw = {
        name: float(stats.ttest_rel(list(values.values()), list(base.values())).pvalue)
        for name, values in {"first": first, "second": second}.items()
    }
    small, large = sorted(raw, key=lambda name: raw[name])
    assert got[small].p_value == pytest.approx(min(1.0, 2 * raw[small]))
    assert got[large].p_value == pytest.approx(max(min(1.0, 2 * raw[small]), raw[large]))
    assert got["first"].mean == pytest.approx(1.8)


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        ((1.0, 1.1, 0.9, 1.05, 0.95), "better"),
        ((-1.0, -1.1, -0.9, -1.05, -0.95), "worse"),
        ((1.0, -1.0, 0.5, -0.4, 0.1), "not separated"),
        ((1.0, 1.1), "interval only"),
        ((25.0,), "one seed, no claim"),
    ],
)
def test_verdict_of_planted_gaps(gaps: tuple[float, ...], verdict: str) -> None:
    base = by_seed(*(70.0 + number for number in range(len(gaps))))
    method = {seed: base[seed] + gap for seed, gap in enumerate(gaps)}
    got = differences({"m": method}, base)["m"]
    assert got.verdict == verdict
    assert got.pairs == len(gaps)
    assert (got.p_value is None) == (len(gaps) < 3)
    assert (got.interval is None) == (len(gaps) < 2)


def test_spread_between_seeds_does_not_hide_a_paired_gap() -> None:
    base = by_seed(50.0, 60.0, 70.0, 80.0)
    method = by_seed(51.0, 61.1, 70.9, 81.0)
    assert differences({"m": method}, base)["m"].verdict == "better"


def test_all_equal_values_are_not_separated_and_nothing_is_divided_by_zero() -> None:
    base = by_seed(*[90.0] * 4)
    got = differences({"same": dict(base), "above": by_seed(*[91.0] * 4)}, base)
    assert (got["same"].verdict, got["same"].p_value, got["same"].interval) == ("not separated", 1.0, (0.0, 0.0))
    assert got["same"].seeds_needed is None
    assert (got["above"].verdict, got["above"].interval) == ("better", (1.0, 1.0))


def test_noise_of_the_last_digit_is_no_spread() -> None:
    base = by_seed(0.1, 0.2, 0.3)
    got = differences({"m": by_seed(0.1 + 0.2, 0.4, 0.3 + 0.2)}, base)["m"]
    assert got.interval == pytest.approx((0.2, 0.2))
    assert got.deviation == pytest.approx(0.0, abs=1e-12)
    assert (got.p_value, got.verdict) == (0.0, "better")


def test_only_seeds_that_both_have_are_paired() -> None:
    got = differences({"m": {0: 5.0, 2: 7.0, 9: 100.0}, "none": {8: 1.0}}, {0: 4.0, 1: 0.0, 2: 5.0})
    assert got["m"].pairs == 2
    assert got["m"].mean == 1.5
    assert "none" not in got


def test_more_methods_make_the_same_gap_less_certain() -> None:
    base = by_seed(70.0, 71.0, 72.0, 73.0)
    gap = by_seed(71.0, 71.6, 73.1, 73.9)
    noise = by_seed(70.1, 70.8, 72.2, 72.9)
    alone = differences({"m": gap}, base)["m"].p_value
    among = differences({"m": gap, "n": noise, "o": noise}, base)["m"].p_value
    assert alone is not None
    assert among == pytest.approx(3 * alone)


def test_seeds_needed_are_those_of_the_power_calculation() -> None:
    gaps = [0.4, 1.4, -0.5, 0.9]
    base = by_seed(*[70.0] * 4)
    got = differences({"m": {seed: 70.0 + gap for seed, gap in enumerate(gaps)}}, base)["m"]
    assert got.verdict == "not separated"
    deviation = summarise(gaps).deviation or 0.0
    assert got.deviation == pytest.approx(deviation)
    assert got.seeds_needed == math.ceil(TTestPower().solve_power(got.mean / deviation, power=0.8, alpha=0.05))


def test_among_several_methods_more_seeds_are_needed() -> None:
    gaps, base = [0.4, 1.4, -0.5, 0.9], by_seed(*[70.0] * 4)
    others = {name: by_seed(*[70.0 + sign for sign in (0.1, -0.1, 0.2, -0.2)]) for name in ("n", "o")}
    got = differences({"m": {seed: 70.0 + gap for seed, gap in enumerate(gaps)}, **others}, base)["m"]
    effect = got.mean / (got.deviation or 0.0)
    assert got.seeds_needed == math.ceil(TTestPower().solve_power(effect, power=0.8, alpha=0.05 / 3))


def test_every_two_methods_are_compared_and_corrected_for_their_number() -> None:
    scores = {
        "a": by_seed(72.0, 72.5, 71.5, 71.9),
        "b": by_seed(70.5, 71.0, 69.6, 70.9),
        "c": by_seed(70.0, 71.5, 69.0, 70.2),
    }
    got = pairwise(scores)
    assert list(got) == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = {
        pair: float(stats.ttest_rel(list(scores[pair[0]].values()), list(scores[pair[1]].values())).pvalue)
        for pair in got
    }
    first, second, third = sorted(raw, key=lambda pair: raw[pair])
    assert got[first].p_value == pytest.approx(min(1.0, 3 * raw[first]))
    assert got[second].p_value == pytest.approx(max(got[first].p_value or 0.0, min(1.0, 2 * raw[second])))
    assert got[third].p_value == pytest.approx(max(got[second].p_value or 0.0, raw[third]))
    assert got["a", "c"].mean == pytest.approx(1.8)


def test_planted_gap_is_found_and_no_gap_is_not_found_in_95_of_100_comparisons() -> None:
    # 5 seeds, paired differences with deviation 0.5: two points are far away, none is none; four methods are compared.
    draw = np.random.default_rng(0)
    found, falsely = 0, 0
    for _ in range(100):
        base = draw.normal(70.0, 1.0, 5)
        scores = {name: base + draw.normal(0.0, 0.5, 5) for name in ("one", "two", "three")}
        scores["planted"] = base + draw.normal(2.0, 0.5, 5)
        got = differences({name: by_seed(*values) for name, values in scores.items()}, by_seed(*base))
        found += got["planted"].verdict == "better"
        falsely += any(got[name].verdict in ("better", "worse") for name in ("one", "two", "three"))
    assert found >= 0.95 * 100
    assert falsely <= 0.09 * 100  # 5 % is promised for the three together; 9 of 100 is two deviations above it
