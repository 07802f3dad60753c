"""Finished runs as cells of a comparison, refused where they cannot stand in one table."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.comparison.contenders import labels_of
from compressor.comparison.table import CellRecord
from compressor.config.settings import flatten
from compressor.engine.history import RunStatus, read_run
from compressor.errors import InputError, UsageError


def records_of(folders: Sequence[Path]) -> list[CellRecord]:
    """Read finished runs.

    Returns:
        one record a run; runs of one method with different settings are named apart.

    Raises:
        InputError: one is not finished. UsageError: they differ in data, budget, or (of one pair) in the teacher, and
            what differs is named; or two are the same method and seed.
    """
    read = [_finished(path) for path in folders]
    _refuse_unequal(read)
    identities = [status.run["config"] for status in read]
    labels = labels_of([(item["method"]["name"], item["method"]["settings"]) for item in identities])
    records = [
        CellRecord(label, _pair(status.run), int(status.run["config"]["seed"]), str(status.folder), status.result)
        for label, status in zip(labels, read, strict=True)
    ]
    _refuse_doubles(records)
    return records


def _finished(path: Path) -> RunStatus:
    status = read_run(path)
    if status.result is None:
        raise InputError(f"{path} is not finished", hint=f"run its command again to go on: {status.run.get('command')}")
    return status


def _refuse_unequal(read: Sequence[RunStatus]) -> None:
    taught: dict[str, RunStatus] = {}
    for status in read:
        _compare(read[0], status, _common)
        reference = taught.setdefault(_pair(status.run), status)
        _compare(reference, status, _of_teacher)
        if reference.run.get("teacher_sha256") is None:  # it had no teacher; one that had is a better reference
            taught[_pair(status.run)] = status


def _compare(one: RunStatus, other: RunStatus, facts: Any) -> None:
    first, second = facts(one.run), facts(other.run)
    keys = sorted(
        key
        for key in first.keys() | second.keys()
        if first.get(key) != second.get(key) and not (key.endswith("sha256") and None in (first[key], second[key]))
    )
    if keys:
        values = "; ".join(f"{key} {_short(first.get(key))} and {_short(second.get(key))}" for key in keys)
        raise UsageError(
            f"{one.folder} and {other.folder} cannot stand in one table, they differ in {values}",
            hint="compare runs of equal data, teacher and budget",
        )


def _common(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what all runs of a table have in common: data and budget."""
    training = run["config"]["training"]
    budget = {key: training[key] for key in ("epochs", "batch_size", "select")}
    return {**flatten({"data": run["config"]["data"]}), "data_sha256": run.get("data_sha256"), **budget}


def _of_teacher(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return what runs of one pair have in common beside that."""
    identity = run["config"]
    return {
        **flatten({"teacher": identity["teacher"], "student": identity["student"]}),
        "teacher_sha256": run.get("teacher_sha256"),
    }


def _pair(run: Mapping[str, Any]) -> str:
    identity = run["config"]
    return f"{identity['teacher']['name']} -> {identity['student']['name']}"


def _refuse_doubles(records: Sequence[CellRecord]) -> None:
    seen: dict[tuple[str, str, int], list[str]] = defaultdict(list)
    for record in records:
        seen[record.method, record.pair, record.seed].append(record.folder)
    for (method, _, seed), folders in seen.items():
        if len(folders) > 1:
            raise UsageError(f"{folders[0]} and {folders[1]} are the same method and seed: {method} s{seed}")


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) > 40 else text
