"""A grid of methods x seeds (x pairs): cells of one teacher and seed share a loop, finished ones are only read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressor.comparison.table import CellRecord, Row, make_rows, sentence, write_tables
from compressor.config.settings import BASELINE, RunConfig, differing_keys
from compressor.engine.folders import default_folder, finished
from compressor.engine.history import read_run
from compressor.engine.inputs import Objects, object_names
from compressor.engine.jobs import Cell, Outcome
from compressor.engine.methods import known_settings
from compressor.engine.names import safe
from compressor.engine.runs import run_cells
from compressor.errors import CompressorError, InputError, PluginError, UsageError, suggestion
from compressor.events import Fact, Listener, silent
from compressor.storage import ensure_folder, preflight, write_json

ConfigFor = Callable[[Mapping[str, Any]], RunConfig]
"""Settings with some dotted keys overridden; recipes that depend on them are applied anew."""


@dataclass(frozen=True)
class Comparison:
    """What came out of a grid.

    Args:
        rows: teacher, methods and failures. cells: every run behind them. verdict: one sentence. folder: of the tables.
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
    out: Path | None = None,
    listener: Listener = silent,
    command: str = "",
    objects: Objects | None = None,
) -> Comparison:
    """Train every method with every seed on every pair and compare them.

    Args:
        config_for: the settings of a cell. methods: names; the method without a teacher is always added.
        seeds: 0 .. seeds - 1. pairs: (teacher, student) names; None takes that of the settings.
        baseline: what the others are compared with. out: folder of tables and cells; None names it by data and pair.

    Raises:
        UsageError: unknown names, settings no method knows, or a baseline that is not compared. Stopped: see `distill`.
    """
    names = list(dict.fromkeys([BASELINE, *methods]))
    if baseline not in names:
        raise UsageError(f"--baseline {baseline!r} is not compared", hint=f"one of {', '.join(names)}")
    if seeds < 1:
        raise UsageError(f"--seeds must be >= 1, got {seeds}")
    first = config_for({})
    both = list(pairs) if pairs else [(first.teacher.name, first.student.name)]
    folder = _folder(out, first, both)
    plan = [(teacher, student, seed) for teacher, student in both for seed in range(seeds)]
    brought = objects or Objects()
    groups = [_group(config_for, names, place, folder, brought) for place in plan]
    cells = [cell for group in groups for cell in group]
    done = sum(finished(cell.folder, cell.config) is not None for cell in cells)
    text = (
        f"{len(cells)} ({len(names)} methods, {seeds} seed{'s' * (seeds > 1)}): {done} done, {len(cells) - done} to run"
    )
    listener(Fact(title="Cells", text=text))
    outcomes: list[Outcome] = []
    for group in groups:
        outcomes += run_cells(group, listener=listener, command=command, objects=brought)
    return _written([_record(outcome) for outcome in outcomes], baseline, folder)


def compare_runs(folders: Sequence[Path], *, baseline: str = BASELINE, out: Path | None = None) -> Comparison:
    """Compare finished runs.

    Raises:
        InputError: one is not finished. UsageError: they differ in more than method and seed; what differs is named.
    """
    cells: list[CellRecord] = []
    reference: dict[str, Any] | None = None
    for path in folders:
        status = read_run(path)
        if status.result is None:
            raise InputError(
                f"{path} is not finished", hint="run its command again to go on: " + str(status.run.get("command"))
            )
        config = _comparable(status.run)
        reference = reference or config
        if config != reference:
            keys = sorted(key for key in config.keys() | reference.keys() if config.get(key) != reference.get(key))
            raise UsageError(
                f"{folders[0]} and {path} cannot stand in one table, they differ in {', '.join(keys)}",
                hint="compare runs of equal data, teacher and budget",
            )
        identity = status.run["config"]
        pair = f"{identity['teacher']['name']} -> {identity['student']['name']}"
        cells.append(CellRecord(identity["method"]["name"], pair, identity["seed"], str(path), status.result))
    if baseline not in {cell.method for cell in cells}:
        baseline = cells[0].method
    return _written(cells, baseline, out)


def _comparable(run: Mapping[str, Any]) -> dict[str, Any]:
    identity = dict(run["config"])
    training = dict(identity["training"])
    return {
        "data": identity["data"],
        "data_sha256": run.get("data_sha256"),
        "epochs": training["epochs"],
        "batch_size": training["batch_size"],
        "select": training["select"],
        "teacher": identity["teacher"],
    }


def _folder(out: Path | None, config: RunConfig, pairs: Sequence[tuple[str, str]]) -> Path:
    name = "-".join(safe(part) for pair in pairs[:1] for part in pair)
    more = f"-and-{len(pairs) - 1}" if len(pairs) > 1 else ""
    folder = out or Path(f"compare-{safe(config.data.source)}-{name}{more}")
    preflight(folder, create_parents=True)
    return folder


def _group(
    config_for: ConfigFor, methods: Sequence[str], place: tuple[str, str, int], folder: Path, objects: Objects
) -> list[Cell]:
    teacher, student, seed = place
    common = {"teacher.name": teacher, "student.name": student, "seed": seed}
    configs = [object_names(objects, config_for({**common, "method.name": method})) for method in methods]
    given = {key for config in configs for key in config.method.settings}
    known = {method: _settings_of(method) for method in methods}
    for key in sorted(given):
        if not any(key in settings for settings in known.values()):
            everything = {setting for settings in known.values() for setting in settings}
            raise UsageError(f"no compared method has a setting {key!r}", hint=suggestion(key, everything) or None)
    cells = []
    for config in configs:
        mine = {key: value for key, value in config.method.settings.items() if key in known[config.method.name]}
        own = config.with_method(config.method.name, mine)
        cells.append(Cell(own, default_folder(own, folder / "cells")))
    _same_loop(cells)
    return cells


def _settings_of(method: str) -> frozenset[str]:
    """Return a method's settings; a broken plugin has none, and becomes a failed row when its cell is run."""
    try:
        return known_settings(method)
    except PluginError:
        return frozenset()


def _same_loop(cells: Sequence[Cell]) -> None:
    """Cells of a group differ in their method and how it trains, in nothing else."""
    first = cells[0].config
    for cell in cells[1:]:
        keys = [text.split(" ")[0] for text in differing_keys(first, cell.config)]
        odd = [key for key in keys if not key.startswith(("method.", "training."))]
        if odd:
            raise UsageError(
                f"recipes give {cell.config.method.name} another {', '.join(odd)} than {first.method.name}"
            )


def _record(outcome: Outcome) -> CellRecord:
    config = outcome.cell.config
    failure = outcome.failure
    reason = ""
    if failure is not None:
        reason = failure.message if isinstance(failure, CompressorError) else f"{type(failure).__name__}: {failure}"
    return CellRecord(
        method=config.method.name,
        pair=f"{config.teacher.name} -> {config.student.name}",
        seed=config.seed,
        folder=str(outcome.cell.folder),
        result=None if outcome.result is None else outcome.result.document(),
        reason=reason,
    )


def _written(cells: Sequence[CellRecord], baseline: str, folder: Path | None) -> Comparison:
    rows = make_rows(cells, baseline)
    made = Comparison(rows, cells, sentence(rows, baseline), baseline, folder)
    if folder is not None:
        ensure_folder(folder)
        document = made.document()
        write_tables(folder, rows, document)
        write_json(folder / "cells.json", document["cells"])
    return made
