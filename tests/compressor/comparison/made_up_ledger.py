"""Runs and records of the ledger out of thin air, with planted accuracies."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressor.comparison.ledger.judgement import summary_of
from compressor.comparison.ledger.records import SCHEMA, Record, SeedValue, hash_of
from compressor.config.settings import DataConfig, MethodConfig, RunConfig, StudentConfig, TeacherConfig, TrainingConfig

ENVIRONMENT = {
    "compressor": "0.1.0",
    "torch": "2.15.0",
    "timm": "1.0.31",
    "machine": "x86_64, 2 CPU cores",
    "threads": 2,
}


def run_config(
    seed: int = 0, *, method: str = "kd", settings: dict[str, Any] | None = None, **training: Any
) -> RunConfig:
    return RunConfig(
        seed=seed,
        teacher=TeacherConfig(name="resnet20"),
        student=StudentConfig(name="resnet8"),
        data=DataConfig(source="torch/cifar100", directory="/home/somebody/data"),
        method=MethodConfig(name=method, settings=settings or {}),
        training=TrainingConfig(**{"epochs": 6, "batch_size": 50, **training}),
    )


def write_ledger_run(folder: Path, config: RunConfig, top1: float, **changes: Any) -> Path:
    """Write ``run.json`` and ``result.json`` of a finished run; ``changes`` replace top keys of either."""
    folder.mkdir(parents=True)
    run = {
        "command": "compress compare --out /home/somebody/place",
        "config": config.identity(),
        "config_sha256": config.sha256,
        "environment": ENVIRONMENT,
        "data_sha256": "d" * 64,
        "teacher_sha256": "7" * 64,
    }
    latency = {"median": 0.4, "lower": 0.3, "upper": 0.5}
    network = {"name": "resnet8", "parameters": 78_042, "macs": 781_952, "latency_ms": latency}
    result = {
        "method": config.method.name,
        "seed": config.seed,
        "data": {
            "name": "torch/cifar100",
            "sha256": "d" * 64,
            "classes": 100,
            "train": 50_000,
            "val": 0,
            "test": 10_000,
        },
        "student": {"folder": str(folder / "student"), **network, "sha256": f"{config.seed:064x}"},
        "teacher": {**network, "name": "resnet20", "sha256": "7" * 64, "origin": "/home/somebody/.cache/teachers/x"},
        "metrics": {"top1": top1, "teacher_top1": 70.0, "images": 10_000},
        "cost": {"train_seconds": 10.0, "teacher_seconds": 4.0, "views": 1, "peak_bytes": 1000, "images": 300_000},
        "config_sha256": config.sha256,
    }
    for name, value in (("run.json", run), ("result.json", result)):
        (folder / name).write_text(json.dumps(value | {key: changes[key] for key in changes.keys() & value.keys()}))
    return folder


def write_comparison(folder: Path, rows: dict[str, Sequence[float]], **training: Any) -> Path:
    """Write a finished comparison: for each method its accuracies by seed."""
    cells = []
    for method, values in rows.items():
        for seed, top1 in enumerate(values):
            config = run_config(seed, method=method, **training)
            place = write_ledger_run(folder / "cells" / f"{method}-s{seed}", config, top1)
            cells.append({"pair": "resnet20 -> resnet8", "method": method, "run": str(place), "seed": seed})
    (folder / "cells.json").write_text(json.dumps(cells))
    return folder


def made_up_record(values: Sequence[float], *, row: str = "made-up", config: RunConfig | None = None) -> Record:
    """Return a record with these accuracies by seed."""
    identity = (config or run_config()).identity()
    identity.pop("seed")
    identity["data"]["directory"] = None
    seeds = tuple(
        SeedValue(
            seed=seed,
            top1=top1,
            top1_last=top1,
            config_sha256=f"{seed:064x}",
            student_sha256=f"{seed:064x}",
            train_seconds=10.0,
        )
        for seed, top1 in enumerate(values)
    )
    return Record(
        schema=SCHEMA,
        row=row,
        label=identity["method"]["name"],
        config=identity,
        config_sha256=hash_of(identity),
        method_settings={},
        schedule="6 epochs",
        selection="the last epoch, chosen on nothing",
        data={"name": "torch/cifar100", "sha256": "d" * 64, "classes": 100, "train": 1, "val": 0, "test": 1},
        teacher={"name": "resnet20", "sha256": "7" * 64, "top1": 70.0, "origin": "trained by its recipe, in the bank"},
        student={"name": "resnet8", "parameters": 78_042, "macs": 781_952},
        seeds=seeds,
        summary=summary_of(seeds),
        environments=(dict(ENVIRONMENT),),
        commit="0123456789ab",
    )
