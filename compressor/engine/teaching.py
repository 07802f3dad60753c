"""`compress teach`: a teacher into the bank, trained by its recipe or taken from a file."""

import hashlib
from dataclasses import replace
from pathlib import Path

from compressor.config.settings import RunConfig
from compressor.data.types import Augmentation
from compressor.engine.bank import TeacherRecord, build_teacher, folder_of, keep, read_record, supply
from compressor.engine.headings import about_data
from compressor.engine.inputs import Objects, load
from compressor.engine.interrupts import StopRequest
from compressor.engine.runtime import Runtime
from compressor.engine.session import Session
from compressor.engine.teachers import ready_teacher
from compressor.errors import InputError
from compressor.events import Fact, Listener, Stopping, silent
from compressor.storage import is_complete, set_aside, sha256_file


def teach(
    config: RunConfig, *, listener: Listener = silent, fresh: bool = False, weights: Path | None = None
) -> TeacherRecord:
    """Bring a run's teacher into the bank, where `distill` and `compare` find it.

    Args:
        fresh: set aside what the bank has and train anew. weights: a file to import instead of training.

    Returns:
        The bank's record, also when it was there already.

    Raises:
        InputError: the file does not fit, cannot be trusted, or is no better than 1.5 times chance.
        Stopped: while training; the same command goes on.
    """
    runtime = Runtime(config.runtime, config.teacher_training.precision)
    data = load(config, runtime, Objects())
    listener(about_data(data))
    folder = folder_of(config, data)
    if fresh and is_complete(folder):
        aside = set_aside(folder)
        listener(Fact(title="Teacher", text=f"the old one is now {aside}"))
    with StopRequest(config.runtime.time_budget, lambda: listener(Stopping())) as stop:
        wanted = config.data
        session = Session(
            data=data,
            teacher=None,
            augmentation=Augmentation(crop_padding=wanted.crop_padding, flip=wanted.flip, crop_scale=wanted.crop_scale),
            runtime=runtime,
            listener=listener,
            stop=stop,
            save_every=config.runtime.save_every,
        )
        if weights is None:
            return supply(config, session)
        return _import(config, session, folder, weights)


def _import(config: RunConfig, session: Session, folder: Path, weights: Path) -> TeacherRecord:
    if is_complete(folder):
        raise InputError(f"the bank already has {folder}", hint="--fresh sets it aside first")
    from_file = replace(config, teacher=replace(config.teacher, weights=str(weights)))
    teacher = ready_teacher(from_file, build_teacher(from_file, session.data), session)
    digest = sha256_file(weights) if weights.is_file() else teacher.sha256
    key = hashlib.sha256(f"{folder.name}/{digest}".encode()).hexdigest()
    origin = f"imported from {weights.name}"
    keep(teacher.tapped.net, config, session, folder, key, origin=origin, normalisation=teacher.normalisation)
    return read_record(folder)
