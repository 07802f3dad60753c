"""What the page says of one pair of networks: its tables, its pictures, and the words that go with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compressor.comparison.columns import (
    Cell,
    Column,
    accuracy_columns,
    closeness_columns,
    cost_columns,
)
from compressor.comparison.report.accuracy import MOST_POINTS, curves_of, draw_against, draw_curves, draw_seeds
from compressor.comparison.report.classes import (
    Seen,
    Thumbnail,
    confused_pairs,
    draw_calibration,
    draw_classes,
    draw_confusion,
    thumbnails,
)
from compressor.comparison.report.costs import draw_costs, reached
from compressor.comparison.report.seeds import every_two, seeds_needed
from compressor.comparison.report.svg import Looks, NumberTable, Picture, looks_of
from compressor.comparison.table import AVERAGE, TEACHER, CellRecord, Row, average_scores, scores_of
from compressor.comparison.verdict import of_pair

PLACES = ("against", "seeds", "curves", "costs", "calibration", "classes")
"""Where pictures stand in a section."""
_FEWEST_POINTS = 24
_PICTURED = 2
"""Pairs whose worst errors are shown as pictures; more would make the file large."""


@dataclass(frozen=True)
class View:
    """A table of rows for the page: columns with their meanings, and the rows' cells under them."""

    columns: Sequence[Column]
    rows: Sequence[tuple[Row, Sequence[Cell]]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """Everything about one pair, or about the average of all; what is not there is None or empty."""

    key: str
    pair: str
    verdict: str
    notes: Sequence[str]
    accuracy: View
    costs: View
    closeness: View
    every_two: NumberTable | None
    seeds_needed: NumberTable | None
    pictures: Mapping[str, Sequence[Picture]]
    reached: NumberTable | None = None
    confused: tuple[str, NumberTable] | None = None
    worst: Sequence[tuple[str, Sequence[Thumbnail]]] = field(default_factory=tuple)


def make_sections(rows: Sequence[Row], cells: Sequence[CellRecord], baseline: str) -> list[Section]:
    """Make a section a pair, and one of the average where there are several."""
    pairs = list(dict.fromkeys(row.pair for row in rows))
    looks = looks_of([TEACHER, *(row.method for row in rows if row.method != TEACHER)])
    sections = []
    for place, pair in enumerate(pairs):
        mine = [row for row in rows if row.pair == pair]
        if pair == AVERAGE:
            scores = average_scores(cells, [name for name in pairs if name != AVERAGE])
            sections.append(_average(mine, scores, baseline, looks))
        else:
            own = [cell for cell in cells if cell.pair == pair]
            most = max(_FEWEST_POINTS, MOST_POINTS // len(pairs))
            sections.append(_section(f"p{place}", pair, mine, own, baseline, looks, most, errors=place < _PICTURED))
    return sections


def _section(
    key: str,
    pair: str,
    rows: Sequence[Row],
    cells: Sequence[CellRecord],
    baseline: str,
    looks: Looks,
    most: int,
    *,
    errors: bool,
) -> Section:
    done = [row for row in rows if row.method != TEACHER and row.top1_mean is not None]
    scores = {row.method: scores_of(cells)[row.method] for row in done}
    seen = _seen(cells, [row.method for row in done])
    ordered = [cell for row in done for cell in cells if cell.method == row.method]
    curves = curves_of(ordered, "eval_top1", most=most)
    losses = [] if curves else curves_of(ordered, "train_loss", most=most)
    best = next((row.method for row in done if row.method != baseline and row.method in seen), None)
    drawn: dict[str, Sequence[Picture | None]] = {
        "against": [
            draw_against(rows, looks, cost="latency_ms", axis="latency (ms an image)", key=f"{key}-latency"),
            draw_against(rows, looks, cost="parameters", axis="parameters", key=f"{key}-parameters"),
        ],
        "seeds": [draw_seeds(scores, looks, key=f"{key}-seeds")],
        "curves": [
            draw_curves(curves, looks, words="held-out top-1 %", key=f"{key}-curves"),
            draw_curves(losses, looks, words="training loss, each method's own", key=f"{key}-losses"),
        ],
        "costs": [draw_costs(done, key=f"{key}-costs")],
        "calibration": [draw_calibration(seen, looks, key=f"{key}-calibration")],
        "classes": []
        if best is None
        else [
            draw_classes(seen, best=best, baseline=baseline, key=f"{key}-classes"),
            draw_confusion(seen[best], method=best, key=f"{key}-confusion"),
        ],
    }
    return Section(
        key=key,
        pair=pair,
        verdict=of_pair(rows, baseline, pair),
        notes=_notes(done, cells),
        accuracy=_view(rows, lambda those: accuracy_columns(those, baseline)),
        costs=_view(rows, cost_columns),
        closeness=_view(done, closeness_columns),
        every_two=every_two(scores),
        seeds_needed=seeds_needed(scores, baseline),
        pictures=_placed(drawn),
        reached=reached(curves, baseline),
        confused=None if best is None else (best, confused_pairs(seen[best])),
        worst=[] if best is None or not errors else _worst(seen, (best, baseline)),
    )


def _placed(drawn: Mapping[str, Sequence[Picture | None]]) -> dict[str, list[Picture]]:
    return {name: [item for item in drawn.get(name, ()) if item is not None] for name in PLACES}


def _average(rows: Sequence[Row], scores: Mapping[str, Mapping[int, float]], baseline: str, looks: Looks) -> Section:
    ordered = {row.method: scores[row.method] for row in rows}
    drawn = draw_seeds(ordered, looks, key="average-seeds")
    return Section(
        key=AVERAGE,
        pair=AVERAGE,
        verdict=of_pair(rows, baseline, AVERAGE),
        notes=["Each seed's accuracy is its mean over the pairs; methods and seeds that some pair lacks are left out."],
        accuracy=_view(rows, lambda those: accuracy_columns(those, baseline)),
        costs=View((), ()),
        closeness=View((), ()),
        every_two=every_two(ordered),
        seeds_needed=seeds_needed(ordered, baseline),
        pictures=_placed({"seeds": [drawn]}),
    )


def _view(rows: Sequence[Row], columns_of: "Callable[[Sequence[Row]], list[Column]]") -> View:
    columns = columns_of(rows)
    if len(columns) < 2:
        return View((), ())
    return View(columns, [(row, [column.cell(row) for column in columns]) for row in rows])


def _seen(cells: Sequence[CellRecord], methods: Sequence[str]) -> dict[str, Seen]:
    """Return what finished seeds left on disk, by method, of those with the same test images."""
    found = {
        name: [cell.evidence for cell in cells if cell.method == name and cell.evidence is not None] for name in methods
    }
    sizes = {len(item.labels) for seen in found.values() for item in seen}
    return {name: seen for name, seen in found.items() if seen} if len(sizes) == 1 else {}


def _notes(rows: Sequence[Row], cells: Sequence[CellRecord]) -> list[str]:
    results = [cell.result for cell in cells if cell.result is not None]
    counts = {row.n for row in rows}
    notes = []
    if counts == {1}:
        notes.append("One seed: nothing is claimed, for how far seeds vary is not known.")
    elif counts == {2}:
        notes.append("Two seeds: intervals are given, and no verdict.")
    if results:
        latency = results[0]["student"]["latency_ms"] or {}
        images, data = results[0]["metrics"].get("images"), results[0].get("data", {})
        if images:
            notes.append(f"{images:,} test images of {data.get('name', 'the data')}, {_looked(results)}.")
        if latency.get("runs"):
            threads = int(latency.get("threads", 1))
            notes.append(
                f"Latency: one image at a time on {threads} thread{'s' * (threads > 1)}, {latency['runs']} runs "
                "after a warm-up, student and teacher in turn."
            )
        if not data.get("val"):
            notes.append("No images were held out: no best epoch was looked for and no temperature was fitted.")
    return notes


def _looked(results: Sequence[Mapping[str, Any]]) -> str:
    if not any("paper_rule_top1" in result["metrics"] for result in results):
        return "looked at once, after training"
    return "looked at after epochs too, for the best look to be written down; nothing was chosen by it"


def _worst(seen: Mapping[str, Seen], methods: Sequence[str]) -> list[tuple[str, list[Thumbnail]]]:
    return [(name, thumbnails(seen[name][0])) for name in methods if name in seen and seen[name][0].worst]
