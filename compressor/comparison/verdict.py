"""What a comparison says in one sentence, and no more than its seeds allow."""

from collections.abc import Sequence

from compressor.comparison.table import AVERAGE, TEACHER, Row

_WORDS = {
    "better": "which is separated from it",
    "worse": "which is below it",
    "one seed, no claim": "which one seed cannot tell from chance",
}


def sentence(rows: Sequence[Row], baseline: str) -> str:
    """Say what the table shows: the highest mean, its difference to the baseline, and whether that is separated.

    With several pairs it speaks of their average.
    """
    pairs = list(dict.fromkeys(row.pair for row in rows if row.pair != AVERAGE))
    if len(pairs) > 1:
        averaged = [row for row in rows if row.pair == AVERAGE]
        if all(row.method == baseline for row in averaged):
            return "No method finished beside the baseline in every pair."
        return f"Averaged over {len(pairs)} pairs, {_of_pair(averaged, baseline)}"
    return _of_pair(rows, baseline)


def of_pair(rows: Sequence[Row], baseline: str, pair: str) -> str:
    """Say the same of one pair of several."""
    return _of_pair([row for row in rows if row.pair == pair], baseline)


def _of_pair(rows: Sequence[Row], baseline: str) -> str:
    done = [row for row in rows if row.method not in (TEACHER, baseline) and row.top1_mean is not None]
    if not done:
        return "No method finished beside the baseline."
    best = max(done, key=lambda row: row.top1_mean or 0.0)
    ahead = f"{best.method} has the highest mean top-1, {best.top1_mean:.1f} ({best.n} seed{'s' * (best.n > 1)})"
    if best.difference is None or not best.verdict:
        return ahead + "."
    gap = f"{best.difference:+.1f} against {baseline}{_span(best.interval)}"
    tail = _WORDS.get(best.verdict, _undecided(best))
    if best.seeds_needed is not None and best.seeds_needed > best.n:
        tail += f" (about {best.seeds_needed} seeds would)"
    return f"{ahead}, {gap}, {tail}{_equal(best)}."


def _undecided(row: Row) -> str:
    corrected = row.p_value is not None and row.interval is not None and not row.interval[0] <= 0 <= row.interval[1]
    return f"which these seeds do not separate{' once the number of methods is corrected for' * corrected}"


def _equal(row: Row) -> str:
    if row.equal_difference is None:
        return ""
    claim = f"{row.equal_difference:+.1f}{_span(row.equal_interval)}"
    return f"; against {row.equal_compute}, which saw as many images, {claim}"


def _span(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" [{interval[0]:+.1f}, {interval[1]:+.1f}]"
