"""Tables of what the seeds can tell: every two methods, and how many seeds a difference needs."""

from collections.abc import Mapping

from compressor.comparison.columns import NONE, Cell, Number
from compressor.comparison.power import detectable, seeds_for
from compressor.comparison.report.svg import NumberTable
from compressor.comparison.statistics import Difference, differences, pairwise

_GAPS = (0.5, 1.0, 2.0)


def every_two(scores: Mapping[str, Mapping[int, float]]) -> NumberTable | None:
    """Return the difference of every two methods, corrected for the number of such pairs; None below three methods.

    Args:
        scores: accuracy in percent by method and seed.
    """
    found = pairwise(scores)
    if len(scores) < 3:
        return None
    return NumberTable(
        ("first", "second", "first minus second [95 %]", "p (Holm, all these)", "verdict"),
        [((one,), (other,), _gap(gap), _p(gap), (_side(gap),)) for (one, other), gap in found.items()],
    )


def _side(gap: Difference) -> str:
    return {"better": "first is better", "worse": "second is better"}.get(gap.verdict, gap.verdict)


def seeds_needed(scores: Mapping[str, Mapping[int, float]], baseline: str) -> NumberTable | None:
    """Return what the seeds can find against the baseline, and how many some differences need; None with one seed."""
    others = {name: values for name, values in scores.items() if name != baseline}
    found = {
        name: gap for name, gap in differences(others, scores.get(baseline, {})).items() if gap.deviation is not None
    }
    if not found:
        return None
    return NumberTable(
        ("method", "sd of the differences", "these seeds find", *(f"seeds for ±{gap:g}" for gap in _GAPS)),
        [
            (
                (name,),
                _number(gap.deviation, ".2f"),
                _number(detectable(gap.deviation or 0.0, gap.pairs), "±.2f"),
                *(_seeds(seeds_for(size, gap.deviation or 0.0)) for size in _GAPS),
            )
            for name, gap in found.items()
        ],
    )


def _gap(gap: Difference) -> Cell:
    mean = Number("difference", gap.mean, f"{gap.mean:+.2f}")
    if gap.interval is None:
        return (mean,)
    low, high = gap.interval
    return (mean, " [", Number("low", low, f"{low:+.2f}"), ", ", Number("high", high, f"{high:+.2f}"), "]")


def _p(gap: Difference) -> Cell:
    return (NONE,) if gap.p_value is None else (Number("p_value", gap.p_value, f"{gap.p_value:.3g}"),)


def _number(value: float | None, form: str) -> Cell:
    if value is None:
        return (NONE,)
    sign = "±" if form.startswith("±") else ""
    return (Number("value", value, sign + format(value, form.removeprefix("±"))),)


def _seeds(count: int | None) -> Cell:
    return ("more than 1,000",) if count is None else (Number("seeds", count, str(count)),)
