"""Rows and tables of the ledger measured again with real, tiny runs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import DATA, TINY, quick_finish, stop_after, write_data

from compressor.comparison.budget import Budget
from compressor.comparison.grid import compare
from compressor.comparison.ledger.making import records_of_comparison
from compressor.comparison.ledger.published import PublishedPair, PublishedTable, Rerun
from compressor.comparison.ledger.records import Record, find_record, read_record
from compressor.comparison.ledger.rows import Reproduction, reproduce_row
from compressor.comparison.ledger.tables import TableRun, measure_table
from compressor.config.layers import Layer, resolve
from compressor.config.settings import RunConfig, RuntimeConfig
from compressor.errors import InputError, Stopped, TrainingError, UsageError

CPU = RuntimeConfig(device="cpu")
TABLE = PublishedTable(
    schema=1,
    table="paper",
    title="A paper's table",
    source="a paper",
    rule="one run",
    data=DATA,
    pairs=(
        PublishedPair(
            teacher="cifar_resnet14",
            student="cifar_resnet8",
            published={"teacher": 99.0, "scratch": 60.0, "kd": 70.0},
            rerun={"kd": Rerun(mean=69.0, sd=0.5, n=3)},
        ),
    ),
)


def settings(overrides: Mapping[str, Any]) -> RunConfig:
    return resolve([Layer("test", {**TINY, **overrides})]).config


def recorded(seeds: int = 2) -> Record:
    """Compare, as the user does, and make the record of one row."""
    made = compare(settings, methods=["kd"], seeds=seeds, equal_compute=False, out=Path("first"))
    assert made.exit_code == 0
    return next(record for record in records_of_comparison(Path("first")) if record.label == "kd")


def again(record: Record, out: str = "again", **options: Any) -> Reproduction:
    return reproduce_row(record, CPU, out=Path(out), **options)


@pytest.mark.usefixtures("tiny")
def test_a_row_measured_alone_gives_the_students_of_the_comparison_bit_by_bit() -> None:
    made = again(recorded())
    judgement = made.judgement
    assert judgement is not None
    assert (judgement.inside, judgement.equal_students, made.exit_code) == (True, 2, 0)
    assert judgement.notes == ()
    assert json.loads(Path("again/judgement.json").read_text())["inside"] is True
    assert Path("again/report.html").is_file()
    assert sorted(cell["seed"] for cell in json.loads(Path("again/cells.json").read_text())) == [0, 1]


@pytest.mark.usefixtures("tiny")
def test_a_row_that_comes_out_elsewhere_ends_with_6() -> None:
    record = recorded(seeds=1)
    made = again(replace(record, summary=replace(record.summary, n=3, mean=record.summary.mean + 30, sd=0.5)))
    assert made.exit_code == 6
    assert made.document()["status"] == "outside"
    assert made.document()["exit"] == 6


@pytest.mark.usefixtures("tiny")
def test_other_data_are_refused_before_anything_is_trained(isolated: Path) -> None:
    record = recorded(seeds=1)
    write_data(isolated, brighter=40)
    with pytest.raises(
        InputError, match=r"tiny.*was measured on other data: tiny.* with hash \w{12}, here it is \w{12}"
    ):
        again(record)
    assert not Path("again/cells").exists()


def break_kd(monkeypatch: pytest.MonkeyPatch) -> None:
    import compressor_plugins.kd

    def broken(*_: Any) -> None:
        raise TrainingError("the loss of kd is broken")

    monkeypatch.setattr(compressor_plugins.kd.KD, "terms", broken)


@pytest.mark.usefixtures("tiny")
def test_a_failed_seed_is_said_and_ends_with_5(monkeypatch: pytest.MonkeyPatch) -> None:
    record = recorded(seeds=1)
    break_kd(monkeypatch)
    made = again(record)
    assert (made.judgement, made.exit_code) == (None, 5)
    assert made.failures == ("kd s0: the loss of kd is broken",)
    assert made.document()["status"] == "failed"


@pytest.mark.usefixtures("tiny")
def test_a_stopped_row_goes_on_and_gives_the_same_students(monkeypatch: pytest.MonkeyPatch) -> None:
    record = recorded(seeds=1)
    stop_after(monkeypatch, 5)
    with pytest.raises(Stopped):
        again(record)
    stop_after(monkeypatch, None)
    made = again(record)
    assert made.judgement is not None
    assert made.judgement.equal_students == 1


def table(out: str, *, seeds: int = 2, methods: Sequence[str] = ("kd",), **options: Any) -> TableRun:
    return measure_table(TABLE, settings, pairs=TABLE.pairs, methods=methods, seeds=seeds, out=Path(out), **options)


def students(made: TableRun) -> list[str]:
    return [value.student_sha256 for file in made.records for value in read_record(file).seeds]


@pytest.mark.usefixtures("tiny")
def test_a_table_stands_beside_what_was_published() -> None:
    made = table("whole")
    teacher, scratch, kd = made.cells
    assert [cell.method for cell in made.cells] == ["teacher", "scratch", "kd"]
    assert [cell.published for cell in made.cells] == [99.0, 60.0, 70.0]
    assert kd.rerun is not None
    assert kd.rerun.mean == 69.0
    record = read_record(made.records[1])
    assert kd.measured == pytest.approx(np.mean([value.top1 for value in record.seeds]))
    assert (kd.n, kd.sd, kd.row) == (2, record.summary.sd, "paper-resnet14-resnet8-kd-2-epochs")
    assert kd.paper_rule is None
    assert kd.difference == pytest.approx(record.summary.mean - 70.0)
    assert (record.teacher or {})["top1"] == teacher.measured
    assert scratch.row.endswith("-scratch-2-epochs")
    assert made.exit_code == 0
    assert json.loads(Path("whole/ledger.json").read_text())["cells"][2]["published"] == 70.0


@pytest.mark.usefixtures("tiny")
def test_a_stopped_table_goes_on_and_gives_the_same_students(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = table("whole")
    stop_after(monkeypatch, 7)
    stops = 0
    while True:
        try:
            made = table("parts")
            break
        except Stopped:
            stops += 1
    assert stops >= 2
    assert students(made) == students(whole)
    assert len(students(made)) == 4


@pytest.mark.usefixtures("tiny")
def test_a_spent_budget_stops_before_the_next_students_and_keeps_whole_rows() -> None:
    clock = iter([0.0, 1.0, 61.0])
    with pytest.raises(Stopped, match="the next students were not begun"):
        table("short", seeds=2, budget=Budget(60.0, now=lambda: next(clock)))
    assert len(list(Path("short/cells").iterdir())) == 2
    assert not Path("short/records").exists()
    made = table("short", seeds=1, budget=Budget(60.0, now=iter([0.0, 100.0]).__next__))
    assert [path.name for path in sorted(Path("short/records").iterdir())] == [
        "paper-resnet14-resnet8-kd-2-epochs.json",
        "paper-resnet14-resnet8-scratch-2-epochs.json",
    ]
    assert len(made.records) == 2


@pytest.mark.usefixtures("tiny")
def test_a_failed_cell_of_a_table_is_a_cell_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    break_kd(monkeypatch)
    made = table("broken", seeds=1)
    assert made.exit_code == 5
    assert made.cells[1].reason == ""
    assert "the loss of kd is broken" in made.cells[2].reason
    assert [file.name for file in made.records] == ["paper-resnet14-resnet8-scratch-2-epochs.json"]


def test_a_table_without_seeds_is_refused() -> None:
    with pytest.raises(UsageError, match="--seeds must be >= 1, got 0"):
        table("none", seeds=0)


@pytest.mark.usefixtures("tiny")
def test_the_best_epoch_on_test_images_is_shown_where_it_was_recorded() -> None:
    made = table("whole", seeds=1)
    [file] = [path for path in made.records if "-kd-" in path.name]
    run = next(Path("whole/cells").glob("*-kd-*"))
    result = json.loads((run / "result.json").read_text())
    result["metrics"]["paper_rule_top1"] = 88.0
    (run / "result.json").write_text(json.dumps(result))
    file.unlink()
    assert next(cell for cell in table("whole", seeds=1).cells if cell.method == "kd").paper_rule == 88.0


@pytest.mark.slow
def test_the_projects_own_row_comes_out_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_finish(monkeypatch)
    made = again(find_record("digits-resnet20-resnet8-kd"), seeds=[0])
    assert made.judgement is not None
    assert made.judgement.inside is True, made.judgement.sentence()
