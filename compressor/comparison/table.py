"""The rows of a comparison, made from finished runs alone, and the files they are written to."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressor.comparison.statistics import Difference, differences, summarise
from compressor.storage import write_json, write_text


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table; accuracies in percent on the test images, costs as means over seeds.

    Args:
        pair: ``teacher -> student``. n: finished seeds. difference: to the baseline, paired by seed.
        status: ``done``, ``failed`` or ``partly failed``; reason: of the first failure.
    """

    method: str
    pair: str
    n: int
    top1_mean: float | None = None
    top1_sd: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    verdict: str = ""
    seeds_needed: int | None = None
    agreement: float | None = None
    parameters: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    train_seconds: float | None = None
    views: int | None = None
    status: str = "done"
    reason: str = ""


@dataclass(frozen=True)
class CellRecord:
    """One cell as the table needs it: where it is, what it is, and its result or its failure."""

    method: str
    pair: str
    seed: int
    folder: str
    result: Mapping[str, Any] | None
    reason: str = ""


def make_rows(cells: Sequence[CellRecord], baseline: str) -> list[Row]:
    """Make the teacher's row and one row a method for each pair, best mean first, failed rows last."""
    rows: list[Row] = []
    for pair in dict.fromkeys(cell.pair for cell in cells):
        mine = [cell for cell in cells if cell.pair == pair]
        teacher = _teacher_row(mine, pair)
        rows += [] if teacher is None else [teacher]
        rows += sorted(_method_rows(mine, pair, baseline), key=lambda row: -(row.top1_mean or -1.0))
    return rows


def _method_rows(cells: Sequence[CellRecord], pair: str, baseline: str) -> list[Row]:
    scores: dict[str, dict[int, float]] = {}
    for cell in cells:
        scores.setdefault(cell.method, {})
        if cell.result is not None:
            scores[cell.method][cell.seed] = float(cell.result["metrics"]["top1"])
    others = {method: values for method, values in scores.items() if method != baseline}
    compared = differences(others, scores.get(baseline, {}))
    return [
        _method_row(method, pair, [cell for cell in cells if cell.method == method], compared.get(method))
        for method in scores
    ]


def _method_row(method: str, pair: str, cells: Sequence[CellRecord], compared: Difference | None) -> Row:
    results = [cell.result for cell in cells if cell.result is not None]
    failures = [cell.reason for cell in cells if cell.result is None]
    if not results:
        return Row(method=method, pair=pair, n=0, status="failed", reason=failures[0])
    summary = summarise([float(result["metrics"]["top1"]) for result in results])
    agreements = [result["metrics"]["agreement"] for result in results if "agreement" in result["metrics"]]
    student = results[0]["student"]
    return Row(
        method=method,
        pair=pair,
        n=summary.count,
        top1_mean=summary.mean,
        top1_sd=summary.deviation,
        difference=None if compared is None else compared.mean,
        interval=None if compared is None else compared.interval,
        p_value=None if compared is None else compared.p_value,
        verdict="" if compared is None else compared.verdict,
        seeds_needed=None if compared is None else compared.seeds_needed,
        agreement=summarise(agreements).mean if agreements else None,
        parameters=student["parameters"],
        macs=student["macs"],
        latency_ms=student["latency_ms"]["median"],
        train_seconds=summarise([result["cost"]["train_seconds"] for result in results]).mean,
        views=results[0]["cost"]["views"],
        status="partly failed" if failures else "done",
        reason=failures[0] if failures else "",
    )


def _teacher_row(cells: Sequence[CellRecord], pair: str) -> Row | None:
    taught = [cell.result for cell in cells if cell.result is not None and cell.result.get("teacher")]
    if not taught:
        return None
    teacher = taught[0]["teacher"]
    latency = teacher["latency_ms"]
    return Row(
        method="teacher",
        pair=pair,
        n=1,
        top1_mean=float(taught[0]["metrics"]["teacher_top1"]),
        parameters=teacher["parameters"],
        macs=teacher["macs"],
        latency_ms=None if latency is None else latency["median"],
    )


def sentence(rows: Sequence[Row], baseline: str) -> str:
    """Say in one sentence what the table shows, and no more than its seeds allow."""
    done = [row for row in rows if row.method not in ("teacher", baseline) and row.top1_mean is not None]
    if not done:
        return "No method finished beside the baseline."
    best = max(done, key=lambda row: row.top1_mean or 0.0)
    ahead = f"{best.method} has the highest mean top-1, {best.top1_mean:.1f} ({best.n} seed{'s' * (best.n > 1)})"
    if best.difference is None or not best.verdict:
        return ahead + "."
    gap = f"{best.difference:+.1f} against {baseline}"
    if best.interval is not None:
        gap += f" [{best.interval[0]:+.1f}, {best.interval[1]:+.1f}]"
    words = {
        "better": "which is separated from it",
        "worse": "which is below it",
        "one seed, no claim": "which one seed cannot tell from chance",
    }
    tail = words.get(best.verdict, "which these seeds do not separate")
    if best.seeds_needed is not None:
        tail += f" (about {best.seeds_needed} seeds would)"
    return f"{ahead}, {gap}, {tail}."


def write_tables(folder: Path, rows: Sequence[Row], document: Mapping[str, Any]) -> None:
    """Write ``table.csv``, ``table.md``, ``table.json`` and ``cells.json``-ready values beside each other."""
    columns = list(asdict(rows[0])) if rows else []
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _flat(value) for key, value in asdict(row).items()})
    write_text(folder / "table.csv", out.getvalue())
    write_text(folder / "table.md", _markdown(rows))
    write_json(folder / "table.json", dict(document))


def _flat(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value[0]} {value[1]}" if isinstance(value, (tuple, list)) else value


def _markdown(rows: Sequence[Row]) -> str:
    lines = [
        "| pair | method | top-1 mean | sd | n | difference | 95 % interval | verdict | params | ms/image | train s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        span = "" if row.interval is None else f"{row.interval[0]:+.2f} to {row.interval[1]:+.2f}"
        cells = [
            row.pair,
            row.method,
            _number(row.top1_mean, ".2f"),
            _number(row.top1_sd, ".2f"),
            str(row.n),
            _number(row.difference, "+.2f"),
            span,
            row.verdict or row.reason,
            _number(row.parameters, ","),
            _number(row.latency_ms, ".2f"),
            _number(row.train_seconds, ".1f"),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
