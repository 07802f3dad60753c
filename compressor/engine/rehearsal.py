"""`--dry-run`: everything a run needs is resolved and looked at, a few steps are done, nothing is written."""

import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from compressor.config.settings import RunConfig
from compressor.data.types import Augmentation, DataSet
from compressor.engine.bank import build_teacher, folder_of, read_record, teacher_lane, with_fitting_weights
from compressor.engine.folders import default_folder
from compressor.engine.headings import about_data, about_lane, about_teacher
from compressor.engine.history import RunLog
from compressor.engine.inputs import Objects, load
from compressor.engine.interrupts import StopRequest
from compressor.engine.jobs import Cell, Job, Outcome, prepare
from compressor.engine.lanes import Lane, Position
from compressor.engine.methods import build_distiller, prepared
from compressor.engine.networks import data_normalisation
from compressor.engine.normalise import Normalisation
from compressor.engine.optimisation import schedule_of
from compressor.engine.runtime import Runtime
from compressor.engine.session import Seat, Session, Teacher
from compressor.engine.teachers import ready_teacher
from compressor.engine.trainer import PhaseLoop
from compressor.events import Fact, Listener, silent
from compressor.models.create import BuiltModel
from compressor.models.taps import TappedModel
from compressor.storage import is_complete

_STEPS = 3


@dataclass(frozen=True)
class PhaseEstimate:
    """One stretch of training: its name, steps, and seconds by a few measured steps."""

    name: str
    steps: int
    seconds_per_step: float

    @property
    def seconds(self) -> float:
        """Of the whole stretch."""
        return self.steps * self.seconds_per_step


@dataclass(frozen=True)
class Rehearsal:
    """What a run would take on this machine.

    Args:
        phases: in order, the teacher's training first where the bank has none.
        memory_bytes: the most this process held, steps included. method_bytes: the method's own estimate of its state.
        disk_bytes: of the run's folder at its largest.
    """

    folder: str
    phases: tuple[PhaseEstimate, ...]
    memory_bytes: int
    method_bytes: int
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """Of all phases together, without evaluation and start-up."""
        return sum(phase.seconds for phase in self.phases)

    def document(self) -> Mapping[str, Any]:
        """Return the estimate as plain JSON values."""
        return {"schema": 1, "status": "rehearsed", "exit": 0, "seconds": self.seconds, **asdict(self)}


def rehearse(config: RunConfig, *, listener: Listener = silent) -> Rehearsal:
    """Resolve models and data, score the teacher where there is one, do a few steps of each phase, write nothing.

    Raises:
        CompressorError: whatever would keep the run from starting.
    """
    method, settings = prepared(config.method)
    runtime = Runtime(config.runtime, config.training.precision)
    data = load(config, runtime, Objects())
    listener(about_data(data))
    cell = Cell(config, default_folder(config))
    job = Job(cell, method, settings, Outcome(cell))
    config = with_fitting_weights(config, data) if job.needs.teacher else config
    built = build_teacher(config, data) if job.needs.teacher else None
    prepare(job, data, None if built is None else built.module, None)
    session = _session(config, data, runtime, listener)
    phases: list[PhaseEstimate] = []
    if built is not None:
        if config.teacher.weights is None and not is_complete(folder_of(config, data)):
            phases.append(_teacher_training(config, session))
        session = replace(session, teacher=_teacher(config, built, session))
    net: nn.Module = job.ready.student.built.module.to(runtime.device)
    lane = Lane(
        name=cell.name,
        student=TappedModel(net, owner="student"),
        distiller=build_distiller(method, settings, job.ready.pair, config.seed),
        training=config.training,
        seed=config.seed,
        runtime=runtime,
    )
    for fact in about_lane(job, session):
        listener(fact)
    phases += [_phase(lane, number, job.ready.student.normalisation, session) for number in range(len(lane.phases))]
    return Rehearsal(
        folder=str(cell.folder),
        phases=tuple(phase for phase in phases if phase.steps),
        memory_bytes=_peak_bytes(),
        method_bytes=method.memory_bytes(settings, job.ready.pair),
        disk_bytes=3 * _state_bytes(lane) + _bytes_of(net),
    )


def _session(config: RunConfig, data: DataSet, runtime: Runtime, listener: Listener) -> Session:
    wanted = config.data
    return Session(
        data=data,
        teacher=None,
        augmentation=Augmentation(crop_padding=wanted.crop_padding, flip=wanted.flip, crop_scale=wanted.crop_scale),
        runtime=runtime,
        listener=listener,
        stop=StopRequest(),
    )


def _teacher(config: RunConfig, built: BuiltModel, session: Session) -> Teacher:
    """The teacher as the run would have it; one that would first be trained stands in untrained and unscored."""
    if config.teacher.weights is None and built.name.kind in ("timm", "plugin", "factory"):
        folder = folder_of(config, session.data)
        if not is_complete(folder):
            session.listener(
                Fact(title="Teacher", text=f"{config.teacher.name}   not in the bank: it would be trained")
            )
            net = built.module.to(session.runtime.device).eval().requires_grad_(False)
            normalisation: Normalisation = data_normalisation(session.data)
            return Teacher(
                name=built.name.display,
                tapped=TappedModel(net, owner="teacher").eval(),
                normalisation=normalisation,
                sha256="",
                top1=None,
            )
        read_record(folder)
    teacher = ready_teacher(config, built, session)
    session.listener(about_teacher(teacher, session.data))
    return teacher


def _teacher_training(config: RunConfig, session: Session) -> PhaseEstimate:
    lane = teacher_lane(config, session)
    return _measured(lane, data_normalisation(session.data), session, teacher_data=True, name="teacher")


def _phase(lane: Lane, number: int, normalisation: Normalisation, session: Session) -> PhaseEstimate:
    lane.position = Position(number, 0)
    return _measured(lane, normalisation, session, teacher_data=lane.phase.artefact, name=lane.phase.name)


def _measured(
    lane: Lane, normalisation: Normalisation, session: Session, *, teacher_data: bool, name: str
) -> PhaseEstimate:
    if schedule_of(lane.training, lane.phase.schedule).epochs == 0:
        return PhaseEstimate(name, 0, 0.0)
    seat = Seat(lane, normalisation, None, RunLog(None))
    split = session.data.teacher_train if teacher_data else session.data.train
    loop = PhaseLoop([seat], session, split, order="rehearsal", evaluate=False)
    return PhaseEstimate(name, loop.steps, loop.rehearse(_STEPS))


def _state_bytes(lane: Lane) -> int:
    return 2 * _bytes_of(lane.module)  # weights and one moment of the optimiser


def _bytes_of(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def _peak_bytes() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
