"""Products of the teacher and its data alone (such as SSKD's head), trained once and shared by students and seeds."""

import hashlib
import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compressor.cache import cache_folder
from compressor.data.types import Augmentation
from compressor.distiller import CONTRACT_VERSION, Phase
from compressor.engine.checkpoint import Checkpoints
from compressor.engine.history import RunLog
from compressor.engine.lanes import Lane
from compressor.engine.leftovers import clear_leftovers, work_folder
from compressor.engine.normalise import Normalisation
from compressor.engine.optimisation import schedule_of
from compressor.engine.session import Seat, Session
from compressor.engine.snapshots import restore
from compressor.engine.trainer import PhaseLoop
from compressor.errors import InputError
from compressor.events import Fact
from compressor.models.taps import TappedModel
from compressor.storage import (
    RunLock,
    ensure_folder,
    is_complete,
    read_tensors,
    remove_tree,
    verify_folder,
    write_folder,
    write_tensors,
)
from compressor.streams import derive

_SEED = 0
_TEACHER = "own_teacher/"


def supply(lane: Lane, session: Session) -> None:
    """Bring the lane's current artefact phase to its end: from the cache, or by training it there.

    Raises:
        Stopped, TrainingError, StorageError: as in any training; what was done is kept in the cache.
        InputError: the cached artefact is damaged.
    """
    phase = lane.phase
    key = artefact_key(lane, session)
    name = f"{lane.module.distiller.name}-{phase.name}-{key[:12]}"
    folder = cache_folder() / "artefacts" / name
    if session.runtime.any_of(not is_complete(folder)):
        _train(lane, session, phase, folder, key)
    session.runtime.wait_for_everyone()
    if session.runtime.is_main:
        clear_leftovers(folder)
    _load(lane, phase, folder)
    session.listener(
        Fact(lane=lane.name, title=phase.name.capitalize(), text=f"made once for all students, kept in {folder}")
    )


def artefact_key(lane: Lane, session: Session) -> str:
    """Hash everything the artefact depends on: teacher, data, the method's settings for it, and how it is trained."""
    phase, distiller, training = lane.phase, lane.module.distiller, lane.training
    teacher, normalisation = _taught_by(lane, session)
    described = {
        "contract": CONTRACT_VERSION,
        "teacher": teacher,
        "normalisation": asdict(normalisation),
        "data": session.data.teacher_sha256,
        "image_size": session.data.image_size,
        "pipeline": session.data.pipeline,
        "augmentation": _augmentation(lane, session).described(),
        "method": distiller.name,
        "phase": phase.name,
        "settings": {key: getattr(distiller.config, key) for key in phase.artefact_settings},
        "schedule": asdict(schedule_of(training, phase.schedule)),
        "training": {key: value for key, value in asdict(training).items() if key in _DECISIVE},
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _augmentation(lane: Lane, session: Session) -> Augmentation:
    """Return how the artefact's images are varied: a network that learns has fresh draws, whatever students have."""
    return session.augmentation if lane.own_teacher is None else session.augmentation.fresh()


def _taught_by(lane: Lane, session: Session) -> tuple[str, Normalisation]:
    """Return what identifies the network in the teacher's place, and how it sees images."""
    if lane.own_teacher is not None:
        return f"{lane.own_teacher.name}, random weights", lane.own_teacher.normalisation
    assert session.teacher is not None
    return session.teacher.sha256, session.teacher.normalisation


_DECISIVE = ("batch_size", "optimizer", "momentum", "nesterov", "weight_decay", "precision", "micro_batches", "min_lr")


def _train(lane: Lane, session: Session, phase: Phase, folder: Path, key: str) -> None:
    work = ensure_folder(work_folder(folder))
    main = session.runtime.is_main
    with RunLock(work) if main else nullcontext():
        student = TappedModel(nn.Identity(), owner="student")
        training = replace(lane.training, ema_decay=0.0, select="last")
        given = lane.own_teacher
        own = Lane(
            name=f"{lane.module.distiller.name} {phase.name}",
            student=student,
            distiller=lane.module.distiller,
            training=training,
            seed=_SEED,
            runtime=session.runtime,
            phases=(phase,),
            own_teacher=None if given is None else given.fresh(_SEED),
        )
        own.saved = phase.trains
        _start_afresh(own, phase)
        own.begin()
        checkpoints = Checkpoints(work, key)
        places, _ = checkpoints.whole()
        if places:
            restore(own, *checkpoints.read(places[-1]))
        seat = Seat(own, _taught_by(lane, session)[1], checkpoints, RunLog(None))
        alone = replace(session, fail_fast=True, augmentation=_augmentation(lane, session))
        PhaseLoop([seat], alone, session.data.teacher_train, order=f"artefact/{phase.name}", evaluate=False).run()
        tensors = {name: value.detach().cpu() for name, value in own.method_state().items()}
        if own.module.own_teacher is not None:
            state = own.module.own_teacher.net.state_dict()
            tensors |= {f"{_TEACHER}{name}": value.detach().cpu() for name, value in state.items()}

        def fill(target: Path) -> None:
            write_tensors(target / "artefact.safetensors", tensors)

        if main:
            write_folder(folder, fill, config_sha256=key, what=phase.name, replace=True)
    if main:
        remove_tree(work)


def _start_afresh(lane: Lane, phase: Phase) -> None:
    """Draw the modules' first values from a fixed seed, so that they depend on no student and no run."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(_SEED, f"artefact/{phase.name}"))
        for name in phase.trains:
            if name != "teacher":
                _reset(lane.module.distiller.get_submodule(name))


def _reset(module: nn.Module) -> None:
    """Draw a module's first values anew: by its own ``reset_parameters`` if it has one, else its children's."""
    own: Any = getattr(module, "reset_parameters", None)
    if own is not None:
        own()
        return
    for child in module.children():
        _reset(child)


def _load(lane: Lane, phase: Phase, folder: Path) -> None:
    verify_folder(folder)
    stored = read_tensors(folder / "artefact.safetensors")
    network = {key.removeprefix(_TEACHER): value for key, value in stored.items() if key.startswith(_TEACHER)}
    own = {key: value for key, value in stored.items() if not key.startswith(_TEACHER)}
    try:
        lane.module.distiller.load_state_dict(lane.module.distiller.state_dict() | own)
        if lane.module.own_teacher is not None:
            lane.module.own_teacher.net.load_state_dict(network)
    except RuntimeError as cause:
        raise InputError(f"artefact {folder} does not fit {phase.name!r}", hint=f"rm -r '{folder}'") from cause
