"""Pictures as SVG: what is drawn stands in their tables, their colours are the page's, and odd names do no harm."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from made_up_runs import EPOCHS, made_up_cells

from compressor.comparison.columns import Number, text_of
from compressor.comparison.evidence import Evidence
from compressor.comparison.report.accuracy import MOST_POINTS, Curve, curves_of, draw_against, draw_curves, draw_seeds
from compressor.comparison.report.classes import (
    class_accuracies,
    confused_pairs,
    confusion,
    draw_calibration,
    draw_classes,
    draw_confusion,
    thumbnails,
)
from compressor.comparison.report.costs import draw_costs, reached
from compressor.comparison.report.svg import NumberTable, Picture, look, looks_of
from compressor.comparison.table import CellRecord, Row, make_rows

NAMES = ("cat", r"$\frac{dog", "_<b>&", "d" * 60)


def seen(labels: list[int], chosen: list[int], names: tuple[str, ...] = NAMES) -> Evidence:
    sure = np.linspace(0.4, 0.9, len(labels))
    return Evidence(labels=np.array(labels), chosen=np.array(chosen), confidence=sure, class_names=names)


def values_of(table: NumberTable) -> list[list[float]]:
    return [[part.value for cell in row for part in cell if isinstance(part, Number)] for row in table.rows]


def well_formed(drawn: Picture) -> ElementTree.Element:
    assert "#fe0" not in drawn.svg
    root = ElementTree.fromstring(drawn.file)
    assert ElementTree.fromstring(drawn.svg).attrib["aria-label"] == drawn.alt
    return root


def test_accuracies_of_classes_and_confusions_are_counted_by_hand() -> None:
    both = [seen([0, 0, 1, 1, 2], [0, 1, 1, 1, 0]), seen([0, 0, 1, 1, 2], [0, 0, 0, 1, 2])]
    by_class = class_accuracies(both)
    assert by_class[:3].tolist() == [75.0, 75.0, 50.0]
    assert np.isnan(by_class[3])
    assert confusion(both)[:3, :3].tolist() == [[1.5, 0.5, 0], [0.5, 1.5, 0], [0.5, 0, 0.5]]
    errors = confused_pairs(both)
    assert {(text_of(row[0]), text_of(row[1])) for row in errors.rows} == {
        ("cat", NAMES[1]),
        (NAMES[1], "cat"),
        (NAMES[2], "cat"),
    }
    assert values_of(errors) == [[0.5, 25.0], [0.5, 25.0], [0.5, 50.0]]


def test_gains_by_class_are_drawn_largest_first_with_every_number_in_the_table() -> None:
    methods = {"base": [seen([0, 0, 1, 1, 2], [1, 1, 1, 1, 2])], "new": [seen([0, 0, 1, 1, 2], [0, 0, 1, 0, 2])]}
    drawn = draw_classes(methods, best="new", baseline="base", key="k")
    assert drawn is not None
    assert [text_of(row[0]) for row in drawn.table.rows] == ["cat", NAMES[2], NAMES[1]]
    assert values_of(drawn.table) == [[100.0, 0.0, 100.0], [0.0, 100.0, 100.0], [-50.0, 100.0, 50.0]]
    text = "".join(well_formed(drawn).itertext())
    assert r"$\frac{dog" in text
    assert draw_classes(methods, best="new", baseline="gone", key="k") is None


def test_with_many_classes_the_largest_gains_and_losses_are_shown_and_no_matrix() -> None:
    labels = list(range(100))
    names = tuple(f"class {number}" for number in labels)
    methods = {
        "base": [seen(labels, [0] * 50 + labels[50:], names)],
        "new": [seen(labels, [*labels[:50], *[0] * 50], names)],
    }
    drawn = draw_classes(methods, best="new", baseline="base", key="k")
    assert drawn is not None
    assert [row[0] for row in values_of(drawn.table)] == [100.0] * 10 + [-100.0] * 10
    assert "largest" in drawn.title
    assert draw_confusion(methods["new"], method="new", key="k") is None


def test_confusion_is_drawn_with_its_counts() -> None:
    drawn = draw_confusion([seen([0, 0, 1, 2], [0, 1, 1, 2])], method="new", key="k")
    assert drawn is not None
    assert values_of(drawn.table) == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    well_formed(drawn)


def test_calibration_is_of_all_seeds_together() -> None:
    drawn = draw_calibration({"m": [seen([0, 1], [0, 1]), seen([0, 1], [1, 1])]}, looks_of(["m"]), key="k")
    assert drawn is not None
    assert values_of(drawn.table) == [[pytest.approx(0.4), 0.5, 2], [pytest.approx(0.9), 1.0, 2]]
    well_formed(drawn)


def test_names_and_references_begin_with_the_pictures_key() -> None:
    drawn = draw_seeds({"kd": {0: 70.0, 1: 71.0}, "scratch": {0: 69.0}}, looks_of(["kd", "scratch"]), key="p7-seeds")
    assert drawn is not None
    assert re.findall(r'id="(?!p7-seeds-)', drawn.svg) == []
    used = set(re.findall(r'(?:href="|url\()#([\w.-]+)', drawn.svg))
    assert used
    assert used <= set(re.findall(r'id="([\w.-]+)"', drawn.svg))
    assert values_of(drawn.table) == [[70.0, 71.0, 70.5], [69.0, 69.0]]
    assert text_of(drawn.table.rows[1][2]) == ""


def test_file_of_a_picture_brings_its_colours_and_refers_to_nothing_outside() -> None:
    drawn = draw_seeds({"kd": {0: 70.0}}, looks_of(["kd"]), key="k")
    assert drawn is not None
    assert "prefers-color-scheme: dark" in drawn.file
    assert well_formed(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    assert set(re.findall(r"https?://[\w./]+", drawn.file)) == {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("cost", ["latency_ms", "parameters"])
def test_accuracy_against_a_cost_shows_rows_that_have_both(cost: str) -> None:
    rows = [
        Row(method="teacher", pair="p", n=1, top1_mean=95.0, parameters=9_000, latency_ms=3.0),
        Row(
            method="kd",
            pair="p",
            n=2,
            top1_mean=90.0,
            top1_sd=0.5,
            parameters=900,
            latency_ms=1.0,
            latency_low=1.1,
            latency_high=1.2,
        ),
        Row(method="failed", pair="p", n=0),
    ]
    drawn = draw_against(rows, looks_of(["teacher", "kd"]), cost=cost, axis="cost (unit)", key="k")
    assert drawn is not None
    assert [row[:2] for row in values_of(drawn.table)] == [[95.0, getattr(rows[0], cost)], [90.0, 0.5]]
    well_formed(drawn)
    assert draw_against(rows[2:], looks_of([]), cost=cost, axis="cost", key="k") is None


def test_curves_are_means_over_seeds_of_the_epochs_that_all_have(tmp_path: Path) -> None:
    cells = made_up_cells(tmp_path, {"kd": [0.8, 0.8], "scratch": [0.7]})
    kd, scratch = curves_of(cells, "eval_top1")
    assert kd.epochs == scratch.epochs == tuple(range(1, EPOCHS + 1))
    assert kd.means[0] == pytest.approx(80 * 0.5 + 0.15)
    assert kd.deviations[0] == pytest.approx(0.3 / 2**0.5)
    assert scratch.deviations == (None,) * EPOCHS
    drawn = draw_curves([kd, scratch], looks_of(["kd", "scratch"]), words="held-out top-1 %", key="k")
    assert drawn is not None
    assert values_of(drawn.table)[0] == pytest.approx([1, kd.means[0], kd.deviations[0], scratch.means[0]][1:])
    assert curves_of(cells, "nothing") == []


def test_long_curves_are_thinned_and_keep_their_ends(tmp_path: Path) -> None:
    [cell] = made_up_cells(tmp_path, {"kd": [0.8]})
    assert cell.evidence is not None
    long = [{"phase": "student", "epoch": str(epoch), "eval_top1": "50"} for epoch in range(1000)]
    object.__setattr__(cell.evidence, "history", [{"phase": "before", "epoch": "0", "eval_top1": "1"}, *long])
    [curve] = curves_of([cell], "eval_top1")
    assert len(curve.epochs) == MOST_POINTS
    assert (curve.epochs[0], curve.epochs[-1]) == (1, 1000)


def test_epoch_at_which_the_baseline_is_reached() -> None:
    base = Curve("scratch", (1, 2, 3), (10.0, 20.0, 30.0), (None,) * 3)
    fast, slow = Curve("kd", (1, 2, 3), (25.0, 31.0, 29.0), (None,) * 3), Curve("at", (1, 2), (1.0, 2.0), (None,) * 2)
    table = reached([base, fast, slow], "scratch")
    assert table is not None
    assert [text_of(row[1]) for row in table.rows] == ["3", "2", ""]
    assert reached([fast], "scratch") is None


def test_costs_are_those_of_the_rows(tmp_path: Path) -> None:
    cells: list[CellRecord] = made_up_cells(tmp_path, {"kd": [0.8], "scratch": [0.7]})
    rows = [row for row in make_rows(cells, "scratch") if row.method != "teacher"]
    drawn = draw_costs(rows, key="k")
    assert drawn is not None
    assert values_of(drawn.table) == [[10.0, 4.0], [10.0, 0.0]]
    assert draw_costs([], key="k") is None


def test_thumbnails_are_pictures_with_words(tmp_path: Path) -> None:
    [cell] = made_up_cells(tmp_path, {"kd": [0.8]})
    assert cell.evidence is not None
    shown = thumbnails(cell.evidence)
    assert len(shown) == 4
    assert all(item.source.startswith("data:image/png;base64,") for item in shown)
    first = cell.evidence.worst[0]
    assert shown[0].text.startswith(f"{cell.evidence.class_name(first.label)}, taken for ")


def test_looks_differ_within_eight_and_again_after_them() -> None:
    looks = [look(number) for number in range(16)]
    assert len({item.color for item in looks[:8]}) == len({item.marker for item in looks[:8]}) == 8
    assert len({(item.color, item.dashes) for item in looks}) == 16
