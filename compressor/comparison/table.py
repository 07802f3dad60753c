"""The rows of a comparison, made from finished runs alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.comparison.bootstrap import image_interval
from compressor.comparison.contenders import equal_label
from compressor.comparison.statistics import Difference, differences, summarise

if TYPE_CHECKING:
    from compressor.comparison.evidence import Evidence

TEACHER = "teacher"
AVERAGE = "average"
"""What the section of means over all pairs is called."""
_MEASURED = ("many_top1", "medium_top1", "few_top1", "agreement", "teacher_kl", "cka", "ece")
_ACCURACIES = {"top1": "top1", "last": "top1_last", "best": "top1_best", "paper": "paper_rule_top1"}
Interval = tuple[float, float]
Scores = dict[str, dict[int, float]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; accuracies in percent on the test images, everything else as means over seeds.

    Args:
        pair: ``teacher -> student``, or `AVERAGE`. n: finished seeds. top1_mean, top1_sd: of the published epoch.
        last_mean, best_mean: of the last epoch, and of the best on held-out images, both on the test images.
        paper_mean: of the epoch that was best on the test images themselves, where runs watched them.
        difference: to the baseline, paired by seed; interval: of it, over seeds. p_value: corrected by Holm.
        image_interval: of the same difference over the test images, these students taken as they are.
        equal_compute: the row that saw as many images; equal_difference, equal_interval: to it, as above.
        many_top1, medium_top1, few_top1: of classes with so many training images, where these are not balanced.
        agreement: same choice as the teacher, in percent. teacher_kl: in nats. cka: of embeddings, in [0, 1].
        ece: calibration error in [0, 1]; ece_scaled: with a ``temperature`` fitted on held-out images.
        size_bytes: of the published weights.
        latency_ms, latency_low, latency_high: medians over seeds of each run's median and quartiles.
        train_seconds: of the student's steps. teacher_seconds: of its teacher's passes, estimated, as if run alone.
        images, teacher_images: shown in training, each view counted. peak_bytes: of the whole process.
        status: ``done``, ``failed`` or ``partly failed``; reason: of the first failure.
    """

    method: str
    pair: str
    n: int
    top1_mean: float | None = None
    top1_sd: float | None = None
    last_mean: float | None = None
    last_sd: float | None = None
    best_mean: float | None = None
    best_sd: float | None = None
    paper_mean: float | None = None
    paper_sd: float | None = None
    difference: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    verdict: str = ""
    seeds_needed: int | None = None
    image_interval: Interval | None = None
    equal_compute: str = ""
    equal_difference: float | None = None
    equal_interval: Interval | None = None
    many_top1: float | None = None
    medium_top1: float | None = None
    few_top1: float | None = None
    agreement: float | None = None
    teacher_kl: float | None = None
    cka: float | None = None
    ece: float | None = None
    ece_scaled: float | None = None
    temperature: float | None = None
    parameters: int | None = None
    macs: int | None = None
    size_bytes: int | None = None
    latency_ms: float | None = None
    latency_low: float | None = None
    latency_high: float | None = None
    train_seconds: float | None = None
    teacher_seconds: float | None = None
    images: int | None = None
    teacher_images: int | None = None
    views: int | None = None
    peak_bytes: int | None = None
    status: str = "done"
    reason: str = ""


@dataclass(frozen=True)
class CellRecord:
    """One cell as the table needs it: where it is, what it is, its result or its failure, and what it left on disk.

    Args:
        method: as its row is called.
    """

    method: str
    pair: str
    seed: int
    folder: str
    result: Mapping[str, Any] | None
    reason: str = ""
    evidence: "Evidence | None" = field(default=None, compare=False, repr=False)


def make_rows(cells: Sequence[CellRecord], baseline: str) -> list[Row]:
    """Make the teacher's row and one row a method for each pair, best mean first, failed rows last.

    Several pairs are followed by rows of their average, of the methods and seeds that are complete.
    """
    rows: list[Row] = []
    pairs = list(dict.fromkeys(cell.pair for cell in cells))
    for pair in pairs:
        mine = [cell for cell in cells if cell.pair == pair]
        teacher = _teacher_row(mine, pair)
        rows += [] if teacher is None else [teacher]
        rows += _best_first(_method_rows(mine, pair, baseline))
    return rows + (_best_first(_average_rows(cells, pairs, baseline)) if len(pairs) > 1 else [])


def scores_of(cells: Sequence[CellRecord]) -> Scores:
    """Return top-1 accuracies by method and seed; a method without a finished seed is there, and empty."""
    scores: Scores = {}
    for cell in cells:
        scores.setdefault(cell.method, {})
        if cell.result is not None:
            scores[cell.method][cell.seed] = float(cell.result["metrics"]["top1"])
    return scores


def average_scores(cells: Sequence[CellRecord], pairs: Sequence[str]) -> Scores:
    """Return means over pairs by method and seed, where every pair has that method and seed."""
    each = [scores_of([cell for cell in cells if cell.pair == pair]) for pair in pairs]
    methods = [name for name in each[0] if all(name in scores for scores in each)]
    return {
        name: {
            seed: summarise([scores[name][seed] for scores in each]).mean
            for seed in each[0][name]
            if all(seed in scores[name] for scores in each)
        }
        for name in methods
    }


def _best_first(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -(row.top1_mean or -1.0))


def _method_rows(cells: Sequence[CellRecord], pair: str, baseline: str) -> list[Row]:
    scores = scores_of(cells)
    compared = _against(scores, baseline)
    by_method = {name: [cell for cell in cells if cell.method == name] for name in scores}
    return [
        _method_row(name, pair, mine, compared.get(name), _image_interval(mine, by_method.get(baseline, [])), by_method)
        for name, mine in by_method.items()
    ]


def _against(scores: Scores, baseline: str) -> dict[str, Difference]:
    others = {method: values for method, values in scores.items() if method != baseline}
    return differences(others, scores.get(baseline, {}))


def _method_row(
    method: str,
    pair: str,
    cells: Sequence[CellRecord],
    compared: Difference | None,
    over_images: Interval | None,
    by_method: Mapping[str, Sequence[CellRecord]],
) -> Row:
    results = [cell.result for cell in cells if cell.result is not None]
    failures = [cell.reason for cell in cells if cell.result is None]
    if not results:
        return Row(method=method, pair=pair, n=0, status="failed", reason=failures[0])
    views = results[0]["cost"]["views"]
    return Row(
        method=method,
        pair=pair,
        n=len(results),
        **_accuracies(results),
        **_difference(compared),
        image_interval=over_images if compared is not None else None,
        **_equal(method, views, by_method),
        **_measured(results),
        ece_scaled=_evidence_mean(cells, lambda seen: seen.scaled_error),
        temperature=_evidence_mean(cells, lambda seen: seen.temperature),
        **_worth([result["student"] for result in results], cells),
        train_seconds=_mean(results, "cost", "train_seconds"),
        teacher_seconds=_mean(results, "cost", "teacher_seconds"),
        images=results[0]["cost"].get("images"),
        teacher_images=results[0]["cost"].get("teacher_images"),
        views=views,
        peak_bytes=max((result["cost"].get("peak_bytes", 0) for result in results), default=0) or None,
        status="partly failed" if failures else "done",
        reason=failures[0] if failures else "",
    )


def _accuracies(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key in _ACCURACIES.items():
        values = [float(result["metrics"][key]) for result in results if key in result["metrics"]]
        summary = summarise(values) if len(values) == len(results) else None
        found |= {
            f"{name}_mean": None if summary is None else summary.mean,
            f"{name}_sd": None if summary is None else summary.deviation,
        }
    return found


def _measured(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: _mean(results, "metrics", key) for key in _MEASURED}


def _difference(compared: Difference | None) -> dict[str, Any]:
    if compared is None:
        return {}
    return {
        "difference": compared.mean,
        "interval": compared.interval,
        "p_value": compared.p_value,
        "verdict": compared.verdict,
        "seeds_needed": compared.seeds_needed,
    }


def _equal(method: str, views: int, by_method: Mapping[str, Sequence[CellRecord]]) -> dict[str, Any]:
    """Compare a method that asks for several views with the row that sees as many."""
    label = equal_label(views)
    if views == 1 or label == method or label not in by_method:
        return {}
    mine, theirs = (scores_of(by_method[name])[name] for name in (method, label))
    compared = differences({method: mine}, theirs).get(method)
    if compared is None:
        return {}
    return {"equal_compute": label, "equal_difference": compared.mean, "equal_interval": compared.interval}


def _image_interval(cells: Sequence[CellRecord], baseline: Sequence[CellRecord]) -> Interval | None:
    """Draw the test images anew, the students as they are; None unless all saw the same images."""
    theirs = {cell.seed: cell.evidence for cell in baseline if cell.evidence is not None}
    both = [(cell.evidence, theirs[cell.seed]) for cell in cells if cell.evidence is not None and cell.seed in theirs]
    if not both or any(not np.array_equal(one.labels, both[0][0].labels) for seen in both for one in seen):
        return None
    gaps = np.mean([mine.right.astype(float) - their.right.astype(float) for mine, their in both], axis=0)
    return image_interval(100.0 * gaps)


def _worth(networks: Sequence[Mapping[str, Any]], cells: Sequence[CellRecord]) -> dict[str, Any]:
    """Return what networks of one architecture are; of their latencies, measured run by run, the medians."""
    timed = [network["latency_ms"] for network in networks if network.get("latency_ms")]
    sizes = [cell.evidence.size_bytes for cell in cells if cell.evidence is not None and cell.evidence.size_bytes]

    def middle(key: str) -> float | None:
        values = [float(taken[key]) for taken in timed if taken.get(key) is not None]
        return median(values) if values else None

    return {
        "parameters": networks[0]["parameters"],
        "macs": networks[0]["macs"],
        "size_bytes": sizes[0] if sizes else None,
        "latency_ms": middle("median"),
        "latency_low": middle("lower"),
        "latency_high": middle("upper"),
    }


def _teacher_row(cells: Sequence[CellRecord], pair: str) -> Row | None:
    """Make the row of the teacher that the pair's runs share; a network that one method trained itself is none."""
    taught = [
        cell
        for cell in cells
        if cell.result is not None and cell.result.get("teacher") and "teacher_top1" in cell.result["metrics"]
    ]
    shared = [cell for cell in taught if cell.result is not None and cell.result["teacher"]["latency_ms"] is not None]
    if not taught:
        return None
    result = (shared or taught)[0].result
    assert result is not None
    return Row(
        method=TEACHER,
        pair=pair,
        n=1,
        top1_mean=float(result["metrics"]["teacher_top1"]),
        **_worth([result["teacher"]], []),
    )


def _average_rows(cells: Sequence[CellRecord], pairs: Sequence[str], baseline: str) -> list[Row]:
    scores = {name: values for name, values in average_scores(cells, pairs).items() if values}
    compared = _against(scores, baseline)
    rows = []
    for name, values in scores.items():
        summary = summarise(list(values.values()))
        rows.append(
            Row(
                method=name,
                pair=AVERAGE,
                n=summary.count,
                top1_mean=summary.mean,
                top1_sd=summary.deviation,
                **_difference(compared.get(name)),
            )
        )
    return rows


def _mean(results: Sequence[Mapping[str, Any]], part: str, key: str) -> float | None:
    values = [float(result[part][key]) for result in results if key in result[part]]
    return summarise(values).mean if values else None


def _evidence_mean(cells: Sequence[CellRecord], value: "Callable[[Evidence], float | None]") -> float | None:
    found = [value(cell.evidence) for cell in cells if cell.evidence is not None]
    numbers = [number for number in found if number is not None]
    return summarise(numbers).mean if numbers else None
