"""A published table measured again: its pairs and methods as cells of a comparison, a record for each row."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from compressor.comparison.budget import Budget
from compressor.comparison.cells import ConfigFor, plan_cells
from compressor.comparison.contenders import Contender
from compressor.comparison.grid import compare_runs
from compressor.comparison.groups import reason_of, run_groups
from compressor.comparison.ledger.making import make_record, row_name
from compressor.comparison.ledger.published import PublishedPair, PublishedTable, Rerun, short
from compressor.comparison.ledger.records import Record, write_record
from compressor.comparison.statistics import summarise
from compressor.config.layers import Layer, resolve
from compressor.config.settings import BASELINE
from compressor.engine.history import read_run
from compressor.engine.inputs import Objects
from compressor.engine.jobs import Outcome
from compressor.errors import UsageError
from compressor.events import Listener, silent
from compressor.storage import ensure_folder, preflight, write_json

RECORDS = "records"


@dataclass(frozen=True, kw_only=True)
class TableCell:
    """One cell: what was published, what others got, what was measured; accuracies in percent.

    Args:
        method: ``teacher`` for the teacher itself. published: None where the table has no such cell.
        measured: top-1 by the row's own rule. paper_rule: mean over seeds of the best epoch on the test images, as the
            table's authors report; None where it was not recorded. reason: of a failure.
    """

    pair: str
    method: str
    published: float | None = None
    rerun: Rerun | None = None
    n: int = 0
    measured: float | None = None
    sd: float | None = None
    interval: tuple[float, float] | None = None
    paper_rule: float | None = None
    row: str = ""
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus published."""
        return None if self.measured is None or self.published is None else self.measured - self.published

    def document(self) -> dict[str, Any]:
        """Return the cell as plain JSON values."""
        rerun = None if self.rerun is None else {"mean": self.rerun.mean, "sd": self.rerun.sd, "n": self.rerun.n}
        return {**vars(self), "rerun": rerun, "difference": self.difference}


@dataclass(frozen=True, kw_only=True)
class TableRun:
    """What came out of measuring a table, or some of it.

    Args:
        records: files that were written. folder: of runs, comparison and records.
    """

    table: PublishedTable
    cells: tuple[TableCell, ...]
    records: tuple[Path, ...]
    folder: Path

    @property
    def exit_code(self) -> int:
        """0, or 5 where a cell failed."""
        return 5 if any(cell.reason for cell in self.cells) else 0

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "schema": 1,
            "status": "failed" if self.exit_code else "done",
            "exit": self.exit_code,
            "table": self.table.table,
            "source": self.table.source,
            "rule": self.table.rule,
            "folder": str(self.folder),
            "records": [str(file) for file in self.records],
            "cells": [cell.document() for cell in self.cells],
        }


@dataclass
class _Rows:
    """Outcomes of a table by row, and the records that are written as soon as a row has all of its seeds."""

    table: PublishedTable
    epochs: int
    seeds: int
    folder: Path
    found: dict[str, Record] = field(default_factory=dict)

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Write the record of every row that is whole."""
        for (pair, label), mine in by_row(outcomes).items():
            runs = [outcome.cell.folder for outcome in mine if outcome.result is not None]
            name = f"{pair}/{label}"
            if len(runs) < self.seeds or name in self.found:
                continue
            config = mine[0].cell.config.identity()
            own = config["data"]["source"] == self.table.data
            first = self.table.table if own else f"{self.table.table}-{Path(config['data']['source']).stem}"
            row = row_name(config, label, first=first, usual_epochs=self.epochs)
            self.found[name] = make_record(row, label, [read_run(place) for place in runs])
            write_record(self.found[name], ensure_folder(self.folder))


def measure_table(
    table: PublishedTable,
    config_for: ConfigFor,
    *,
    pairs: Sequence[PublishedPair],
    methods: Sequence[str],
    seeds: int = 3,
    out: Path | None = None,
    budget: Budget | None = None,
    listener: Listener = silent,
    command: str = "",
) -> TableRun:
    """Train every method with every seed on every pair, or go on with it, and hold it against the published table.

    Args:
        config_for: the settings of a cell. methods: names; the student without a teacher is always added.
        seeds: 0 .. seeds - 1.
        out: folder; None names it after the table. budget: of time, for all of it.

    Raises:
        UsageError: no seeds, or settings that no method knows. Stopped: the place is saved; records of rows that are
            whole are written.
    """
    if seeds < 1:
        raise UsageError(f"--seeds must be >= 1, got {seeds}")
    folder = out or Path(f"reproduce-{table.table}-table")
    preflight(folder, create_parents=True)
    rows = [Contender(name, name) for name in dict.fromkeys([BASELINE, *methods])]
    places = [(pair.teacher, pair.student, seed) for pair in pairs for seed in range(seeds)]
    groups = [plan_cells(config_for, rows, place, folder, Objects()) for place in places]
    kept = _Rows(table, usual_epochs(table), seeds, folder / RECORDS)
    outcomes = run_groups(groups, budget or Budget(None), listener=listener, command=command, after=kept.take)
    done = [outcome.cell.folder for outcome in outcomes if outcome.result is not None]
    if done:
        compare_runs(done, out=folder, command=command)
    cells = tuple(cell for pair in pairs for cell in _cells(pair, outcomes, kept.found))
    files = tuple(folder / RECORDS / f"{record.row}.json" for record in kept.found.values())
    made = TableRun(table=table, cells=cells, records=files, folder=folder)
    write_json(ensure_folder(folder) / "ledger.json", made.document())
    return made


def usual_epochs(table: PublishedTable) -> int:
    """Return how many epochs the table's recipe trains."""
    layer = Layer("the ledger", {} if table.recipe is not None else {"data.source": table.data})
    return resolve([layer], recipe=table.recipe).config.training.epochs


def by_row(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    """Group outcomes by pair and method."""
    rows: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        config = outcome.cell.config
        pair = f"{short(config.teacher.name)}:{short(config.student.name)}"
        rows.setdefault((pair, outcome.cell.label or config.method.name), []).append(outcome)
    return rows


def cell_of(pair: PublishedPair, method: str, record: Record | None, *, reason: str = "") -> TableCell:
    """Put side by side what was published, what others got and what a record says."""
    published, rerun = pair.published.get(method), pair.rerun.get(method)
    bare = TableCell(pair=pair.name, method=method, published=published, rerun=rerun, reason=reason)
    if record is None:
        return bare
    looked = [value.paper_rule_top1 for value in record.seeds if value.paper_rule_top1 is not None]
    summary = record.summary
    return replace(
        bare,
        n=summary.n,
        measured=summary.mean,
        sd=summary.sd,
        interval=summary.interval,
        paper_rule=summarise(looked).mean if len(looked) == summary.n else None,
        row=record.row,
    )


def _cells(pair: PublishedPair, outcomes: Sequence[Outcome], found: dict[str, Record]) -> list[TableCell]:
    mine = {label: each for (name, label), each in by_row(outcomes).items() if name == pair.name}
    taught = [
        outcome.result.metrics["teacher_top1"]
        for each in mine.values()
        for outcome in each
        if outcome.result is not None and "teacher_top1" in outcome.result.metrics
    ]
    teacher = TableCell(
        pair=pair.name,
        method="teacher",
        published=pair.published.get("teacher"),
        n=1 if taught else 0,
        measured=taught[0] if taught else None,
    )
    rows = [teacher]
    for label, each in mine.items():
        failures = [reason_of(outcome) for outcome in each if outcome.result is None]
        rows.append(cell_of(pair, label, found.get(f"{pair.name}/{label}"), reason=failures[0] if failures else ""))
    return rows
