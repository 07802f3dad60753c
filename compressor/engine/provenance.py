"""What a published student's card says of a run, in words: measured on what, chosen how, begun from where."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from compressor.config.settings import RunConfig
from compressor.data.types import DataSet
from compressor.distiller import ExtendedStudent
from compressor.engine.networks import Student
from compressor.engine.session import Seat, Teacher
from compressor.models.catalogue import plugin_names
from compressor.models.create import parameter_count
from compressor.publishing import DataFacts, TeacherFacts
from compressor.publishing.facts import public_name
from compressor.storage import read_json

TRAINED_BY_METHOD = "method"
"""Origin of a teacher that is no one else's: the method made it."""


def measured_on(data: DataSet) -> str:
    """Name the images behind every figure of the card."""
    count = f"{len(data.test):,} test images of {public_name(data.name)}"
    left_out = f" ({len(data.unreadable):,} unreadable images were left out of the data)" if data.unreadable else ""
    return f"the {count}, which the student neither learned from nor was chosen by{left_out}"


def selection(config: RunConfig, seat: Seat, data: DataSet) -> str:
    """Say which epoch is published and on what it was chosen."""
    best = seat.lane.best
    if config.training.select == "best" and best.weights and best.epoch is not None and data.val is not None:
        return f"epoch {best.epoch + 1}, the best of them on {len(data.val):,} held-out images (not the test images)"
    return "the last epoch, chosen on nothing"


def data_facts(config: RunConfig, data: DataSet) -> DataFacts:
    """Name the data, and the repository where it comes from the hub."""
    source = config.data.source
    hub_id = source.removeprefix("hfds/") if source.startswith("hfds/") and source.count("/") == 2 else None
    pool = config.data.augmentation_pool
    pooled = f"{pool} draws of each image's augmentation for all epochs" if isinstance(pool, int) else ""
    given = ", ".join(words for words in (data.scenario.describe(), pooled) if words)
    return DataFacts(name=source, images=len(data.train), scenario=given, hub_id=hub_id)


def teacher_facts(config: RunConfig, teacher: Teacher, top1: float) -> TeacherFacts:
    """Say who taught, and where its weights came from; ``top1`` in percent, on the student's test images."""
    name, weights = config.teacher.name, config.teacher.weights
    hub_id = _hub_id(name, teacher.tapped.net, pretrained=weights == "pretrained")
    if teacher.origin == TRAINED_BY_METHOD:
        origin = "trained by the method itself, from random weights"
    elif teacher.origin == "given":
        origin = "given as a network in Python"
    elif hub_id is not None or weights == "pretrained":
        origin = "pretrained"
    elif weights is not None or name.startswith(("run:", "local-dir:")):
        origin = "weights from a file of the user's"
    else:
        origin = "trained by this program on the same data"
    return TeacherFacts(
        name=teacher.name,
        origin=origin,
        sha256=teacher.sha256,
        metrics={"top1": top1},
        parameters=parameter_count(teacher.tapped.net),
        hub_id=hub_id,
    )


def first_weights(config: RunConfig, student: Student, net: nn.Module) -> dict[str, Any]:
    """Return ``started_from`` (a hub id or None) and ``first_weights`` (words) of a `Publication`."""
    built, init = student.built, config.student.init
    own = net.student if isinstance(net, ExtendedStudent) else net
    hub_id = _hub_id(built.name.registered, own, pretrained=init == "pretrained")
    if built.name.kind == "python":
        words = "those of the network as it was given in Python"
    elif built.name.kind == "run" or built.name.registered.startswith("local-dir:"):
        words = f"those of another student, {public_name(built.name.given)}"
    elif init == "pretrained":
        words = "pretrained"
    elif init != "scratch":
        words = f"the file {Path(init).name}"
    else:
        words = "random"
    return {"started_from": hub_id, "first_weights": words}


def building(student: Student, net: nn.Module) -> dict[str, Any]:
    """Return what builds the network again: ``architecture``, ``factory``, ``model_args``, ``requires``.

    For a student with extras also ``inner`` (its own architecture) and ``extras``; see `ExtendedStudent`.
    """
    if isinstance(net, ExtendedStudent):
        return _building_of_whole(student, net)
    built = student.built
    if built.factory is not None:
        return {"architecture": None, "factory": built.factory, "model_args": dict(built.arguments)}
    known = getattr(net, "pretrained_cfg", None)
    architecture = known.get("architecture") if isinstance(known, dict) else None
    if built.name.kind in ("timm", "plugin"):
        architecture = built.name.registered.split(".")[0]
    return {
        "architecture": architecture,
        "model_args": {**_saved_arguments(student), **built.arguments},
        "requires": built.requires or _bringers(architecture),
    }


def _building_of_whole(student: Student, net: ExtendedStudent) -> dict[str, Any]:
    inner = building(student, net.student)
    known = {"inner": inner["architecture"] or student.built.name.display, "extras": dict(net.extras)}
    if inner["architecture"] is None or net.architecture is None:
        return {**known, "architecture": None}
    return {
        **known,
        "architecture": net.architecture,
        "model_args": {**net.model_args, "student": inner["architecture"], "student_args": inner["model_args"]},
        "requires": tuple(dict.fromkeys((*inner["requires"], *_bringers(net.architecture)))),
    }


def _bringers(architecture: str | None) -> tuple[str, ...]:
    """Return the root package that registers an architecture with timm; nothing for timm's own."""
    entries = plugin_names().get(architecture or "", ())
    return tuple(entry.value.partition(".")[0] for entry in entries[:1])


def method_settings(seat: Seat) -> Mapping[str, Any]:
    """Return all settings of the method, defaults too; those that JSON does not have as text."""
    settings: dict[str, Any] = json.loads(json.dumps(asdict(seat.lane.module.distiller.config), default=str))
    return settings


def _saved_arguments(student: Student) -> dict[str, Any]:
    """Read what the student's first weights were built with, where they came out of a published folder."""
    name = student.built.name
    folder = Path(name.registered.removeprefix("local-dir:"))
    file = folder / "student" / "config.json" if (folder / "student").is_dir() else folder / "config.json"
    if name.kind != "run" and not name.registered.startswith("local-dir:"):
        return {}
    return dict(read_json(file).get("model_args", {}))


def _hub_id(name: str, net: nn.Module, *, pretrained: bool) -> str | None:
    for prefix in ("hf-hub:", "hf_hub:"):
        if name.startswith(prefix):
            return name.removeprefix(prefix).partition("@")[0]
    known = getattr(net, "pretrained_cfg", None)
    hub_id = known.get("hf_hub_id") if pretrained and isinstance(known, dict) else None
    return hub_id if isinstance(hub_id, str) and hub_id.count("/") == 1 else None
