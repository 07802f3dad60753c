"""A cell on its way: checked against its pair before anything is trained, then seated with its state restored."""

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compressor.config.settings import RunConfig
from compressor.data.types import DataSet
from compressor.distiller import Needs, Pair
from compressor.engine.batching import Batching
from compressor.engine.checkpoint import Checkpoints, Place
from compressor.engine.finish import environment
from compressor.engine.history import RunLog, read_description
from compressor.engine.lanes import Lane, OwnTeacher
from compressor.engine.layout import arrange
from compressor.engine.methods import AnyDistiller, build_distiller
from compressor.engine.networks import Student, build_own_teacher, build_student, class_counts, spec_of
from compressor.engine.replay_keys import form_sha256
from compressor.engine.results import RunResult
from compressor.engine.session import Seat, Session
from compressor.engine.snapshots import restore
from compressor.engine.views import wanted_of
from compressor.errors import InputError, UsageError
from compressor.events import Warned
from compressor.models.taps import TappedModel


@dataclass(frozen=True)
class Cell:
    """One student to be trained: its settings, its folder, and ``label`` where the method's name does not tell it."""

    config: RunConfig
    folder: Path
    label: str = ""

    @property
    def name(self) -> str:
        """``kd s0``: the method, or the label, and the seed."""
        return f"{self.label or self.config.method.name} s{self.config.seed}"


@dataclass
class Outcome:
    """What became of a cell: a result, or the error that ended it."""

    cell: Cell
    result: RunResult | None = None
    failure: Exception | None = None


@dataclass
class Prepared:
    """A cell's student and pair, found to fit each other, the data and the method.

    Attributes:
        own_teacher: the network in the teacher's place, where the method trains it itself.
    """

    student: Student
    pair: Pair
    own_teacher: OwnTeacher | None = None


@dataclass
class Job:
    """A cell with its method, and what becomes of it.

    Attributes:
        root: the run's folder once it is ours. resumed: the checkpoint it goes on from, None when it is new.
    """

    cell: Cell
    method: type[AnyDistiller]
    settings: Any
    outcome: Outcome
    prepared: Prepared | None = None
    seat: Seat | None = None
    root: Path | None = None
    resumed: Place | None = None

    @property
    def needs(self) -> Needs:
        """What the method needs with these settings."""
        return self.method.needs_for(self.settings)

    @property
    def taught(self) -> bool:
        """Whether the method asks for a trained teacher."""
        return self.needs.teacher and not self.needs.own_teacher

    @property
    def ready(self) -> Prepared:
        """What `prepare` found."""
        if self.prepared is None:
            raise RuntimeError(f"{self.cell.name} was not prepared")
        return self.prepared


def prepare(job: Job, data: DataSet, teacher_net: nn.Module | None, student_net: nn.Module | None) -> None:
    """Build the student, look at both networks, and let the method refuse the pair; nothing is written or trained.

    Raises:
        UsageError, InputError, UnsupportedPair: what keeps the run from being possible.
    """
    config, needs = job.cell.config, job.needs
    if config.training.select == "best" and data.val is None:
        raise UsageError("--select best needs held-out images", hint="--val-split 0.1")
    Batching.of(config.training, len(data.train), "student", config.seed)
    student = build_student(config.student, data, config.seed, student_net)
    own_teacher = build_own_teacher(config.teacher, data, config.seed) if needs.own_teacher else None
    teacher_spec = None
    if needs.teacher:
        net = teacher_net if own_teacher is None else own_teacher.tapped.net
        assert net is not None, "a method that needs a teacher was given none"
        teacher_spec = spec_of(
            TappedModel(net, owner="teacher"), config.teacher.name, data, wanted_of(needs, "teacher")
        )
    pair = Pair(
        student=spec_of(
            TappedModel(student.built.module, owner="student"), config.student.name, data, wanted_of(needs, "student")
        ),
        teacher=teacher_spec,
        num_classes=data.num_classes,
        train_size=len(data.train),
        class_counts=class_counts(data.train.labels, data.num_classes),
    )
    job.method.check(job.settings, pair)
    job.prepared = Prepared(student, pair, own_teacher)


def take_seat(job: Job, session: Session, command: str) -> None:
    """Make the job's lane and put it where its newest whole checkpoint left it.

    Args:
        command: what the user typed, for ``run.json``.

    Raises:
        InputError: data or teacher changed since the run began, or no checkpoint is whole.
    """
    config, ready = job.cell.config, job.ready
    net = ready.student.built.module.to(session.runtime.device)
    if not session.runtime.plain:
        for each in (net, None if ready.own_teacher is None else ready.own_teacher.built.module):
            if each is not None:
                arrange(each)
    lane = Lane(
        name=job.cell.name,
        student=TappedModel(net, owner="student"),
        distiller=build_distiller(job.method, job.settings, ready.pair, config.seed),
        training=config.training,
        seed=config.seed,
        runtime=session.runtime,
        own_teacher=ready.own_teacher,
    )
    lane.begin()
    root = job.root or job.cell.folder
    log = RunLog(root if session.runtime.is_main else None)
    form = None if session.teacher is None or not job.taught else form_sha256(session.teacher.tapped.form)
    checkpoints = Checkpoints(root, config.sha256, form)
    job.seat = Seat(lane, ready.student.normalisation, checkpoints, log)
    before = read_description(root)
    hashes = {
        "data_sha256": session.data.sha256,
        "teacher_sha256": None if session.teacher is None or job.needs.own_teacher else session.teacher.sha256,
    }
    _refuse_changes(before, hashes, root)
    log.state(_description(job, hashes, before, command))
    _resume(job, job.seat, checkpoints, session)


def _resume(job: Job, seat: Seat, checkpoints: Checkpoints, session: Session) -> None:
    places, faults = checkpoints.whole()
    for fault in faults:
        seat.warnings.append(fault)
        seat.tell(session, Warned(lane=seat.lane.name, message=f"{fault}; going on from the one before"))
    if not places:
        return
    tensors, plain = checkpoints.read(places[-1])
    _check_same_bits(job, seat, plain, checkpoints.form, session)
    restore(seat.lane, tensors, plain)
    seat.log.metrics(seat.lane.history)
    job.resumed = places[-1]


def _refuse_changes(before: Mapping[str, Any] | None, hashes: dict[str, Any], root: Path) -> None:
    for key, value in hashes.items():
        if before is not None and before.get(key) not in (None, value):
            what = "data" if key.startswith("data") else "teacher"
            raise InputError(f"the {what} changed since {root} was begun", hint="--fresh sets the old run aside")


def _check_same_bits(job: Job, seat: Seat, before: dict[str, Any], form: str | None, session: Session) -> None:
    """Say, or with ``strict`` refuse, when a run goes on in a way in which the last bits of its sums may differ."""
    threads, now = before.get("threads"), torch.get_num_threads()
    if threads not in (None, now):
        message, hint = f"begun with {threads} threads, going on with {now}: bits may differ", f"--threads {threads}"
    elif before.get("plain") not in (None, session.runtime.plain):
        message, hint = "begun with --plain, or going on with it: bits may differ", "as the run was begun"
    elif before.get("form") not in (None, form):
        message = "the teacher answers in another form than when this was begun (compiled or not): bits may differ"
        hint = "--compile-teacher as the run was begun, with the same cache folder"
    else:
        return
    if job.cell.config.runtime.strict:
        raise InputError(message, hint=hint)
    seat.warnings.append(message)
    seat.tell(session, Warned(lane=seat.lane.name, message=message))


def _description(job: Job, hashes: dict[str, Any], before: Mapping[str, Any] | None, command: str) -> dict[str, Any]:
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "schema": 1,
        "command": command,
        "config": job.cell.config.identity(),
        "config_sha256": job.cell.config.sha256,
        "began": began if before is None else before.get("began", began),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "environment": environment(),
        **hashes,
    }
