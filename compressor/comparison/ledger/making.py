"""Records out of finished runs: no number is typed in by hand."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compressor.comparison.ledger.judgement import summary_of
from compressor.comparison.ledger.provenance import checkout, schedule_words, selection_words, teacher_origin
from compressor.comparison.ledger.records import SCHEMA, Record, SeedValue, hash_of, write_record
from compressor.config.settings import MethodConfig, flatten
from compressor.data.scenarios import Scenario
from compressor.engine.history import RunStatus, read_run
from compressor.engine.methods import prepared
from compressor.errors import InputError, UsageError
from compressor.storage import encode_json, ensure_folder, join_inside, read_json

_COSTS = ("train_seconds", "teacher_seconds", "images", "teacher_images", "peak_bytes")
_ACCURACIES = ("top1_last", "top1_best", "paper_rule_top1")


def records_of_comparison(folder: Path, name: str | None = None) -> list[Record]:
    """Make a record of each row of a finished comparison.

    Args:
        folder: that `compress compare` or `compress reproduce` wrote. name: how rows begin, as in ``NAME-METHOD``;
            None names them after data and pair.

    Raises:
        InputError: it is no comparison, or a cell did not finish. UsageError: ``name`` for several pairs.
    """
    cells = _cells(folder)
    rows: dict[tuple[str, str], list[RunStatus]] = {}
    for cell in cells:
        rows.setdefault((str(cell["pair"]), str(cell["method"])), []).append(
            _finished(_place(folder, str(cell["run"])))
        )
    if name is not None and len({pair for pair, _ in rows}) > 1:
        raise UsageError(f"{folder} holds several pairs, one name {name!r} is not enough", hint="leave the name out")
    made = []
    for (_, label), runs in rows.items():
        row = row_name(runs[0].run["config"], label) if name is None else f"{name}-{_word(label)}"
        made.append(make_record(row, label, runs))
    return made


def record_comparison(folder: Path, to: Path, name: str | None = None) -> list[Path]:
    """Make records as `records_of_comparison` and write them into a folder; none is written over another one.

    Raises:
        UsageError: a record of that name is there and says something else. Others as `records_of_comparison`.
    """
    made = records_of_comparison(folder, name)
    for record in made:
        file = to / f"{record.row}.json"
        if file.is_file() and read_json(file) != json.loads(encode_json(record.document())):
            raise UsageError(f"{file} is there and says something else", hint="remove it first, or --to another folder")
    return [write_record(record, ensure_folder(to)) for record in made]


def make_record(row: str, label: str, runs: Sequence[RunStatus]) -> Record:
    """Make the record of one row from its finished runs, one a seed.

    Args:
        row: its name. label: of the method, as tables call it.

    Raises:
        InputError: a run is not finished, or an older version made it. UsageError: they differ in more than the seed,
            in the data or the teacher, or were made of objects that no name builds again.
    """
    first, result = runs[0], _result(runs[0])
    config = settings_of(first.run["config"])
    for other in runs[1:]:
        _refuse_another(first, other)
    if strange := [key for key, value in flatten(config).items() if str(value).startswith("python:")]:
        raise UsageError(f"{row}: {strange[0]} was brought from Python; only what has a name can be run again")
    seeds = tuple(sorted((_seed_value(status) for status in runs), key=lambda value: value.seed))
    if len({value.seed for value in seeds}) < len(seeds):
        raise UsageError(f"{row}: two of the runs have the same seed")
    environments = [dict(status.run.get("environment") or {}) for status in runs]
    return Record(
        schema=SCHEMA,
        row=row,
        label=label,
        config=config,
        config_sha256=hash_of(config),
        method_settings=method_settings_of(config["method"]),
        schedule=schedule_words(config["training"], result["data"]["train"]),
        selection=selection_words(config["training"], int(result["data"]["val"])),
        data={key: result["data"][key] for key in ("name", "sha256", "classes", "train", "val", "test")},
        teacher=_teacher(result) if _is_taught(config["method"]) else None,
        student={key: result["student"][key] for key in ("name", "parameters", "macs")},
        seeds=seeds,
        summary=summary_of(seeds),
        environments=tuple(each for number, each in enumerate(environments) if each not in environments[:number]),
        commit=checkout(),
    )


def settings_of(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's settings without its seed and without the place where its data lie: those of a row."""
    config: dict[str, Any] = json.loads(json.dumps(identity))
    config.pop("seed", None)
    config["data"] = {**config["data"], "directory": None}
    return config


def method_settings_of(method: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a method as plain JSON values, with this version's defaults where nothing is given.

    Args:
        method: its ``name``, and the ``settings`` that are given.
    """
    _, config = prepared(MethodConfig(name=method["name"], settings=dict(method["settings"])))
    settings: dict[str, Any] = json.loads(json.dumps(asdict(config), default=str))
    return settings


def _is_taught(method: Mapping[str, Any]) -> bool:
    """Say whether a method learns from a teacher; one that does not may share a loop with others that do."""
    kind, config = prepared(MethodConfig(name=method["name"], settings=dict(method["settings"])))
    return kind.needs_for(config).teacher


def row_name(identity: Mapping[str, Any], label: str, *, first: str | None = None, usual_epochs: int = 0) -> str:
    """Name a row: data, teacher, student, method, and what is unusual: scenario, epochs, precision, selection.

    Args:
        identity: of a run. label: of the method. first: instead of the data's name, a table's for example.
        usual_epochs: of that table; other epochs are then named too.
    """
    data, training = identity["data"], identity["training"]
    epochs = training["epochs"]
    keys = ("shots", "fraction", "imbalance", "label_noise")
    scenario = Scenario(**{key: data[key] for key in keys if key in data}).describe()
    words = [
        first or Path(str(data["source"])).stem,
        *(str(identity[role]["name"]).removeprefix("cifar_") for role in ("teacher", "student")),
        label,
        scenario.replace("%", "percent"),
        f"{epochs} epochs" if usual_epochs and epochs != usual_epochs else "",
        "" if training["precision"] == "fp32" else training["precision"],
        "" if training["select"] == "last" else f"{training['select']} epoch",
    ]
    return "-".join(_word(word) for word in words if word)


def _word(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")


def _cells(folder: Path) -> list[Mapping[str, Any]]:
    file = join_inside(folder, "cells.json")
    if not file.is_file():
        raise InputError(f"{folder} is no comparison: it has no cells.json", hint="compress compare -o DIR makes one")
    value = read_json(file)
    wanted = ("pair", "method", "run")
    if not isinstance(value, list) or not all(isinstance(cell, dict) and set(wanted) <= set(cell) for cell in value):
        raise InputError(f"{file} is damaged: it lists no cells")
    return value


def _place(folder: Path, run: str) -> Path:
    """Find a cell's folder, also after the comparison was moved."""
    inside = folder / "cells" / Path(run).name
    return inside if inside.is_dir() else Path(run)


def _finished(folder: Path) -> RunStatus:
    status = read_run(folder)
    if status.result is None:
        raise InputError(f"{folder} is not finished", hint="run its comparison again to go on")
    return status


def _result(status: RunStatus) -> Mapping[str, Any]:
    result = status.result
    if result is None:
        raise InputError(f"{status.folder} is not finished", hint="run its comparison again to go on")
    data = result.get("data")
    missing = [key for key in ("sha256", "classes", "train", "val", "test", "name") if key not in (data or {})]
    missing += [key for key in ("sha256",) if key not in result["student"]]
    if missing:
        raise InputError(f"{status.folder}/result.json has no {missing[0]}: it cannot be recorded")
    return result


def _refuse_another(first: RunStatus, other: RunStatus) -> None:
    one, two = (
        flatten(
            settings_of(status.run["config"])
            | {"hashes": {key: status.run.get(key) for key in ("data_sha256", "teacher_sha256")}}
        )
        for status in (first, other)
    )
    differing = sorted(key for key in one.keys() | two.keys() if one.get(key) != two.get(key))
    if differing:
        keys = ", ".join(key.removeprefix("hashes.") for key in differing[:8])
        raise UsageError(f"{first.folder} and {other.folder} are no seeds of one row, they differ in {keys}")


def _seed_value(status: RunStatus) -> SeedValue:
    result = _result(status)
    metrics, cost = result["metrics"], result["cost"]
    accuracies = {key: metrics[key] for key in _ACCURACIES if key in metrics}
    if status.run["config"]["training"]["select"] == "last":
        accuracies.setdefault("top1_last", metrics["top1"])
    config = {**settings_of(status.run["config"]), "seed": int(result["seed"])}
    return SeedValue(
        seed=int(result["seed"]),
        top1=float(metrics["top1"]),
        **accuracies,
        config_sha256=hash_of(config),
        student_sha256=str(result["student"]["sha256"]),
        **{key: cost[key] for key in _COSTS if key in cost},
    )


def _teacher(result: Mapping[str, Any]) -> dict[str, Any] | None:
    teacher = result.get("teacher")
    if not teacher or "teacher_top1" not in result["metrics"]:
        return None
    return {
        "name": teacher["name"],
        "sha256": teacher.get("sha256"),
        "top1": result["metrics"]["teacher_top1"],
        "origin": teacher_origin(str(teacher.get("origin", ""))),
    }
