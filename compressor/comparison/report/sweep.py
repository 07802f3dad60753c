"""Accuracy against a value that was swept, a line a method with bands: the picture, its numbers, one page of both."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.comparison.table import TEACHER, Row
from compressor.publishing.facts import public_command
from compressor.storage import write_json, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from compressor.comparison.report.svg import Looks, NumberTable, Picture


@dataclass(frozen=True, kw_only=True)
class SweepPoint:
    """One method at one value of what was swept.

    Args:
        method: as its row is called. value: of what was swept, a number. pair: ``teacher -> student``.
        mean: top-1 accuracy in percent on the test images. deviation: over seeds, n - 1; None for one seed.
        count: finished seeds, >= 1.
    """

    method: str
    value: float
    mean: float
    deviation: float | None = None
    count: int = 1
    pair: str = ""


def points_of(value: float, rows: Iterable[Row]) -> list[SweepPoint]:
    """Return the points of one comparison of a sweep: a point a row that has a mean, the teacher's too.

    Args:
        value: at which this comparison was made. rows: of `compressor.comparison.grid.Comparison`.
    """
    return [
        SweepPoint(
            method=row.method,
            value=value,
            mean=row.top1_mean,
            deviation=row.top1_sd,
            count=row.n,
            pair=row.pair,
        )
        for row in rows
        if row.top1_mean is not None
    ]


def draw_sweep(points: Sequence[SweepPoint], *, value_name: str, title: str = "", key: str = "") -> "Picture":
    """Draw accuracy against the value, a line a method through its means with a band of one deviation on each side.

    Args:
        points: of one pair, in any order; a method may lack values. value_name: for the axis, with its unit, such as
            ``training images used (%)``. title: of the picture; empty makes one of ``value_name``.
        key: tells the picture from others in one page.

    Returns:
        the picture: `Picture.svg` for a page, `Picture.alt` in words, `Picture.table` with every number in it.

    Raises:
        ValueError: no points.
    """
    from compressor.comparison.report.svg import canvas, looks_of, picture  # takes a second to import

    if not points:
        raise ValueError("a sweep needs at least one point")
    pair = points[0].pair
    methods = list(dict.fromkeys(point.method for point in points))
    looks = looks_of([TEACHER, *(name for name in methods if name != TEACHER)])
    values = sorted({point.value for point in points})
    with canvas(width=6.0, height=3.4 + 0.16 * len(methods)) as (figure, axes):
        for name in methods:
            _draw_line(axes, sorted((p for p in points if p.method == name), key=lambda point: point.value), looks)
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.set_xlabel(value_name)
        axes.set_ylabel("top-1 %")
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=3)
        named = title or f"Accuracy against {value_name}"
        alt = (
            f"Top-1 accuracy of {', '.join(methods)} against {value_name} at {', '.join(f'{v:g}' for v in values)}: "
            "means over seeds with a band of one deviation."
        )
        return picture(
            figure,
            key=f"sweep-{key}" if key else "sweep",
            title=f"{named}, {pair}" if pair else named,
            alt=alt,
            table=_numbers(points, methods, values, value_name),
        )


def _draw_line(axes: "Axes", line: Sequence[SweepPoint], looks: "Looks") -> None:
    own = looks[line[0].method]
    across, means = [point.value for point in line], [point.mean for point in line]
    axes.plot(across, means, color=own.color, marker=own.marker, linestyle=own.dashes, label=line[0].method)
    low = [point.mean - (point.deviation or 0.0) for point in line]
    high = [point.mean + (point.deviation or 0.0) for point in line]
    axes.fill_between(across, low, high, color=own.color, alpha=0.15, linewidth=0)


def _numbers(
    points: Sequence[SweepPoint], methods: Sequence[str], values: Sequence[float], value_name: str
) -> "NumberTable":
    from compressor.comparison.columns import NONE, Cell, Number
    from compressor.comparison.report.svg import NumberTable

    by_place = {(point.method, point.value): point for point in points}

    def cell(method: str, value: float) -> Cell:
        point = by_place.get((method, value))
        if point is None:
            return (NONE,)
        mean = Number("mean", point.mean, f"{point.mean:.2f}")
        if point.deviation is None:
            return (mean, f" ({point.count})")
        return (mean, " ± ", Number("deviation", point.deviation, f"{point.deviation:.2f}"), f" ({point.count})")

    return NumberTable(
        ("method", *(f"{value_name} {value:g}" for value in values)),
        [((name,), *(cell(name, value) for value in values)) for name in methods],
    )


def write_sweep(
    folder: Path, points: Sequence[SweepPoint], *, value_name: str, title: str = "", command: str = ""
) -> Path:
    """Write ``sweep.html`` (one offline file), ``sweep.svg``, ``sweep.csv`` and ``sweep.json`` beside each other.

    Args:
        folder: exists. points: as `draw_sweep`; those of several pairs get a picture each. command: what was typed.

    Returns:
        the path of ``sweep.html``.
    """
    from compressor.comparison.report.page import render

    pairs = list(dict.fromkeys(point.pair for point in points))
    pictures = [
        draw_sweep(
            [point for point in points if point.pair == pair],
            value_name=value_name,
            title=title,
            key=f"{number}" if number else "",
        )
        for number, pair in enumerate(pairs)
    ]
    for number, drawn in enumerate(pictures):
        write_text(folder / (f"sweep-{number + 1}.svg" if number else "sweep.svg"), drawn.file)
    write_text(folder / "sweep.csv", _as_csv(points))
    write_json(folder / "sweep.json", [asdict(point) for point in points])
    page = render(
        "sweep.html.j2",
        title=title or f"Accuracy against {value_name}",
        pictures=pictures,
        command=public_command(command),
    )
    write_text(folder / "sweep.html", page)
    return folder / "sweep.html"


def _as_csv(points: Sequence[SweepPoint]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["pair", "method", "value", "mean", "deviation", "count"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in asdict(point).items()} for point in points)
    return out.getvalue()
