"""The end of a run: the selected weights, one look at the test images, the published student, the result."""

import os
import platform
import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compressor import __version__
from compressor.config.settings import RunConfig
from compressor.data.groups import groups_of
from compressor.distiller import ExtendedStudent
from compressor.engine.epochs import best_watched
from compressor.engine.evaluate import Latency, Predictions, latencies, predict
from compressor.engine.lanes import Lane
from compressor.engine.layout import plainly_arranged
from compressor.engine.networks import Student
from compressor.engine.portrait import Portraits, other_epoch
from compressor.engine.provenance import (
    TRAINED_BY_METHOD,
    building,
    data_facts,
    first_weights,
    measured_on,
    method_settings,
    selection,
    teacher_facts,
)
from compressor.engine.results import SCHEMA, RunResult
from compressor.engine.session import Seat, Session, Teacher
from compressor.errors import InputError
from compressor.models.create import multiply_adds, parameter_count
from compressor.publishing import Check, Publication, Published
from compressor.publishing import publish as publish_folder
from compressor.storage import write_tensors
from compressor.weights import state_sha256


class Finisher:
    """Finishes the runs of one session; what they share (the teacher's answers, latencies) is measured once.

    Args:
        command: what the user typed, for the card and ``run.json``.
        check: who loads a published student again, see `compressor.publishing.publish`; a fresh process costs seconds
            a student, too much for the many of a comparison.
    """

    def __init__(self, session: Session, command: str, *, check: Check = "fresh") -> None:
        self._session = session
        self._check = check
        self._command = command
        self._teacher_seen: Predictions | None = None
        self._portraits = Portraits(session)
        self._latency: dict[str, tuple[Latency, Latency | None]] = {}

    def finish(self, seat: Seat, config: RunConfig, student: Student, folder: Path) -> RunResult:
        """Evaluate, publish and write down one run whose training is over; `result.json` comes last.

        Raises:
            InputError: the published student does not load again with equal answers. StorageError: the disk.
        """
        other = other_epoch(seat, self._session.data.test, config.training.select)
        net = self._selected(seat, config)
        seen = predict(net, self._session.data.test, seat.normalisation)
        taught = None if seat.lane.trains_peer else self._teacher_answers(seat.lane)
        portrait = self._portraits.of(seat, net, seen, teacher=taught, other=other, select=config.training.select)
        metrics = self._metrics(seat, seen) | dict(portrait.metrics)
        if self._session.data.label_noise is not None:
            write_tensors(folder / "train_labels.safetensors", self._session.data.label_noise.tensors())
        write_tensors(folder / "test.safetensors", {"logits": seen.logits, "labels": seen.labels, **portrait.tensors})
        cost = self._cost(seat) | dict(portrait.cost)
        net = plainly_arranged(net.cpu().eval())
        facts = self._publication(seat, config, student, net, metrics, cost)
        published = self._publish(facts, student, seat, folder / "student")
        seat.warnings.extend(published.warnings)
        peer = self._peer(seat, facts, folder)
        if peer is not None:
            metrics["peer_top1"] = peer["top1"]
        document = {
            "schema": SCHEMA,
            "status": "done",
            "exit": 0,
            "run": str(folder),
            "method": config.method.name,
            "seed": config.seed,
            "epochs": config.training.epochs,
            "select": config.training.select,
            "data": self._data(),
            "student": self._student(student, net, folder, config) | {"load": _load_line(facts, published.load)},
            "teacher": self._teacher(config, seat.lane, net),
            **({} if peer is None else {"peer": peer}),
            "metrics": metrics,
            "cost": cost,
            "config_sha256": config.sha256,
            "environment": environment(),
            "warnings": seat.warnings,
        }
        if seat.checkpoints is not None:
            seat.checkpoints.keep_newest()  # before the result: a run that has one is never tidied again
        seat.log.result(document)
        return RunResult(document, net)

    def _selected(self, seat: Seat, config: RunConfig) -> nn.Module:
        lane = seat.lane
        net = lane.exported
        if config.training.select == "best" and lane.best.weights:
            net.load_state_dict(lane.best.weights)
        return net

    def _metrics(self, seat: Seat, seen: Predictions) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "top1": seen.top1,
            "top5": seen.top5,
            "loss": seen.loss,
            "ece": seen.calibration_error,
            "images": len(seen.labels),
            "val_best_top1": seat.lane.best.top1,
            "val_best_epoch": None if seat.lane.best.epoch is None else seat.lane.best.epoch + 1,
            "paper_rule_top1": best_watched(seat.lane),
            "val_last_top1": seat.lane.history[-1].get("eval_top1") if seat.lane.history else None,
        }
        teacher = self._teacher_answers(seat.lane)
        if teacher is not None and not seat.lane.trains_peer:
            metrics |= {"teacher_top1": teacher.top1, "agreement": seen.agreement(teacher)}
        groups = groups_of(self._session.data)
        if groups is not None:
            metrics |= groups.accuracies(seen.logits.argmax(1), seen.labels)
        return {key: value for key, value in metrics.items() if value is not None}

    def _teacher_answers(self, lane: Lane) -> Predictions | None:
        """Show the test images to the lane's own teacher, or to the shared one, which answers once for all lanes."""
        own, teacher = lane.own_teacher, self._session.teacher
        if own is not None:
            return predict(own.tapped.net, self._session.data.test, own.normalisation)
        if teacher is not None and self._teacher_seen is None:
            self._teacher_seen = predict(teacher.tapped.net, self._session.data.test, teacher.normalisation)
        return self._teacher_seen

    def _latencies(self, name: str, net: nn.Module) -> tuple[Latency, Latency | None]:
        if name not in self._latency:
            teacher = self._session.teacher
            device = self._session.runtime.device
            nets = [net] if teacher is None else [net, teacher.tapped.net]
            measured = latencies([item.to(device) for item in nets], self._session.data.image_size)
            self._latency[name] = (measured[0], measured[1] if teacher is not None else None)
            net.cpu()
        return self._latency[name]

    def _student(self, student: Student, net: nn.Module, folder: Path, config: RunConfig) -> dict[str, Any]:
        latency, _ = self._latencies(_timed_as(config, net), net)
        return {
            "folder": str(folder / "student"),
            "name": student.built.name.display,
            "architecture": student.built.name.registered,
            "parameters": parameter_count(net),
            **({"extras": net.extras} if isinstance(net, ExtendedStudent) else {}),
            "macs": multiply_adds(net, self._session.data.image_size),
            "latency_ms": asdict(latency),
            "sha256": state_sha256(net.state_dict()),
        }

    def _taught_by(self, lane: Lane) -> Teacher | None:
        """Return who taught the lane: its own teacher, or the one that all lanes share; a peer is no teacher."""
        own = lane.own_teacher
        if own is None:
            return self._session.teacher
        if lane.trains_peer:
            return None
        sha256 = state_sha256(own.tapped.net.state_dict())
        return Teacher(
            name=own.name, tapped=own.tapped, normalisation=own.normalisation, sha256=sha256, origin=TRAINED_BY_METHOD
        )

    def _peer(self, seat: Seat, facts: Publication, folder: Path) -> dict[str, Any] | None:
        """Evaluate and publish the network that learned beside the student, where there is one."""
        own = seat.lane.own_teacher
        if own is None or not seat.lane.trains_peer:
            return None
        seen = predict(own.tapped.net, self._session.data.test, own.normalisation)
        net = plainly_arranged(own.tapped.net.cpu().eval())
        peer = Student(own.built, own.normalisation)
        mine = replace(
            facts,
            module=net,
            **building(peer, net),
            started_from=None,
            first_weights="random",
            mean=own.normalisation.mean,
            std=own.normalisation.std,
            metrics={"top1": seen.top1, "top5": seen.top5, "ece": seen.calibration_error},
        )
        published = self._publish(mine, peer, seat, folder / "peer")
        seat.warnings.extend(published.warnings)
        return {
            "folder": str(folder / "peer"),
            "name": own.name,
            "top1": seen.top1,
            "parameters": parameter_count(net),
            "sha256": state_sha256(net.state_dict()),
            "load": _load_line(mine, published.load),
        }

    def _teacher(self, config: RunConfig, lane: Lane, net: nn.Module) -> dict[str, Any] | None:
        teacher = self._taught_by(lane)
        if teacher is None:
            return None
        latency = None if lane.own_teacher is not None else self._latency[_timed_as(config, net)][1]
        return {
            "name": teacher.name,
            "sha256": teacher.sha256,
            "origin": teacher.origin,
            "parameters": parameter_count(teacher.tapped.net),
            "macs": multiply_adds(teacher.tapped.net, self._session.data.image_size),
            "latency_ms": None if latency is None else asdict(latency),
            "scored_top1": teacher.top1,
        }

    def _data(self) -> dict[str, Any]:
        data = self._session.data
        groups, noise = groups_of(data), data.label_noise
        return {
            "name": data.name,
            "sha256": data.sha256,
            "classes": data.num_classes,
            "train": len(data.train),
            "val": 0 if data.val is None else len(data.val),
            "test": len(data.test),
            **data.scenario.document(),
            **({"augmentation_pool": pool} if (pool := self._session.augmentation.pool) else {}),
            **({} if groups is None else {"groups": groups.document()}),
            **({} if noise is None else {"flipped_labels": int(noise.flipped.sum())}),
            "unreadable": len(data.unreadable),
            "image_size": list(data.image_size),
        }

    def _cost(self, seat: Seat) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        scale = 1 if sys.platform == "darwin" else 1024
        steps = seat.lane.position.step
        return {
            "train_seconds": round(seat.lane.seconds, 3),
            "steps": steps,
            "views": seat.lane.needs.views.count,
            "peak_bytes": usage.ru_maxrss * scale,
            "processes": self._session.runtime.world,
        }

    def _publication(
        self,
        seat: Seat,
        config: RunConfig,
        student: Student,
        net: nn.Module,
        metrics: Mapping[str, Any],
        cost: Mapping[str, Any],
    ) -> Publication:
        data, teacher = self._session.data, self._taught_by(seat.lane)
        return Publication(
            module=net,
            **building(student, net),
            **first_weights(config, student, net),
            class_names=data.class_names,
            input_size=data.image_size,
            mean=seat.normalisation.mean,
            std=seat.normalisation.std,
            interpolation="bicubic",
            crop_pct=getattr(data.test, "crop_pct", 1.0),  # resident images are cut to size once, nothing is lost
            version=__version__,
            method=config.method.name,
            settings=method_settings(seat),
            data=data_facts(config, data),
            teacher=None if teacher is None else teacher_facts(config, teacher, metrics["teacher_top1"]),
            seed=config.seed,
            epochs=config.training.epochs,
            select=selection(config, seat, data),
            config_sha256=config.sha256,
            command=self._command,
            metrics={key: float(metrics[key]) for key in ("top1", "top5", "agreement", "ece") if key in metrics},
            measured_on=measured_on(data),
            cost={"train_seconds": cost["train_seconds"], "peak_bytes": float(cost["peak_bytes"])},
            hardware=environment()["machine"],
        )

    def _publish(self, facts: Publication, student: Student, seat: Seat, place: Path) -> Published:
        """Publish; a network brought from Python, or one with extras, may not be what its name builds."""
        try:
            return publish_folder(facts, place, replace=True, check=self._check)
        except InputError as fault:
            if facts.architecture is None or (student.built.name.kind != "python" and not facts.extras):
                raise
            seat.warnings.append(f"{facts.architecture} does not build this network again ({fault.message})")
        nameless = replace(facts, architecture=None, model_args={}, requires=())
        return publish_folder(nameless, place, replace=True, check=self._check)


def _timed_as(config: RunConfig, net: nn.Module) -> str:
    """Name what is timed once for many runs: a student, and whatever a method put behind it."""
    extras = net.extras if isinstance(net, ExtendedStudent) else {}
    return " + ".join([config.student.name, *(f"{words} {count}" for words, count in extras.items())])


def _load_line(facts: Publication, load: str | None) -> str:
    if load is None:
        return "safetensors.torch.load_file(...), into the same class"
    return f"import {', '.join(['timm', *facts.requires])}; {load}" if load.startswith("timm.") else load


def environment() -> dict[str, Any]:
    """Describe where this process computes: versions, machine, threads."""
    import timm

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{os.cpu_count()} CPU cores"
    return {
        "compressor": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "machine": f"{platform.machine()}, {device}",
        "threads": torch.get_num_threads(),
    }
