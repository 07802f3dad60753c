"""The table made of fabricated cells, its sentence, its files, and conditions on it."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from compressor.comparison.files import as_latex, as_markdown, write_tables
from compressor.comparison.gate import check
from compressor.comparison.grid import Comparison
from compressor.comparison.table import AVERAGE, CellRecord, make_rows
from compressor.comparison.verdict import sentence
from compressor.errors import GateError, UsageError

PAIR = "big -> small"


def cell(
    method: str, seed: int, top1: float | None, *, pair: str = PAIR, reason: str = "", views: int | None = None
) -> CellRecord:
    if top1 is None:
        return CellRecord(method, pair, seed, f"cells/{method}-{seed}", None, reason)
    result: dict[str, Any] = {
        "metrics": {"top1": top1},
        "student": {"parameters": 1000, "macs": 5000, "latency_ms": {"median": 1.5}},
        "teacher": None,
        "cost": {"train_seconds": 10.0 + seed, "views": views or (4 if method == "sskd" else 1)},
    }
    if method != "scratch":
        result["metrics"] |= {"teacher_top1": 95.0, "agreement": 80.0 + seed}
        result["teacher"] = {"parameters": 9000, "macs": 90000, "latency_ms": {"median": 7.0}}
    return CellRecord(method, pair, seed, f"cells/{method}-{seed}", result)


def cells(**scores: tuple[float | None, ...]) -> list[CellRecord]:
    return [
        cell(method, seed, top1, reason="it fell") for method, tops in scores.items() for seed, top1 in enumerate(tops)
    ]


def made(some: list[CellRecord], baseline: str = "scratch") -> Comparison:
    rows = make_rows(some, baseline)
    return Comparison(rows, some, sentence(rows, baseline), baseline, None)


def test_rows_are_teacher_first_then_by_mean_with_failures_last() -> None:
    rows = make_rows(cells(scratch=(70.0, 71.0), kd=(72.0, 74.0), crd=(None, None), sskd=(80.0, 81.0)), "scratch")
    assert [row.method for row in rows] == ["teacher", "sskd", "kd", "scratch", "crd"]
    assert [row.n for row in rows] == [1, 2, 2, 2, 0]
    teacher, sskd, kd, scratch, crd = rows
    assert (teacher.top1_mean, teacher.parameters, teacher.latency_ms) == (95.0, 9000, 7.0)
    assert kd.top1_mean == 73.0
    assert kd.top1_sd == pytest.approx(2**0.5)
    assert kd.difference == 2.5
    assert kd.agreement == 80.5
    assert kd.train_seconds == 10.5
    assert (sskd.views, kd.views) == (4, 1)
    assert (scratch.difference, scratch.verdict) == (None, "")
    assert (crd.status, crd.reason, crd.top1_mean) == ("failed", "it fell", None)


def test_method_with_one_failed_seed_says_so_and_pairs_what_is_left() -> None:
    rows = make_rows(cells(scratch=(70.0, 71.0, 72.0), kd=(71.0, None, 73.0)), "scratch")
    kd = next(row for row in rows if row.method == "kd")
    assert (kd.n, kd.status, kd.reason, kd.difference, kd.verdict) == (
        2,
        "partly failed",
        "it fell",
        1.0,
        "interval only",
    )


def test_one_seed_makes_no_claim_and_has_no_spread() -> None:
    rows = make_rows(cells(scratch=(70.0,), kd=(99.0,)), "scratch")
    kd = next(row for row in rows if row.method == "kd")
    assert (kd.top1_sd, kd.interval, kd.p_value, kd.verdict) == (None, None, None, "one seed, no claim")
    assert sentence(rows, "scratch") == (
        "kd has the highest mean top-1, 99.0 (1 seed), +29.0 against scratch, which one seed cannot tell from chance."
    )


def test_failed_baseline_leaves_means_without_differences() -> None:
    rows = make_rows(cells(scratch=(None, None), kd=(71.0, 72.0)), "scratch")
    kd = next(row for row in rows if row.method == "kd")
    assert (kd.top1_mean, kd.difference, kd.verdict) == (71.5, None, "")
    assert sentence(rows, "scratch") == "kd has the highest mean top-1, 71.5 (2 seeds)."


def test_sentence_of_separated_and_unseparated_methods() -> None:
    clear = make_rows(cells(scratch=(70.0, 71.0, 72.0), kd=(75.0, 76.1, 76.9)), "scratch")
    assert "kd has the highest mean top-1, 76.0 (3 seeds), +5.0 against scratch [+" in sentence(clear, "scratch")
    assert sentence(clear, "scratch").endswith("which is separated from it.")
    below = make_rows(cells(scratch=(75.0, 76.1, 76.9), kd=(70.0, 71.0, 72.0)), "scratch")
    assert sentence(below, "scratch").endswith("which is below it.")
    near = make_rows(cells(scratch=(70.0, 71.0, 72.0), kd=(70.5, 70.9, 72.6)), "scratch")
    assert "which these seeds do not separate (about " in sentence(near, "scratch")
    assert sentence(make_rows(cells(scratch=(70.0,)), "scratch"), "scratch") == (
        "No method finished beside the baseline."
    )


def test_sentence_explains_an_interval_without_zero_that_is_not_enough() -> None:
    # Against scratch kd has 2, 3, 4: t = 3 / (1 / sqrt 3), p = 0.035; with a second method Holm makes it 0.07.
    some = cells(scratch=(70.0, 71.0, 72.0), kd=(72.0, 74.0, 76.0), at=(70.0, 71.5, 71.0))
    assert "which these seeds do not separate once the number of methods is corrected for (about " in sentence(
        make_rows(some, "scratch"), "scratch"
    )
    assert "which is separated from it" in sentence(make_rows(some[:6], "scratch"), "scratch")


def test_pairs_stand_apart() -> None:
    some = [cell("scratch", 0, 70.0), cell("kd", 0, 72.0)]
    some += [cell("scratch", 0, 50.0, pair="a -> b"), cell("kd", 0, 49.0, pair="a -> b")]
    rows = make_rows(some, "scratch")
    assert [(row.pair, row.method) for row in rows] == [
        (PAIR, "teacher"),
        (PAIR, "kd"),
        (PAIR, "scratch"),
        ("a -> b", "teacher"),
        ("a -> b", "scratch"),
        ("a -> b", "kd"),
        (AVERAGE, "kd"),
        (AVERAGE, "scratch"),
    ]
    assert [row.difference for row in rows if row.method == "kd"] == [2.0, -1.0, 0.5]


def test_average_is_seed_by_seed_over_the_pairs_that_have_the_seed() -> None:
    some = [cell("scratch", seed, 70.0 + seed) for seed in range(3)] + [cell("kd", seed, 73.0) for seed in range(3)]
    some += [cell("scratch", seed, 50.0, pair="a -> b") for seed in range(3)]
    some += [cell("kd", 0, 51.0, pair="a -> b"), cell("kd", 1, 53.0, pair="a -> b")]
    some += [cell("crd", 0, 90.0)]
    averages = {row.method: row for row in make_rows(some, "scratch") if row.pair == AVERAGE}
    assert set(averages) == {"scratch", "kd"}
    assert (averages["kd"].n, averages["kd"].top1_mean) == (2, pytest.approx((62 + 63) / 2))
    assert averages["kd"].difference == pytest.approx(((62 - 60) + (63 - 60.5)) / 2)
    assert sentence(make_rows(some, "scratch"), "scratch").startswith(
        "Averaged over 2 pairs, kd has the highest mean top-1, 62.5 (2 seeds), +2.2 against scratch ["
    )


def test_average_without_a_method_that_every_pair_has_says_so() -> None:
    some = [cell("scratch", 0, 70.0), cell("scratch", 0, 50.0, pair="a -> b"), cell("kd", 0, 51.0, pair="a -> b")]
    assert sentence(make_rows(some, "scratch"), "scratch") == ("No method finished beside the baseline in every pair.")


def test_method_with_many_views_is_held_against_the_row_that_saw_as_many_images() -> None:
    some = cells(scratch=(70.0, 71.0, 72.0), kd=(72.0, 73.0, 74.0), sskd=(78.0, 79.5, 81.0))
    some += [cell("kd (4 views)", seed, top1, views=4) for seed, top1 in enumerate((75.0, 76.0, 77.0))]
    rows = {row.method: row for row in make_rows(some, "scratch")}
    assert (rows["sskd"].equal_compute, rows["sskd"].equal_difference) == ("kd (4 views)", 3.5)
    low, high = rows["sskd"].equal_interval or (0.0, 0.0)
    assert low < 3.5 < high
    assert {rows[name].equal_compute for name in ("scratch", "kd", "kd (4 views)")} == {""}
    assert "against kd (4 views), which saw as many images, +3.5 [" in sentence(list(rows.values()), "scratch")


def test_files_hold_the_rows(tmp_path: Path) -> None:
    table = made(cells(scratch=(70.0, 71.0, 72.0), kd=(75.0, 76.1, 76.9), crd=(None,)))
    write_tables(tmp_path, table.rows, table.document())
    with (tmp_path / "table.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert float(rows["kd"]["top1_mean"]) == pytest.approx(76.0)
    assert float(rows["kd"]["interval_low"]) < 5.0 < float(rows["kd"]["interval_high"])
    assert rows["crd"]["top1_mean"] == ""
    document = json.loads((tmp_path / "table.json").read_text())
    assert (document["status"], document["exit"]) == ("failed", 5)
    assert [row["method"] for row in document["rows"]] == [row.method for row in table.rows]
    assert (tmp_path / "table.tex").read_text() == as_latex(table.rows, "scratch")
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[-1].count("|")
    assert any("it fell" in line for line in lines)


def test_columns_that_nobody_fills_are_left_out() -> None:
    rows = make_rows(cells(scratch=(70.0, 71.0), kd=(72.0, 73.0)), "scratch")
    heading = as_markdown(rows, "scratch").splitlines()[0]
    assert "few %" not in heading
    assert "last epoch" not in heading
    for row in rows:
        object.__setattr__(row, "few_top1", 12.5)
        object.__setattr__(row, "last_mean", (row.top1_mean or 0.0) - 1)
    text = as_markdown(rows, "scratch")
    assert "| few % | last epoch |" in text
    assert "| 12.50 |" in text


def test_latex_is_escaped_and_as_wide_in_every_line() -> None:
    rows = make_rows(cells(scratch=(70.0, 71.0), wrn_40=(None,)), "scratch")
    text = as_latex(rows, "scratch")
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.count(" & ") for line in lines}) == 1
    assert r"wrn\_40" in text
    assert r"top-1 \%" in text
    assert r"70.50 $\pm$ 0.71" in text
    assert "±" not in text


def test_a_bar_in_a_reason_does_not_break_the_markdown() -> None:
    rows = make_rows([cell("scratch", 0, 70.0), cell("kd", 0, None, reason="a | b\nand more")], "scratch")
    assert r"a \| b and more" in as_markdown(rows, "scratch").splitlines()[-1]


@pytest.mark.parametrize(
    "condition",
    ["kd>=scratch", "kd > scratch", " kd>=75", "kd>75.9", "scratch>=71", "kd (4 views)>=kd", "kd (4 views) > 76"],
)
def test_condition_that_is_met_says_nothing(condition: str) -> None:
    some = cells(scratch=(70.0, 71.0, 72.0), kd=(75.0, 76.0, 77.0))
    check(made([*some, cell("kd (4 views)", 0, 78.0, views=4)]), condition)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("scratch>=kd", "scratch>=kd is not met for big -> small: 71.00 against 76.00"),
        ("kd>76", "kd>76 is not met for big -> small: 76.00 against 76.00"),
        ("crd>=1", "not finished against 1.00"),
    ],
)
def test_condition_that_is_not_met_is_exit_6(condition: str, message: str) -> None:
    table = made(cells(scratch=(70.0, 71.0, 72.0), kd=(75.0, 76.0, 77.0), crd=(None,)))
    with pytest.raises(GateError, match=message) as caught:
        check(table, condition)
    assert caught.value.exit_code == 6


def test_condition_holds_for_every_pair() -> None:
    some = [cell("scratch", 0, 70.0), cell("kd", 0, 72.0)]
    some += [cell("scratch", 0, 50.0, pair="a -> b"), cell("kd", 0, 49.0, pair="a -> b")]
    with pytest.raises(GateError, match="not met for a -> b"):
        check(made(some), "kd>=scratch")


@pytest.mark.parametrize("condition", ["kd", "kd=>3", "kd>=", ">=3", "kd>=crd>=3", ""])
def test_condition_that_cannot_be_read_is_a_usage_error(condition: str) -> None:
    with pytest.raises(UsageError, match="is not METHOD>=METHOD or METHOD>=NUMBER"):
        check(made(cells(scratch=(70.0,), kd=(72.0,))), condition)


def test_condition_on_a_method_that_is_not_compared_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="names 'kdd', which is not compared") as caught:
        check(made(cells(scratch=(70.0,), kd=(72.0,))), "kdd>=scratch")
    assert "kd" in str(caught.value.hint)
