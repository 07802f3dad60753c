"""Pictures of accuracy: against what a network costs, seed by seed, and over the epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import EngFormatter

from compressor.comparison.columns import NONE, Cell, Number, number, spread
from compressor.comparison.report.svg import LINE, TEXT, Looks, NumberTable, Picture, canvas, picture
from compressor.comparison.statistics import summarise
from compressor.comparison.table import TEACHER, CellRecord, Row

MOST_POINTS = 120
"""Epochs of a curve that are drawn and listed at most, in a page of one pair."""


def draw_against(rows: Sequence[Row], looks: Looks, *, cost: str, axis: str, key: str) -> Picture | None:
    """Draw mean accuracy against a cost, a point a row; bars are one deviation over seeds, and quartiles of latency.

    Args:
        cost: name of the row's value: ``latency_ms`` or ``parameters``. axis: its words and unit.

    Returns:
        None where no row has both.
    """
    shown = [row for row in rows if row.top1_mean is not None and getattr(row, cost) is not None]
    if not shown:
        return None
    quartiles = cost == "latency_ms"
    with canvas(height=2.6 + 0.16 * len(shown)) as (figure, axes):
        for row in shown:
            own, value = looks[row.method], getattr(row, cost)
            low, high = (row.latency_low, row.latency_high) if quartiles else (None, None)
            across = None if low is None or high is None else [[max(0.0, value - low)], [max(0.0, high - value)]]
            axes.errorbar(
                [value],
                [row.top1_mean or 0.0],
                yerr=row.top1_sd,
                xerr=across,
                fmt=own.marker,
                color=own.color,
                capsize=3,
                label=row.method,
            )
        if not quartiles:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel(axis)
        axes.set_ylabel("top-1 %")
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=2)
        table = NumberTable(
            ("method", "top-1 %", axis),
            [((row.method,), spread(row, "top1_mean", "top1_sd"), _cost_cell(row, cost, quartiles)) for row in shown],
        )
        ends = sorted(shown, key=lambda row: float(getattr(row, cost)))
        alt = (
            f"Top-1 accuracy against {axis}: {len(shown)} rows, from {ends[0].method} at {getattr(ends[0], cost):,.4g} "
            f"to {ends[-1].method} at {getattr(ends[-1], cost):,.4g}. The table below has every number."
        )
        return picture(figure, key=key, title=f"Accuracy against {axis.partition(' (')[0]}", alt=alt, table=table)


def _cost_cell(row: Row, cost: str, quartiles: bool) -> Cell:
    if not quartiles:
        return number(row, cost, ",d")
    if row.latency_low is None:
        return number(row, cost, ".3f")
    return (
        *number(row, cost, ".3f"),
        " (",
        *number(row, "latency_low", ".3f"),
        " to ",
        *number(row, "latency_high", ".3f"),
        ")",
    )


def draw_seeds(scores: Mapping[str, Mapping[int, float]], looks: Looks, *, key: str) -> Picture | None:
    """Draw each seed's accuracy, a line of points a method, and the means; a thin line joins the points of a seed.

    Args:
        scores: accuracy in percent by method, best first, and seed.
    """
    filled = {name: values for name, values in scores.items() if values}
    if not filled:
        return None
    names = list(filled)
    seeds = sorted({seed for values in filled.values() for seed in values})
    with canvas(height=1.0 + 0.36 * len(names)) as (figure, axes):
        for seed in seeds:
            joined = [(filled[name][seed], place) for place, name in enumerate(names) if seed in filled[name]]
            axes.plot([top1 for top1, _ in joined], [place for _, place in joined], color=LINE, linewidth=0.7)
        for place, name in enumerate(names):
            values = list(filled[name].values())
            own = looks[name]
            axes.plot(values, [place] * len(values), linestyle="", marker=own.marker, color=own.color, markersize=5)
            axes.plot([summarise(values).mean], [place], linestyle="", marker="|", color=TEXT, markersize=16)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel("top-1 %; the bar is the mean")
        axes.grid(visible=True, axis="x")
        table = NumberTable(
            ("method", *(f"seed {seed}" for seed in seeds), "mean"),
            [
                (
                    (name,),
                    *(_value(f"seed_{seed}", values.get(seed)) for seed in seeds),
                    _value("mean", summarise(list(values.values())).mean),
                )
                for name, values in filled.items()
            ],
        )
        alt = f"Top-1 accuracy of {len(names)} methods for {len(seeds)} seeds, a point a run, best mean at the top."
        return picture(figure, key=key, title="Seed by seed", alt=alt, table=table)


@dataclass(frozen=True)
class Curve:
    """Means over seeds by epoch, with deviations where there are two seeds or more."""

    method: str
    epochs: tuple[int, ...]
    means: tuple[float, ...]
    deviations: tuple[float | None, ...]


def curves_of(cells: Sequence[CellRecord], value: str, *, most: int = MOST_POINTS) -> list[Curve]:
    """Return a curve a method of a column of ``metrics.csv``, over the epochs of the last phase that all seeds have.

    Args:
        most: epochs of a curve that are kept, >= 2; a longer one is thinned evenly.
    """
    curves = []
    for name in dict.fromkeys(cell.method for cell in cells):
        found = [_by_epoch(cell, value) for cell in cells if cell.method == name and cell.evidence is not None]
        runs = [run for run in found if run]
        epochs = sorted(set(runs[0]).intersection(*runs[1:])) if runs else []
        if epochs:
            thin = _thinned(epochs, most)
            summaries = [summarise([run[epoch] for run in runs]) for epoch in thin]
            deviations = tuple(item.deviation for item in summaries)
            curves.append(Curve(name, tuple(thin), tuple(item.mean for item in summaries), deviations))
    return curves


def _by_epoch(cell: CellRecord, value: str) -> dict[int, float]:
    history = cell.evidence.history if cell.evidence is not None else ()
    if not history:
        return {}
    last = history[-1]["phase"]
    rows = [row for row in history if row["phase"] == last and row.get(value) not in (None, "")]
    return {int(row["epoch"]) + 1: float(row[value]) for row in rows}


def _thinned(epochs: Sequence[int], most: int) -> list[int]:
    if len(epochs) <= most:
        return list(epochs)
    step = (len(epochs) - 1) / (most - 1)
    return [epochs[round(place * step)] for place in range(most)]


def draw_curves(curves: Sequence[Curve], looks: Looks, *, words: str, key: str) -> Picture | None:
    """Draw curves with a band of one deviation, all on the same epochs.

    Args:
        words: of what is drawn, with its unit: ``held-out top-1 %``.
    """
    if not curves:
        return None
    epochs = sorted({epoch for curve in curves for epoch in curve.epochs})
    with canvas(height=2.7 + 0.16 * len(curves)) as (figure, axes):
        for curve in curves:
            own = looks[curve.method]
            marker = own.marker if len(curve.epochs) <= 12 else ""
            axes.plot(
                curve.epochs,
                curve.means,
                color=own.color,
                linestyle=own.dashes,
                marker=marker,
                markersize=4,
                label=curve.method,
            )
            if all(deviation is not None for deviation in curve.deviations):
                low = [mean - (spread or 0.0) for mean, spread in zip(curve.means, curve.deviations, strict=True)]
                high = [mean + (spread or 0.0) for mean, spread in zip(curve.means, curve.deviations, strict=True)]
                axes.fill_between(curve.epochs, low, high, color=own.color, alpha=0.15, linewidth=0)
        axes.set_xlabel("epoch of the last phase")
        axes.set_ylabel(words)
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=2)
        alt = f"{words} over {len(epochs)} epochs for {len(curves)} methods: means, with a band of one deviation."
        table = NumberTable(
            ("epoch", *(curve.method for curve in curves)),
            [((str(epoch),), *(_at(curve, epoch) for curve in curves)) for epoch in epochs],
        )
        return picture(figure, key=key, title=words[0].upper() + words[1:], alt=alt, table=table)


def _at(curve: Curve, epoch: int) -> Cell:
    if epoch not in curve.epochs:
        return (NONE,)
    place = curve.epochs.index(epoch)
    deviation = curve.deviations[place]
    mean = _value("mean", curve.means[place])
    return mean if deviation is None else (*mean, " ± ", *_value("sd", deviation))


def _value(key: str, value: float | None, form: str = ".2f") -> Cell:
    return (NONE,) if value is None else (Number(key, value, format(value, form)),)


def students(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of methods that finished."""
    return [row for row in rows if row.method != TEACHER and row.top1_mean is not None]
