"""Finished runs out of thin air: the files that a run leaves, with planted answers."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressor.comparison.evidence import read_evidence
from compressor.comparison.table import CellRecord
from compressor.storage import write_tensors

CLASSES = ("zero", "one", "two", "three", "four & five", "<six>")
IMAGES = 240
EPOCHS = 6


def answers(
    share_right: float, seed: int, *, images: int = IMAGES, classes: int = len(CLASSES)
) -> tuple[Tensor, Tensor]:
    """Return logits and labels with exactly this share of right answers, rounded to whole images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    logits = torch.randn(images, classes, generator=generator)
    chosen = labels.clone()
    wrong = torch.randperm(images, generator=generator)[: images - round(share_right * images)]
    chosen[wrong] = (labels[wrong] + 1) % classes
    logits[torch.arange(images), chosen] = logits.amax(1) + 1.0
    return logits, labels


def write_run(
    folder: Path,
    *,
    method: str = "kd",
    seed: int = 0,
    share_right: float = 0.8,
    teacher: str = "resnet20",
    student: str = "resnet8",
    settings: Mapping[str, Any] | None = None,
    views: int = 1,
    held_out: bool = True,
    **config: Any,
) -> Path:
    """Write a finished run of an invented student."""
    (folder / "student").mkdir(parents=True)
    logits, labels = answers(share_right, seed)
    tensors: dict[str, Tensor] = {"logits": logits, "labels": labels, "teacher_classes": labels.to(torch.int32)}
    if held_out:
        tensors |= dict(zip(("val_logits", "val_labels"), answers(share_right, 100 + seed, images=60), strict=True))
    wrong = (logits.argmax(1) != labels).nonzero().flatten()[:4]
    if len(wrong):
        noise = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (len(wrong), 3, 8, 8), generator=noise, dtype=torch.uint8)
        tensors |= {"worst_index": wrong, "worst_images": pixels}
    write_tensors(folder / "test.safetensors", tensors)
    (folder / "student" / "config.json").write_text(json.dumps({"label_names": CLASSES}))
    (folder / "student" / "model.safetensors").write_bytes(b"0" * 312_000)
    result = result_of(folder, method, seed, logits, labels, views=views, held_out=held_out)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "run.json").write_text(json.dumps(run_of(method, seed, teacher, student, settings or {}, config)))
    _write_history(folder, share_right, seed, held_out=held_out)
    return folder


def result_of(
    folder: Path, method: str, seed: int, logits: Tensor, labels: Tensor, *, views: int, held_out: bool
) -> dict[str, Any]:
    """Return ``result.json``."""
    top1 = 100.0 * float((logits.argmax(1) == labels).double().mean())
    both = {"top1_last": top1, "top1_best": top1 + 0.25} if held_out else {}
    latency = {"median": 0.4, "lower": 0.35, "upper": 0.5, "runs": 200, "threads": 1}
    shown = EPOCHS * 1000 * views
    return {
        "schema": 1,
        "status": "done",
        "run": str(folder),
        "method": method,
        "seed": seed,
        "data": {"name": "digits", "val": 60 if held_out else 0, "classes": len(CLASSES)},
        "student": {
            "folder": str(folder / "student"),
            "name": "resnet8",
            "parameters": 78_042,
            "macs": 781_952,
            "latency_ms": latency,
            "sha256": f"{seed:064x}",
        },
        "teacher": {
            "name": "resnet20",
            "parameters": 272_474,
            "macs": 2_551_424,
            "latency_ms": {**latency, "median": 0.9, "upper": 1.1},
        },
        "metrics": {
            "top1": top1,
            **both,
            "teacher_top1": 95.0,
            "agreement": 70.0 + seed,
            "teacher_kl": 0.5,
            "cka": 0.75,
            "ece": 0.05,
            "images": len(labels),
        },
        "cost": {
            "train_seconds": 10.0 * views + seed,
            "teacher_seconds": 0.0 if method == "scratch" else 4.0 * views,
            "images": shown,
            "teacher_images": 0 if method == "scratch" else shown,
            "views": views,
            "peak_bytes": 900_000_000,
        },
        "config_sha256": f"{method}-{seed}",
    }


def run_of(
    method: str, seed: int, teacher: str, student: str, settings: Mapping[str, Any], config: Mapping[str, Any]
) -> dict[str, Any]:
    """Return ``run.json``; ``config`` holds ``training``, ``data`` and hashes that differ from the usual."""
    training = {"epochs": EPOCHS, "batch_size": 50, "select": "last", "lr": 0.05, **config.get("training", {})}
    return {
        "schema": 1,
        "command": "compress compare --methods kd --out /home/somebody/secret/place",
        "began": "2026-11-21T12:00:00Z",
        "config_sha256": f"{method}-{seed}",
        "environment": {"compressor": "0.1.0", "torch": "2.15.0", "machine": "x86_64, 2 CPU cores", "threads": 2},
        "data_sha256": config.get("data_sha256", "d" * 64),
        "teacher_sha256": None if method == "scratch" else config.get("teacher_sha256", "7" * 64),
        "config": {
            "seed": seed,
            "teacher": {"name": teacher, "weights": None},
            "student": {"name": student, "init": "scratch"},
            "data": {"source": "digits", "shots": None, **config.get("data", {})},
            "method": {"name": method, "settings": dict(settings)},
            "training": training,
        },
    }


def _write_history(folder: Path, share_right: float, seed: int, *, held_out: bool) -> None:
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["phase", "epoch", "train_loss", "eval_top1"])
        writer.writeheader()
        for epoch in range(EPOCHS):
            rising = 100 * share_right * (1 - 0.5 ** (epoch + 1)) + 0.3 * seed
            row = {"phase": "student", "epoch": epoch, "train_loss": 2.0 / (epoch + 1)}
            writer.writerow({**row, "eval_top1": rising if held_out else ""})


def made_up_cells(
    root: Path, shares: Mapping[str, Sequence[float]], *, pair: str = "resnet20 -> resnet8"
) -> list[CellRecord]:
    """Write a run for each method and seed, and return them as cells with their evidence.

    Args:
        shares: of right answers, by method and seed. A method called ``... (4 views)`` or ``sskd`` sees four views.
    """
    cells = []
    for method, seeds in shares.items():
        views = 4 if "4 views" in method or method == "sskd" else 1
        for seed, share in enumerate(seeds):
            folder = root / f"{method.replace(' ', '-')}-s{seed}-{pair.partition(' ')[0]}"
            write_run(folder, method=method.partition(" ")[0], seed=seed, share_right=share, views=views)
            result = json.loads((folder / "result.json").read_text())
            cells.append(CellRecord(method, pair, seed, str(folder), result, evidence=read_evidence(folder)))
    return cells
