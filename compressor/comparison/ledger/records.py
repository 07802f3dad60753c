"""Records of the ledger: a measured row with all that is needed to measure it again. Nothing heavy is imported.

They lie as JSON files in the folder ``records`` of every package that brings recipes, and wherever a user keeps some.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from compressor.comparison.ledger.packages import documents
from compressor.engine.documents import SETTINGS, fault_in
from compressor.errors import InputError, PluginError, UsageError, suggestion
from compressor.storage import read_json, write_json

SCHEMA = 1
FOLDER = "records"
_STRICT = ConfigDict(extra="forbid")
Interval = tuple[float, float]


@checked(frozen=True, kw_only=True, config=_STRICT)
class SeedValue:
    """One finished run; accuracies in percent on the test images.

    Args:
        top1: of the epoch that the row's selection rule chose. top1_last: of the last epoch. top1_best: of the epoch
            that was best on held-out images, None where nothing was held out.
        paper_rule_top1: of the epoch that was best on the test images themselves, as many papers report; None where it
            was not recorded. It is never what a student is chosen or published by.
        config_sha256: of all settings, the seed among them. student_sha256: of the trained weights.
        train_seconds: of the student's steps. teacher_seconds: of its teacher's passes, estimated.
        images, teacher_images: shown in training, each view counted.
    """

    seed: int
    top1: float
    top1_last: float | None = None
    top1_best: float | None = None
    paper_rule_top1: float | None = None
    config_sha256: str
    student_sha256: str
    train_seconds: float
    teacher_seconds: float | None = None
    images: int | None = None
    teacher_images: int | None = None
    peak_bytes: int | None = None


@checked(frozen=True, kw_only=True, config=_STRICT)
class Summary:
    """What the seeds say of ``top1``.

    Args:
        n: seeds. sd: with n - 1; None for one. interval: 95 % t interval of the mean; None for one seed.
        expected: where the mean of n more seeds lies in 95 of 100 cases; None for one seed, which makes no claim.
    """

    n: int
    mean: float
    sd: float | None = None
    interval: Interval | None = None
    expected: Interval | None = None


@checked(frozen=True, kw_only=True, config=_STRICT)
class Record:
    """One row.

    Args:
        label: of the method as tables call it. config: every setting of the run but its seed and where data lie.
        config_sha256: of ``config``. method_settings: all of the method, with the defaults of that time.
        schedule, selection: in words. data: name, sha256 and sizes.
        teacher: name, sha256, top1 (on the test images, in percent) and origin; None for a student without one.
        student: name, parameters and multiply-adds. environments: versions, machine and threads of the runs.
        commit: of the checkout that made the record, with ``+changes`` where it had any; None outside of one.
    """

    schema: int
    row: str
    label: str
    config: dict[str, Any]
    config_sha256: str
    method_settings: dict[str, Any]
    schedule: str
    selection: str
    data: dict[str, Any]
    teacher: dict[str, Any] | None = None
    student: dict[str, Any]
    seeds: tuple[SeedValue, ...]
    summary: Summary
    environments: tuple[dict[str, Any], ...]
    commit: str | None = None

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.config["method"]["name"])

    @property
    def pair(self) -> str:
        """``teacher -> student``."""
        return f"{self.config['teacher']['name']} -> {self.config['student']['name']}"

    def document(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Listed:
    """A record and where it was found; ``package`` is a root package's name, or the file's path."""

    record: Record
    package: str
    file: Path = field(compare=False)


def all_records() -> Mapping[str, Listed]:
    """Read the records of every installed package that brings recipes, by row.

    Raises:
        PluginError: a file is no record, or two packages have a row of one name.
    """
    found: dict[str, Listed] = {}
    for package, file in documents(FOLDER):
        try:
            record = read_record(file)
        except InputError as cause:
            raise PluginError(f"records of {package}: {cause.message}", hint="install the package again") from cause
        if record.row in found:
            raise PluginError(f"row {record.row!r} is in both {found[record.row].package} and {package}")
        found[record.row] = Listed(record, package, file)
    return found


def find_record(row: str) -> Record:
    """Return the record of a row: one that came with a package, or the file that a path ending in .json names.

    Raises:
        UsageError: there is no such row. InputError: the file is no record.
    """
    if row.endswith(".json"):
        return read_record(Path(row))
    records = all_records()
    if row not in records:
        near = suggestion(row, records)
        raise UsageError(f"no row named {row!r} in the ledger", hint=near or "compress reproduce --list")
    return records[row].record


def read_record(file: Path) -> Record:
    """Read one record.

    Raises:
        InputError: missing, no JSON, not of the shape, of a newer schema, or its settings were edited.
    """
    value = read_json(file)
    if isinstance(value, dict) and value.get("schema") not in (None, SCHEMA):
        raise InputError(f"{file} is a record of schema {value['schema']}, this version reads {SCHEMA}")
    try:
        record = TypeAdapter(Record).validate_python(value)
    except ValidationError as cause:
        first = cause.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file} is no record: {place}: {first['msg'].lower()}") from cause
    fault = fault_in(record.config, SETTINGS, "config") or fault_in(record.data, {"name": str, "sha256": str}, "data")
    if fault is not None:
        raise InputError(f"{file} is no record: {fault}")
    if hash_of(record.config) != record.config_sha256:
        raise InputError(f"{file} was changed by hand: its settings are not those of config_sha256")
    return record


def write_record(record: Record, folder: Path) -> Path:
    """Write a record as ``folder/<row>.json`` and return the file; equal records give equal bytes."""
    file = folder / f"{record.row}.json"
    write_json(file, record.document(), what=f"record {record.row}")
    return file


def hash_of(config: Mapping[str, Any]) -> str:
    """Hash settings, 64 hex digits."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
