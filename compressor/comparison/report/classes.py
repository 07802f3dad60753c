"""Pictures of classes and errors: gains and losses, confusion, calibration, and thumbnails of the worst errors."""

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from compressor.comparison.calibration import reliability
from compressor.comparison.columns import Cell, Number
from compressor.comparison.evidence import Evidence, WorstError
from compressor.comparison.report.svg import (
    FIRST,
    LINE,
    PAPER,
    SECOND,
    TEXT,
    THIRD,
    Looks,
    NumberTable,
    Picture,
    canvas,
    picture,
)

MOST_CLASSES = 20
"""With more classes only the ten largest gains and the ten largest losses are shown, and no matrix."""
_MOST_CONFUSIONS = 15
Seen = Sequence[Evidence]
"""The finished seeds of one method."""


def class_accuracies(seen: Seen) -> NDArray[np.float64]:
    """Return the accuracy of each class in percent, mean over seeds, (K,); nan for a class without test images."""
    labels = seen[0].labels
    count = np.bincount(labels, minlength=_classes(seen))
    right = np.mean([np.bincount(labels[item.right], minlength=len(count)) for item in seen], axis=0)
    return np.asarray(np.divide(100.0 * right, count, out=np.full(len(count), np.nan), where=count > 0))


def _classes(seen: Seen) -> int:
    return max(len(seen[0].class_names), *(int(max(item.labels.max(), item.chosen.max())) + 1 for item in seen))


def draw_classes(methods: Mapping[str, Seen], *, best: str, baseline: str, key: str) -> Picture | None:
    """Draw each class's gain or loss of one method against the baseline, largest gain first.

    Args:
        methods: all that finished; the table has the accuracies of each of them.
    """
    if best not in methods or baseline not in methods:
        return None
    accuracies = {name: class_accuracies(seen) for name, seen in methods.items()}
    gains = accuracies[best] - accuracies[baseline]
    order = [int(number) for number in np.argsort(-gains, kind="stable") if not np.isnan(gains[number])]
    shown = order if len(order) <= MOST_CLASSES else order[: MOST_CLASSES // 2] + order[-MOST_CLASSES // 2 :]
    names = [methods[best][0].class_name(number) for number in shown]
    with canvas(height=1.0 + 0.2 * len(shown)) as (figure, axes):
        values = [float(gains[number]) for number in shown]
        colors = [THIRD if value >= 0 else SECOND for value in values]
        axes.barh(range(len(shown)), values, color=colors, height=0.7)
        axes.axvline(0, color=LINE, linewidth=0.8)
        axes.set_yticks(range(len(shown)), [_cut(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel(f"points of {best} above {baseline}")
        axes.grid(visible=True, axis="x")
        some = "" if len(shown) == len(order) else f" The {len(shown)} largest of {len(order)} classes."
        alt = f"Accuracy of {best} minus {baseline} class by class, from {values[0]:+.1f} to {values[-1]:+.1f}.{some}"
        table = NumberTable(
            ("class", "difference", *methods),
            [
                (
                    (name,),
                    _number(value, "+.2f"),
                    *(_number(float(item[number]), ".2f") for item in accuracies.values()),
                )
                for number, name, value in zip(shown, names, values, strict=True)
            ],
        )
        return picture(
            figure,
            key=key,
            title=f"Gains and losses of {best} by class{some and ', the largest'}",
            alt=alt,
            table=table,
        )


def confusion(seen: Seen) -> NDArray[np.float64]:
    """Return images by true class (rows) and choice (columns), (K, K), mean over seeds."""
    classes = _classes(seen)
    each = [np.bincount(item.labels * classes + item.chosen, minlength=classes**2) for item in seen]
    return np.asarray(np.mean(each, axis=0).reshape(classes, classes))


def draw_confusion(seen: Seen, *, method: str, key: str) -> Picture | None:
    """Draw the matrix of true classes and choices, mean over seeds, for up to 20 classes."""
    counts = confusion(seen)
    if len(counts) > MOST_CLASSES:
        return None
    names = [seen[0].class_name(number) for number in range(len(counts))]
    rows = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    with canvas(height=4.4) as (figure, axes):
        for (row, column), share in np.ndenumerate(shares):
            color = FIRST if row == column else SECOND
            square = [
                [row - 0.5, row - 0.5, row + 0.5, row + 0.5],
                [column - 0.5, column + 0.5, column + 0.5, column - 0.5],
            ]
            axes.fill(square[1], square[0], color=color, alpha=round(float(share), 3), linewidth=0)
            if counts[row, column] >= 0.05:
                text = f"{counts[row, column]:.0f}" if counts[row, column] >= 0.5 else "<1"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=PAPER if share > 0.6 else TEXT)
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xticks(range(len(names)), [_cut(name) for name in names], rotation=90)
        axes.set_yticks(range(len(names)), [_cut(name) for name in names])
        axes.set_xlabel("chosen")
        axes.set_ylabel("true")
        table = NumberTable(
            ("true \\ chosen", *names),
            [((name,), *(_number(float(value), ".1f") for value in counts[row])) for row, name in enumerate(names)],
        )
        alt = f"Confusion matrix of {method}: test images by true class and choice, mean over {len(seen)} seeds."
        return picture(figure, key=key, title=f"Confusion of {method}", alt=alt, table=table)


def confused_pairs(seen: Seen) -> NumberTable:
    """Return the most frequent errors as a table: true class, choice, images (mean over seeds), share of the class."""
    counts = confusion(seen)
    sizes = counts.sum(axis=1)
    wrong = Counter({place: float(value) for place, value in np.ndenumerate(counts) if place[0] != place[1] and value})
    return NumberTable(
        ("true", "chosen", "images", "% of the class"),
        [
            (
                (seen[0].class_name(place[0]),),
                (seen[0].class_name(place[1]),),
                _number(value, ".1f"),
                _number(100 * value / float(sizes[place[0]]), ".1f"),
            )
            for place, value in wrong.most_common(_MOST_CONFUSIONS)
        ],
    )


def draw_calibration(methods: Mapping[str, Seen], looks: Looks, *, key: str) -> Picture | None:
    """Draw how often students are right when they are so sure, all seeds together, beside the line of honest ones."""
    lines = {
        name: reliability(
            np.concatenate([item.confidence for item in seen]), np.concatenate([item.right for item in seen])
        )
        for name, seen in methods.items()
    }
    if not lines:
        return None
    with canvas(height=3.0 + 0.16 * len(lines)) as (figure, axes):
        axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.8)
        for name, bins in lines.items():
            own = looks[name]
            axes.plot(
                [item.confidence for item in bins],
                [item.accuracy for item in bins],
                color=own.color,
                marker=own.marker,
                markersize=4,
                linestyle=own.dashes,
                label=name,
            )
        axes.set_xlabel("certainty of the choice")
        axes.set_ylabel("share that is right")
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.grid(visible=True)
        figure.legend(loc="outside lower center", ncols=2)
        table = NumberTable(
            ("method", "certainty", "right", "answers"),
            [
                ((name,), _number(item.confidence, ".3f"), _number(item.accuracy, ".3f"), _number(item.count, "d"))
                for name, bins in lines.items()
                for item in bins
            ],
        )
        alt = f"Share of right answers against certainty for {len(lines)} methods; the diagonal is honest."
        return picture(figure, key=key, title="Certainty and truth", alt=alt, table=table)


@dataclass(frozen=True)
class Thumbnail:
    """A test image in the page: a ``data:`` address, and what is said of it."""

    source: str
    text: str


def thumbnails(seen: Evidence) -> list[Thumbnail]:
    """Return the errors a student was most certain of as small PNG pictures."""
    return [_thumbnail(error, seen) for error in seen.worst]


def _thumbnail(error: WorstError, seen: Evidence) -> Thumbnail:
    pixels = np.moveaxis(error.pixels, 0, -1)
    if pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG", optimize=True)
    text = (
        f"{seen.class_name(error.label)}, taken for {seen.class_name(error.chosen)} with {100 * error.confidence:.0f} %"
    )
    return Thumbnail(f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}", text)


def _cut(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:16]}..."


def _number(value: float, form: str) -> Cell:
    return (Number("value", value, format(value, form)),)
