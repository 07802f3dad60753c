"""`--dry-run`: everything a run needs is resolved and looked at, a few steps are done, nothing is written."""

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from compressor.config.settings import RunConfig
from compressor.data.types import DataSet
from compressor.distiller import Link
from compressor.engine.bank import build_teacher, folder_of, read_record, teacher_lane, with_fitting_weights
from compressor.engine.compiled_teacher import compiled
from compressor.engine.folders import default_folder
from compressor.engine.headings import about_data, about_lane, about_teacher
from compressor.engine.history import RunLog
from compressor.engine.inference import inference_form
from compressor.engine.inputs import Objects, augmentation_of, load
from compressor.engine.interrupts import StopRequest
from compressor.engine.jobs import Cell, Job, Outcome, prepare
from compressor.engine.lanes import Lane, Position
from compressor.engine.layout import arrange
from compressor.engine.methods import build_distiller, prepared
from compressor.engine.networks import data_normalisation
from compressor.engine.normalise import Normalisation
from compressor.engine.optimisation import schedule_of
from compressor.engine.repeated import CHECKS, WARM_UP
from compressor.engine.replay import Replay
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
        plan: where the method joins both networks, and by what.
    """

    folder: str
    phases: tuple[PhaseEstimate, ...]
    memory_bytes: int
    method_bytes: int
    disk_bytes: int
    plan: tuple[Link, ...] = ()

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
    stage = _set_up(config, listener)
    job, lane = stage.job, stage.lane
    phases = [] if stage.training is None else [stage.training]
    phases += [
        _phase(lane, number, job.ready.student.normalisation, stage.session) for number in range(len(lane.phases))
    ]
    return Rehearsal(
        folder=str(job.cell.folder),
        phases=tuple(phase for phase in phases if phase.steps),
        memory_bytes=_peak_bytes(),
        method_bytes=job.method.memory_bytes(job.settings, job.ready.pair),
        disk_bytes=3 * _state_bytes(lane) + _bytes_of(job.ready.student.built.module),
        plan=tuple(lane.module.distiller.plan()),
    )


def last_phase(configs: Sequence[RunConfig], *, listener: Listener = silent) -> PhaseLoop:
    """Set up one loop of the last phase for lanes of one teacher, data and seed, for measuring its steps.

    An absent teacher stands in untrained, artefacts of it too: the same arithmetic, with other numbers. Nothing is
    written but what was found out about compiled convolutions on this machine.

    Raises:
        CompressorError: whatever would keep one of the runs from starting.
    """
    first = _set_up(configs[0], listener, measure_teacher=False)
    stages = [first, *(_set_up(config, listener, session=first.session) for config in configs[1:])]
    seats = []
    for stage in stages:
        stage.lane.position = Position(len(stage.lane.phases) - 1, 0)
        seats.append(Seat(stage.lane, stage.job.ready.student.normalisation, None, RunLog(None)))
    session = next((stage.session for stage in stages if stage.session.teacher is not None), first.session)
    return PhaseLoop(seats, session, session.data.train, order="rehearsal", evaluate=False)


@dataclass(frozen=True)
class _Stage:
    """A run set up to be rehearsed; ``training``: of its teacher, measured, where the bank has none."""

    job: Job
    lane: Lane
    session: Session
    training: PhaseEstimate | None = None


def _set_up(
    config: RunConfig, listener: Listener, *, session: Session | None = None, measure_teacher: bool = True
) -> _Stage:
    method, settings = prepared(config.method)
    shared = session
    if session is None:
        runtime = Runtime(config.runtime, config.training.precision)
        session = _session(config, load(config, runtime, Objects()), runtime, listener)
    data = session.data
    listener(about_data(data))
    cell = Cell(config, default_folder(config))
    job = Job(cell, method, settings, Outcome(cell))
    config = with_fitting_weights(config, data) if job.taught else config
    built = build_teacher(config, data) if job.taught else None
    prepare(job, data, None if built is None else built.module, None)
    training = None
    if built is not None and (shared is None or shared.teacher is None):
        if measure_teacher and config.teacher.weights is None and not is_complete(folder_of(config, data)):
            training = _teacher_training(config, session)
        teacher = compiled(_teacher(config, built, session), config, session, looking=measure_teacher)
        session = replace(session, teacher=teacher)
    lane = _lane(job, session)
    for fact in about_lane(job, session):
        listener(fact)
    return _Stage(job, lane, session, training)


def _lane(job: Job, session: Session) -> Lane:
    config, runtime = job.cell.config, session.runtime
    net: nn.Module = job.ready.student.built.module.to(runtime.device)
    if not runtime.plain:
        arrange(net)
    return Lane(
        name=job.cell.name,
        student=TappedModel(net, owner="student"),
        distiller=build_distiller(job.method, job.settings, job.ready.pair, config.seed),
        training=config.training,
        seed=config.seed,
        runtime=runtime,
        own_teacher=job.ready.own_teacher,
    )


def _session(config: RunConfig, data: DataSet, runtime: Runtime, listener: Listener) -> Session:
    kept = config.data.augmentation_pool != "fresh"
    return Session(
        data=data,
        teacher=None,
        augmentation=augmentation_of(config.data, data),
        runtime=runtime,
        listener=listener,
        stop=StopRequest(),
        replay=Replay(runtime, config.runtime.replay_bytes, looking=True) if kept else None,
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
                tapped=inference_form(net, normalisation, session.data.image_size, session.runtime),
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
    recorded = session.runtime.recorder is not None
    taken = loop.rehearse(_STEPS + (WARM_UP + CHECKS if recorded else 0))
    counted = taken[1 - _STEPS :] or taken  # the first steps also warm up, and are recorded where the device can
    saved = (1 - loop.answers.prepare(loop.epochs)) * loop.answers.seconds / len(taken)
    return PhaseEstimate(name, loop.steps, max(0.0, sum(counted) / len(counted) - saved))


def _state_bytes(lane: Lane) -> int:
    return 2 * _bytes_of(lane.module)  # weights and one moment of the optimiser


def _bytes_of(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())


def _peak_bytes() -> int:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
