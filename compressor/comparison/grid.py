"""A grid of methods x seeds (x pairs): cells of one teacher and seed share a loop, finished ones are only read."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from compressor.comparison.budget import Budget
from compressor.comparison.cells import ConfigFor, line_up, plan_cells
from compressor.comparison.evidence import read_evidence
from compressor.comparison.files import write_tables
from compressor.comparison.finished import records_of
from compressor.comparison.groups import reason_of, run_groups
from compressor.comparison.table import CellRecord, Row, make_rows
from compressor.comparison.verdict import sentence
from compressor.config.settings import BASELINE, RunConfig
from compressor.engine.inputs import Objects
from compressor.engine.jobs import Outcome
from compressor.engine.names import safe
from compressor.errors import UsageError
from compressor.events import Listener, silent
from compressor.ranks import is_main_process
from compressor.storage import ensure_folder, preflight, write_json

__all__ = ["Comparison", "ConfigFor", "compare", "compare_runs"]


@dataclass(frozen=True)
class Comparison:
    """What came out of a grid.

    Args:
        rows: teacher, methods and failures. cells: every run behind them. verdict: one sentence.
        folder: of the tables and of ``report.html``.
    """

    rows: Sequence[Row]
    cells: Sequence[CellRecord]
    verdict: str
    baseline: str
    folder: Path | None

    @property
    def failed(self) -> list[CellRecord]:
        """Cells that did not finish."""
        return [cell for cell in self.cells if cell.result is None]

    @property
    def exit_code(self) -> int:
        """0, or 5 when a cell failed."""
        return 5 if self.failed else 0

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "schema": 1,
            "status": "failed" if self.failed else "done",
            "exit": self.exit_code,
            "verdict": self.verdict,
            "baseline": self.baseline,
            "folder": None if self.folder is None else str(self.folder),
            "report": None if self.folder is None else str(self.folder / "report.html"),
            "rows": [asdict(row) for row in self.rows],
            "cells": [
                {
                    "method": cell.method,
                    "pair": cell.pair,
                    "seed": cell.seed,
                    "run": cell.folder,
                    "status": "failed" if cell.result is None else "done",
                    "reason": cell.reason,
                    "top1": None if cell.result is None else cell.result["metrics"]["top1"],
                }
                for cell in self.cells
            ],
        }


def compare(
    config_for: ConfigFor,
    *,
    methods: Sequence[str],
    seeds: int = 3,
    pairs: Sequence[tuple[str, str]] | None = None,
    baseline: str = BASELINE,
    equal_compute: bool = True,
    out: Path | None = None,
    listener: Listener = silent,
    command: str = "",
    objects: Objects | None = None,
    budget: Budget | None = None,
) -> Comparison:
    """Train every method with every seed on every pair and compare them.

    Args:
        config_for: the settings of a cell. methods: names; the method without a teacher is always added.
        seeds: 0 .. seeds - 1. pairs: (teacher, student) names; None takes that of the settings.
        baseline: what the others are compared with. out: folder of tables and cells; None names it by data and pair.
        equal_compute: beside a method that looks at several views of each image, also train plain distillation on as
            many, so that what the method adds can be told from what more images bring.
        budget: of time, for all cells; None takes that of the settings.

    Raises:
        UsageError: unknown names, settings no method knows, or a baseline that is not compared. Stopped: see `distill`.
    """
    names = list(dict.fromkeys([BASELINE, *methods]))
    if seeds < 1:
        raise UsageError(f"--seeds must be >= 1, got {seeds}")
    contenders = line_up(config_for, names, equal_compute=equal_compute)
    labels = [row.label for row in contenders]
    if baseline not in labels:
        raise UsageError(f"--baseline {baseline!r} is not compared", hint=f"one of {', '.join(labels)}")
    first = config_for({})
    both = list(pairs) if pairs else [(first.teacher.name, first.student.name)]
    folder = _folder(out, first, both)
    plan = [(teacher, student, seed) for teacher, student in both for seed in range(seeds)]
    brought = objects or Objects()
    groups = [plan_cells(config_for, contenders, place, folder, brought) for place in plan]
    what = f"{len(labels)} methods, {seeds} seed{'s' * (seeds > 1)}"
    time = budget or Budget(first.runtime.time_budget)
    outcomes = run_groups(groups, time, listener=listener, command=command, what=what, objects=brought)
    return _written([_record(outcome) for outcome in outcomes], baseline, folder, command)


def compare_runs(
    folders: Sequence[Path], *, baseline: str = BASELINE, out: Path | None = None, command: str = ""
) -> Comparison:
    """Compare finished runs; nothing is trained.

    Args:
        baseline: the first run's method where none of them is it. out: None names the folder after the runs.

    Raises:
        InputError: one is not finished. UsageError: they differ in more than method and seed; what differs is named.
    """
    cells = records_of(folders)
    if baseline not in {cell.method for cell in cells}:
        baseline = cells[0].method
    settings = sorted(str(cell.result["config_sha256"]) for cell in cells if cell.result is not None)
    name = f"compare-runs-{hashlib.sha256(' '.join(settings).encode()).hexdigest()[:6]}"
    folder = out or Path(name)
    preflight(folder, create_parents=True)
    return _written(cells, baseline, folder, command)


def _folder(out: Path | None, config: RunConfig, pairs: Sequence[tuple[str, str]]) -> Path:
    name = "-".join(safe(part) for pair in pairs[:1] for part in pair)
    more = f"-and-{len(pairs) - 1}" if len(pairs) > 1 else ""
    folder = out or Path(f"compare-{safe(config.data.source)}-{name}{more}")
    preflight(folder, create_parents=True)
    return folder


def _record(outcome: Outcome) -> CellRecord:
    config = outcome.cell.config
    return CellRecord(
        method=outcome.cell.label or config.method.name,
        pair=f"{config.teacher.name} -> {config.student.name}",
        seed=config.seed,
        folder=str(outcome.cell.folder),
        result=None if outcome.result is None else outcome.result.document(),
        reason=reason_of(outcome),
    )


def _written(cells: Sequence[CellRecord], baseline: str, folder: Path, command: str) -> Comparison:
    seen = [
        replace(cell, evidence=read_evidence(Path(cell.folder))) if cell.result is not None else cell for cell in cells
    ]
    rows = make_rows(seen, baseline)
    made = Comparison(rows, seen, sentence(rows, baseline), baseline, folder)
    if not is_main_process():
        return made
    ensure_folder(folder)
    document = made.document()
    write_tables(folder, rows, document)
    write_json(folder / "cells.json", document["cells"])
    from compressor.comparison.report.page import write_report  # draws: takes a second to import

    write_report(folder, rows, seen, verdict=made.verdict, baseline=baseline, command=command)
    return made
