"""Whether a row that was measured again comes out as recorded, and what the seeds allow to be said."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from compressor.comparison.ledger.records import Interval, Record, SeedValue, Summary
from compressor.comparison.statistics import CONFIDENCE, interval, summarise

_ROUNDING = 1e-9  # percent; a mean of equal numbers may differ in its last digits


def summary_of(values: Sequence[SeedValue]) -> Summary:
    """Summarise the seeds of a row; not empty."""
    seen = summarise([value.top1 for value in values])
    return Summary(
        n=seen.count,
        mean=seen.mean,
        sd=seen.deviation,
        interval=interval([value.top1 for value in values]),
        expected=expected_interval(seen.mean, seen.deviation, seen.count, seen.count),
    )


def expected_interval(mean: float, deviation: float | None, recorded: int, seeds: int) -> Interval | None:
    """Return where the mean of further seeds lies in 95 of 100 cases, were nothing changed.

    ``mean ± t * deviation * sqrt(1 / recorded + 1 / seeds)`` with ``recorded - 1`` degrees of freedom: both means, the
    recorded and the new one, are uncertain.

    Args:
        mean, deviation: of the recorded seeds; the deviation is None for one. recorded, seeds: how many, each >= 1.

    Returns:
        None where one seed was recorded: nothing is known of the spread.

    Source: Hahn and Meeker 1991, Statistical Intervals: prediction interval for the mean of further normal values.
    """
    if deviation is None:
        return None
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, recorded - 1))
    half = quantile * deviation * math.sqrt(1 / recorded + 1 / seeds)
    return mean - half, mean + half


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What measuring a row again gave.

    Args:
        measured: the new values, by seed. summary: of them. expected: where their mean should lie, None for no claim.
        notes: what differs between then and now (settings, versions, the teacher's weights), one line each.
    """

    record: Record
    measured: tuple[SeedValue, ...]
    summary: Summary
    expected: Interval | None
    notes: tuple[str, ...] = ()

    @property
    def inside(self) -> bool | None:
        """Whether the new mean is inside the expected interval; None where one recorded seed makes no claim."""
        if self.expected is None:
            return None
        low, high = self.expected
        return low - _ROUNDING <= self.summary.mean <= high + _ROUNDING

    @property
    def equal_students(self) -> int:
        """Count the seeds whose student has the recorded weights, bit by bit."""
        recorded = {value.seed: value.student_sha256 for value in self.record.seeds}
        return sum(recorded.get(value.seed) == value.student_sha256 for value in self.measured)

    @property
    def exit_code(self) -> int:
        """0, or 6 where the new mean is outside."""
        return 6 if self.inside is False else 0

    def sentence(self) -> str:
        """Say in one sentence how it came out."""
        then, now = self.record.summary, self.summary
        means = f"{self.record.row}: top-1 {_mean(now)} now, {_mean(then)} recorded"
        if self.expected is None:
            return f"{means}; one recorded seed makes no claim"
        low, high = self.expected
        place = "inside" if self.inside else "outside"
        seeds = f"the mean of {now.n} seed{'s' * (now.n > 1)}"
        return f"{means}: {place} [{low:.2f}, {high:.2f}], where {seeds} lies in 95 of 100 cases"

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "row": self.record.row,
            "recorded": _plain(self.record.summary),
            "measured": _plain(self.summary),
            "seeds": [
                {"seed": value.seed, "top1": value.top1, "student_sha256": value.student_sha256}
                for value in self.measured
            ],
            "expected": self.expected,
            "inside": self.inside,
            "equal_students": self.equal_students,
            "notes": list(self.notes),
            "verdict": self.sentence(),
        }


def judge(record: Record, measured: Sequence[SeedValue], *, notes: Sequence[str] = ()) -> Judgement:
    """Hold new values against a record; ``measured`` is not empty."""
    summary, then = summary_of(measured), record.summary
    return Judgement(
        record=record,
        measured=tuple(measured),
        summary=summary,
        expected=expected_interval(then.mean, then.sd, then.n, summary.n),
        notes=tuple(notes),
    )


def differences_of(recorded: Record, now: Record) -> list[str]:
    """Say what differs between the runs of a record and new ones of the same row: teacher, versions, machine."""
    lines = []
    if recorded.teacher and now.teacher and recorded.teacher["sha256"] != now.teacher["sha256"]:
        then, current = recorded.teacher["top1"], now.teacher["top1"]
        lines.append(f"the teacher's weights are others: top-1 {current:.2f} now, {then:.2f} recorded")
    for key in ("compressor", "torch", "timm", "machine", "threads"):
        before, current = _values(recorded, key), _values(now, key)
        if before != current:
            lines.append(f"{key}: {', '.join(current)} now, {', '.join(before)} recorded")
    return lines


def _values(record: Record, key: str) -> list[str]:
    return sorted({str(environment.get(key, "unknown")) for environment in record.environments})


def _mean(summary: Summary) -> str:
    spread = "" if summary.sd is None else f" ± {summary.sd:.2f}"
    return f"{summary.mean:.2f}{spread} (n = {summary.n})"


def _plain(summary: Summary) -> Mapping[str, Any]:
    return {"n": summary.n, "mean": summary.mean, "sd": summary.sd, "interval": summary.interval}
