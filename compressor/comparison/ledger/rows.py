"""Measuring a row of the ledger again: the recorded settings and seeds, then a judgement."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compressor.comparison.budget import Budget
from compressor.comparison.grid import compare_runs
from compressor.comparison.groups import is_finished, reason_of, run_groups
from compressor.comparison.ledger.judgement import Judgement, differences_of, judge
from compressor.comparison.ledger.making import make_record, method_settings_of
from compressor.comparison.ledger.records import Record
from compressor.config.settings import RunConfig, RuntimeConfig, flatten
from compressor.engine.folders import default_folder
from compressor.engine.history import read_run
from compressor.engine.inputs import Objects, load
from compressor.engine.jobs import Cell
from compressor.engine.names import safe
from compressor.engine.runtime import Runtime
from compressor.errors import InputError, UsageError
from compressor.events import Listener, silent
from compressor.models.catalogue import resolve_name
from compressor.storage import preflight, write_json


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """What came out of measuring a row again.

    Args:
        judgement: None where no seed finished. failures: of seeds that did not. folder: of runs, table and report.
    """

    row: str
    judgement: Judgement | None
    failures: tuple[str, ...]
    folder: Path

    @property
    def exit_code(self) -> int:
        """0, 5 where a seed failed, or 6 where the new mean is outside the recorded interval."""
        if self.failures or self.judgement is None:
            return 5
        return self.judgement.exit_code

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        status = {0: "done", 5: "failed", 6: "outside"}[self.exit_code]
        return {
            "schema": 1,
            "status": status,
            "exit": self.exit_code,
            "folder": str(self.folder),
            "failures": list(self.failures),
            **({"row": self.row} if self.judgement is None else self.judgement.document()),
        }


def reproduce_row(
    record: Record,
    runtime: RuntimeConfig,
    *,
    seeds: Sequence[int] | None = None,
    directory: str | None = None,
    out: Path | None = None,
    budget: Budget | None = None,
    listener: Listener = silent,
    command: str = "",
) -> Reproduction:
    """Measure a row again, or go on with it, and say whether it comes out inside the recorded interval.

    Args:
        runtime: device, threads and so on, which are not part of a row. seeds: None takes the recorded ones.
        directory: where the data lie. out: folder; None names it after the row. budget: of time.

    Raises:
        InputError: the data are not the recorded ones. UsageError: this version cannot run the recorded settings.
        Stopped: the place is saved; the same call goes on.
    """
    config = config_of(record, runtime, directory)
    folder = out or Path(f"reproduce-{safe(record.row)}")
    preflight(folder, create_parents=True)
    wanted = [value.seed for value in record.seeds] if seeds is None else list(seeds)
    cells = [_cell(record, config, seed, folder) for seed in wanted]
    if not all(map(is_finished, cells)):
        data = load(config, Runtime(config.runtime, config.training.precision), Objects())
        _refuse_other_data(record, data.sha256)
    groups = [[cell] for cell in cells]
    outcomes = run_groups(groups, budget or Budget(None), listener=listener, command=command)
    failures = tuple(f"{outcome.cell.name}: {reason_of(outcome)}" for outcome in outcomes if outcome.result is None)
    done = [outcome.cell.folder for outcome in outcomes if outcome.result is not None]
    if not done:
        return Reproduction(row=record.row, judgement=None, failures=failures, folder=folder)
    now = make_record(record.row, record.label, [read_run(place) for place in done])
    _refuse_other_data(record, str(now.data["sha256"]))
    judgement = judge(record, now.seeds, notes=[*_new_settings(record, now), *differences_of(record, now)])
    compare_runs(done, baseline=record.label, out=folder, command=command)
    made = Reproduction(row=record.row, judgement=judgement, failures=failures, folder=folder)
    write_json(folder / "judgement.json", made.document())
    return made


def config_of(record: Record, runtime: RuntimeConfig, directory: str | None = None) -> RunConfig:
    """Return a row's settings with seed 0.

    Raises:
        UsageError: this version does not know a recorded setting, or refuses its value. InputError: it names code.
    """
    _refuse_code(record)
    tree: dict[str, Any] = {**record.config, "runtime": asdict(runtime), "method": _method_of(record)}
    if directory is not None:
        tree["data"] = {**tree["data"], "directory": directory}
    if unknown := sorted(_keys(record.config) - _keys(RunConfig().identity())):
        raise UsageError(
            f"{record.row}: this version has no setting {unknown[0]}", hint="install the version that recorded it"
        )
    try:
        return TypeAdapter(RunConfig).validate_python(tree)
    except ValidationError as cause:
        text = cause.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"{record.row}: this version refuses a recorded setting: {text}") from cause


def _refuse_code(record: Record) -> None:
    """Refuse networks that are made by calling a function: a record may be a stranger's, and nobody typed that name."""
    for role in ("teacher", "student"):
        name = str(record.config[role]["name"])
        if ":" in name and resolve_name(name, role=role).kind == "factory":
            raise InputError(
                f"{record.row}: its {role} {name!r} is a function that would be called; records name networks only",
                hint="where it is your own code, run it yourself: compress compare",
            )


def _method_of(record: Record) -> dict[str, Any]:
    """Return the method with its recorded settings, spelled out where this version's defaults are others."""
    method: dict[str, Any] = record.config["method"]
    now = method_settings_of(method)
    changed = {key: value for key, value in record.method_settings.items() if now.get(key, value) != value}
    return {**method, "settings": {**method["settings"], **changed}}


def _keys(identity: Mapping[str, Any]) -> set[str]:
    """Return the dotted keys of settings; those of the method are its own affair, and checked by it."""
    return {key for key in flatten(dict(identity)) if not key.startswith("method.settings.")} - {"method.settings"}


def _cell(record: Record, config: RunConfig, seed: int, folder: Path) -> Cell:
    own = replace(config, seed=seed)
    label = "" if record.label == record.method else record.label
    return Cell(own, default_folder(own, folder / "cells"), label)


def _refuse_other_data(record: Record, sha256: str) -> None:
    if sha256 != record.data["sha256"]:
        raise InputError(
            f"{record.row} was measured on other data: {record.data['name']} with hash {record.data['sha256'][:12]},"
            f" here it is {sha256[:12]}",
            hint="its accuracies cannot be compared",
            code="ledger.data",
        )


def _new_settings(record: Record, now: Record) -> list[str]:
    """Say which settings have come into being since the record was made, and which defaults are others now."""
    then, current = (
        flatten({**item.config, "method": {"name": item.method, **item.method_settings}}) for item in (record, now)
    )
    new = [f"a setting that was not recorded: {key} = {current[key]}" for key in sorted(current.keys() - then.keys())]
    changed = flatten(_method_of(record)["settings"]).keys() - flatten(record.config["method"]["settings"]).keys()
    return new + [f"method.{key} has another default now; the row ran at its recorded one" for key in sorted(changed)]
