"""The bank of trained teachers: in the cache folder, one folder each, keyed by all that the weights depend on.

A teacher's folder is written whole with a manifest and read with a check of every byte; its training survives a kill
as any run does.
"""

import hashlib
import json
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compressor.cache import cache_folder
from compressor.config.settings import BASELINE, MethodConfig, RunConfig, StudentConfig
from compressor.data.types import DataSet
from compressor.distiller import Pair
from compressor.engine.checkpoint import Checkpoints
from compressor.engine.evaluate import predict
from compressor.engine.history import RunLog
from compressor.engine.lanes import Lane
from compressor.engine.layout import arrange
from compressor.engine.leftovers import clear_leftovers, work_folder
from compressor.engine.methods import build_distiller, prepared
from compressor.engine.names import safe
from compressor.engine.networks import class_counts, data_normalisation, spec_of
from compressor.engine.normalise import Normalisation
from compressor.engine.session import Seat, Session
from compressor.engine.snapshots import restore
from compressor.engine.trainer import PhaseLoop
from compressor.errors import InputError
from compressor.events import Fact
from compressor.models.catalogue import resolve_name
from compressor.models.create import BuiltModel, build, pretrained_classes
from compressor.models.taps import TappedModel, Wanted
from compressor.storage import (
    RunLock,
    ensure_folder,
    is_complete,
    read_json,
    remove_tree,
    verify_folder,
    write_folder,
    write_json,
    write_tensors,
)
from compressor.streams import derive
from compressor.weights import state_sha256


@dataclass(frozen=True, kw_only=True)
class TeacherRecord:
    """A teacher in the bank.

    Args:
        top1: on the test images, in percent. origin: how it came into the bank. key: of its provenance, 64 hex digits.
    """

    name: str
    data: str
    top1: float
    folder: Path
    sha256: str
    origin: str
    key: str
    class_names: tuple[str, ...]
    normalisation: Normalisation
    image_size: tuple[int, int, int]

    def document(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {**asdict(self), "folder": str(self.folder)}


def bank_folder() -> Path:
    """Return where teachers are kept; it need not exist."""
    return cache_folder() / "teachers"


def list_bank() -> list[TeacherRecord]:
    """Return every complete teacher of the bank, by folder name; unfinished ones are left out."""
    root = bank_folder()
    folders = sorted(root.iterdir()) if root.is_dir() else []
    return [read_record(folder) for folder in folders if is_complete(folder)]


def folder_of(config: RunConfig, data: DataSet) -> Path:
    """Return where the bank keeps, or would keep, a run's teacher."""
    name = resolve_name(config.teacher.name, role="teacher").display
    return bank_folder() / f"{safe(name)}-{safe(data.name)}-{teacher_key(config, data)[:12]}"


def teacher_key(config: RunConfig, data: DataSet) -> str:
    """Hash all that a bank teacher's weights depend on."""
    described = {
        "config": {key: value for key, value in teacher_run(config).identity().items() if key != "data"},
        "augmentation": [config.data.crop_padding, config.data.flip, config.data.crop_scale],
        "data": data.teacher_sha256,
        "image_size": data.image_size,
        "pipeline": data.pipeline,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def teacher_run(config: RunConfig) -> RunConfig:
    """Return the run that trains a pair's teacher: its architecture as the student, no teacher, a seed of its own."""
    return replace(
        config,
        seed=0,
        student=StudentConfig(name=resolve_name(config.teacher.name).registered),
        teacher=replace(config.teacher, name="", weights=None),
        method=MethodConfig(name=BASELINE),
        training=config.teacher_training,
        data=config.data.for_teacher(),
    )


def with_fitting_weights(config: RunConfig, data: DataSet) -> RunConfig:
    """Take timm's published weights for a teacher that nothing else is said of, where their classes are as many."""
    name = resolve_name(config.teacher.name, role="teacher")
    if config.teacher.weights is not None or pretrained_classes(name) != data.num_classes:
        return config
    return replace(config, teacher=replace(config.teacher, weights="pretrained"))


def build_teacher(config: RunConfig, data: DataSet) -> BuiltModel:
    """Build the teacher's network, untrained where weights come later, so that a pair can be checked beforehand."""
    name = resolve_name(config.teacher.name, role="teacher")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(0, "teacher"))
        return build(
            name,
            num_classes=None if config.teacher.weights == "pretrained" else data.num_classes,
            image_size=data.image_size[-1],
            pretrained=config.teacher.weights == "pretrained",
        )


def supply(config: RunConfig, session: Session) -> TeacherRecord:
    """Return the bank's teacher for a run, training and keeping it first where it has none.

    Raises:
        Stopped: while training; the same command goes on. InputError: the bank's folder is damaged.
    """
    key = teacher_key(config, session.data)
    folder = folder_of(config, session.data)
    if session.runtime.any_of(not is_complete(folder)):
        _train(config, session, folder, key)
        session.runtime.wait_for_everyone()
    if session.runtime.is_main:
        clear_leftovers(folder)
    return read_record(folder)


def _train(config: RunConfig, session: Session, folder: Path, key: str) -> None:
    work = ensure_folder(work_folder(folder))
    session.listener(Fact(lane="teacher", title="Teacher", text=f"the bank has none: training {config.teacher.name}"))
    main = session.runtime.is_main
    with RunLock(work) if main else nullcontext():
        lane = teacher_lane(config, session)
        checkpoints = Checkpoints(work, key)
        lane.begin()
        places, _ = checkpoints.whole()
        if places:
            restore(lane, *checkpoints.read(places[-1]))
        seat = Seat(lane, data_normalisation(session.data), checkpoints, RunLog(None))
        fresh = session.augmentation.fresh()
        alone = replace(session, teacher=None, fail_fast=True, watch_test=False, augmentation=fresh)
        PhaseLoop([seat], alone, session.data.teacher_train, order="student", evaluate=True).run()
        if main:
            keep(lane.trained, config, session, folder, key, origin="trained here", normalisation=seat.normalisation)
    if main:
        remove_tree(work)


def keep(
    net: nn.Module,
    config: RunConfig,
    session: Session,
    folder: Path,
    key: str,
    *,
    origin: str,
    normalisation: Normalisation,
) -> None:
    """Put a trained network into the bank, with its accuracy on the test images."""
    data = session.data
    tensors = {name: value.detach().cpu() for name, value in net.state_dict().items()}
    record = {
        "name": resolve_name(config.teacher.name).display,
        "registered": resolve_name(config.teacher.name).registered,
        "data": data.name,
        "data_sha256": data.teacher_sha256,
        "class_names": list(data.class_names),
        "image_size": list(data.image_size),
        "mean": list(normalisation.mean),
        "std": list(normalisation.std),
        "identity": normalisation.identity,
        "top1": predict(net, data.test, normalisation).top1,
        "sha256": state_sha256(tensors),
        "origin": origin,
        "key": key,
        "config": teacher_run(config).identity(),
    }

    def fill(target: Path) -> None:
        write_tensors(target / "model.safetensors", tensors)
        write_json(target / "teacher.json", record)

    ensure_folder(folder.parent)
    write_folder(folder, fill, config_sha256=key, what=f"teacher {record['name']}", replace=True)


def teacher_lane(config: RunConfig, session: Session) -> Lane:
    """Make the lane that trains a run's teacher: a student without a teacher, of the teacher's architecture."""
    run = teacher_run(config)
    built = build_teacher(replace(config, teacher=replace(config.teacher, weights=None)), session.data)
    net = built.module.to(session.runtime.device)
    if not session.runtime.plain:
        arrange(net)
    method, settings = prepared(run.method)
    spec = spec_of(TappedModel(net, owner="student"), built.name.display, session.data, Wanted())
    pair = Pair(
        student=spec,
        teacher=None,
        num_classes=session.data.num_classes,
        train_size=len(session.data.teacher_train),
        class_counts=class_counts(session.data.teacher_train.labels, session.data.num_classes),
    )
    lane = Lane(
        name="teacher",
        student=TappedModel(net, owner="student"),
        distiller=build_distiller(method, settings, pair, run.seed),
        training=run.training,
        seed=run.seed,
        runtime=session.runtime,
    )
    lane.rate_option = "--set teacher_training.lr="
    return lane


def read_record(folder: Path) -> TeacherRecord:
    """Read a teacher's folder, every byte of it checked.

    Raises:
        InputError: it is damaged, with the command that removes it.
    """
    verify_folder(folder)
    value = read_json(folder / "teacher.json")
    try:
        return TeacherRecord(
            name=str(value["name"]),
            data=str(value["data"]),
            top1=float(value["top1"]),
            folder=folder,
            sha256=str(value["sha256"]),
            origin=str(value["origin"]),
            key=str(value["key"]),
            class_names=tuple(map(str, value["class_names"])),
            normalisation=Normalisation(_numbers(value["mean"]), _numbers(value["std"]), bool(value["identity"])),
            image_size=_size(value["image_size"]),
        )
    except (KeyError, TypeError, ValueError) as cause:
        raise InputError(f"{folder}/teacher.json is damaged: {cause}", hint=f"rm -r '{folder}'") from cause


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _size(values: Any) -> tuple[int, int, int]:
    channels, height, width = (int(value) for value in values)
    return channels, height, width
