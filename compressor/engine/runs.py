"""From settings to finished runs: one student (`distill`), or many that share a loop (`run_cells`)."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from torch import nn

from compressor.config.settings import RunConfig
from compressor.data.types import DataSet
from compressor.engine.bank import build_teacher, with_fitting_weights
from compressor.engine.compiled_teacher import compiled
from compressor.engine.finish import Finisher
from compressor.engine.folders import default_folder, finished, open_folder
from compressor.engine.headings import about_data, about_lane, about_teacher
from compressor.engine.inputs import Objects, augmentation_of, load
from compressor.engine.interrupts import StopRequest
from compressor.engine.jobs import Cell, Job, Outcome, prepare, take_seat
from compressor.engine.methods import prepared
from compressor.engine.networks import normalisation_of
from compressor.engine.phases import train
from compressor.engine.precision import slow_on_cpu
from compressor.engine.replay import Replay
from compressor.engine.results import RunResult
from compressor.engine.runtime import Runtime
from compressor.engine.session import Session, Teacher
from compressor.engine.teachers import freeze, ready_teacher
from compressor.errors import CompressorError, StorageError, TrainingError, UsageError
from compressor.events import Fact, LaneDone, LaneFailed, Listener, Stopping, Warned, silent
from compressor.models.create import BuiltModel, parameter_count

_BYTES_A_PARAMETER = 4 * 3 * 3  # float32; weights, momentum and a best copy; two checkpoints and one being written


def distill(
    config: RunConfig,
    *,
    out: Path | None = None,
    fresh: bool = False,
    listener: Listener = silent,
    command: str = "",
    objects: Objects | None = None,
) -> RunResult:
    """Train one student, or go on where it stopped, or return at once what is finished.

    Args:
        out: the run's folder; None takes `default_folder`. fresh: set an earlier run in it aside.
        command: what the user typed, to be kept with the run. objects: what a Python caller brings.

    Raises:
        CompressorError: see `compressor.errors`; Stopped once the place is saved.
    """
    cell = Cell(config, out or default_folder(config))
    [outcome] = run_cells([cell], fresh=fresh, listener=listener, command=command, objects=objects, fail_fast=True)
    if outcome.result is None:
        raise TrainingError(f"{cell.name} has no result: the main process failed, see its message")
    return outcome.result


def run_cells(
    cells: Sequence[Cell],
    *,
    fresh: bool = False,
    listener: Listener = silent,
    command: str = "",
    objects: Objects | None = None,
    fail_fast: bool = False,
) -> list[Outcome]:
    """Train cells that share teacher, data and seed in one loop; finished ones are only read.

    Args:
        fail_fast: an error of a cell ends everything; otherwise it becomes that cell's outcome and others go on.

    Returns:
        One outcome a cell, in order.
    """
    outcomes = [Outcome(cell, _finished(cell, fresh)) for cell in cells]
    jobs: list[Job] = []
    for outcome in outcomes:
        if outcome.result is not None:
            listener(Fact(lane=outcome.cell.name, title="Run", text=f"{outcome.cell.folder}   (already complete)"))
            continue
        try:
            method, settings = prepared(outcome.cell.config.method)
        except CompressorError as failure:
            if fail_fast or isinstance(failure, UsageError):
                raise
            outcome.failure = failure
            continue
        jobs.append(Job(outcome.cell, method, settings, outcome))
    if jobs:
        group = _Group(jobs, listener=listener, command=command, objects=objects or Objects(), fail_fast=fail_fast)
        group.run(fresh)
    return outcomes


def _finished(cell: Cell, fresh: bool) -> RunResult | None:
    values = None if fresh else finished(cell.folder, cell.config)
    return None if values is None else RunResult(values)


class _Group:
    """Cells of one teacher, data and seed, from names to results."""

    def __init__(
        self, jobs: Sequence[Job], *, listener: Listener, command: str, objects: Objects, fail_fast: bool
    ) -> None:
        self.jobs = list(jobs)
        self.config = jobs[0].cell.config
        self.listener = listener
        self.command = command
        self.objects = objects
        self.fail_fast = fail_fast

    def run(self, fresh: bool) -> None:
        """Prepare, train and finish every job."""
        runtime = Runtime(self.config.runtime, self.config.training.precision)
        if not runtime.is_main:
            self.listener = silent
        self._warn_of_slow_precision(runtime)
        self._warn_of_split_batches(runtime)
        data = load(self.config, runtime, self.objects)
        self.listener(about_data(data))
        built = self._build_teacher(data)
        teacher_net = self.objects.teacher if built is None else built.module
        self._each(lambda job: prepare(job, data, teacher_net, self.objects.student))
        with ExitStack() as stack:
            stack.enter_context(runtime.together())
            if runtime.is_main:
                self._each(lambda job: self._open(job, stack, fresh))
            stop = stack.enter_context(StopRequest(self.config.runtime.time_budget, self._stopping))
            session = self._session(data, runtime, stop)
            session = replace(session, teacher=self._teacher(built, session))
            if self._keeps_answers(data):
                kept = stack.enter_context(Replay(runtime, self.config.runtime.replay_bytes))
                session = replace(session, replay=kept)
            self._each(lambda job: self._seat(job, session))
            train([job.seat for job in self._alive() if job.seat is not None], session)
            for job in self.jobs:
                if job.seat is not None and job.seat.failure is not None:
                    job.outcome.failure = job.seat.failure
            if runtime.any_of(stop.heard):  # before the long looks of the end, not after them
                raise stop.stopped(max((job.seat.lane.position.step for job in self.jobs if job.seat), default=0))
            finisher = Finisher(session, self.command, check="fresh" if len(self._alive()) == 1 else "here")
            if runtime.is_main:
                self._each(lambda job: self._finish(job, finisher))
            runtime.wait_for_everyone()
            if not runtime.is_main:
                self._each(self._read_result)

    def _alive(self) -> list[Job]:
        return [job for job in self.jobs if job.outcome.failure is None]

    def _each(self, action: Callable[[Job], None]) -> None:
        """Do something for every job that has not failed; a job's own error is its own, unless ``fail_fast``.

        What the disk refuses is nobody's own: no cell is called failed for it, the same command goes on later.
        """
        for job in self._alive():
            try:
                action(job)
            except CompressorError as failure:
                if self.fail_fast or isinstance(failure, (StorageError, UsageError)):
                    raise
                job.outcome.failure = failure
                self.listener(LaneFailed(lane=job.cell.name, message=failure.message, hint=failure.hint))

    def _build_teacher(self, data: DataSet) -> BuiltModel | None:
        if self.objects.teacher is not None or not any(job.taught for job in self.jobs):
            return None
        self.config = with_fitting_weights(self.config, data)
        return build_teacher(self.config, data)

    def _open(self, job: Job, stack: ExitStack, fresh: bool) -> None:
        needed = _BYTES_A_PARAMETER * parameter_count(job.ready.student.built.module)
        job.root = open_folder(job.cell.folder, job.cell.config, stack, fresh=fresh, needed_bytes=needed)

    def _session(self, data: DataSet, runtime: Runtime, stop: StopRequest) -> Session:
        return Session(
            data=data,
            teacher=None,
            augmentation=augmentation_of(self.config.data, data),
            runtime=runtime,
            listener=self.listener,
            stop=stop,
            save_every=self.config.runtime.save_every,
            fail_fast=self.fail_fast,
            watch_test=self.config.runtime.watch_test,
        )

    def _keeps_answers(self, data: DataSet) -> bool:
        """Say whether answers are kept: not for what a Python object may return differently each time it is asked."""
        if self.config.data.augmentation_pool == "fresh":
            return False
        changing = self.objects.data is not None and data.pipeline == "stream"
        if changing:
            text = "answers to streamed images of a Python object are not kept: nothing tells whether they changed"
            self.listener(Warned(message=text))
        return not changing

    def _teacher(self, built: BuiltModel | None, session: Session) -> Teacher | None:
        given: nn.Module | None = self.objects.teacher
        if given is not None and any(job.taught for job in self.jobs):
            normalisation = normalisation_of(given, session.data)
            teacher = freeze(given, type(given).__name__, normalisation, "given", session)
        elif built is not None:
            teacher = ready_teacher(self.config, built, session)
        else:
            return None
        teacher = compiled(teacher, self.config, session)
        self.listener(about_teacher(teacher, session.data))
        return teacher

    def _seat(self, job: Job, session: Session) -> None:
        take_seat(job, session, self.command)
        for fact in about_lane(job, session):
            self.listener(fact)

    def _finish(self, job: Job, finisher: Finisher) -> None:
        if job.seat is None or job.root is None:
            raise RuntimeError(f"{job.cell.name} was never seated")
        result = finisher.finish(job.seat, job.cell.config, job.ready.student, job.root)
        job.outcome.result = result
        self.listener(LaneDone(lane=job.cell.name, run=str(job.root), metrics=result.metrics))

    @staticmethod
    def _read_result(job: Job) -> None:
        """Take over what the main process wrote; None where the job failed there."""
        job.outcome.result = _finished(job.cell, fresh=False)

    def _stopping(self) -> None:
        self.listener(Stopping())

    def _warn_of_slow_precision(self, runtime: Runtime) -> None:
        if runtime.device.type == "cpu" and (text := slow_on_cpu(runtime.precision)):
            self.listener(Warned(message=text))

    def _warn_of_split_batches(self, runtime: Runtime) -> None:
        parts = self.config.training.micro_batches
        if runtime.world > 1 and parts < runtime.world:
            text = (
                f"with {runtime.world} processes and --micro-batches {parts} batch statistics depend on the number of "
                f"processes; --micro-batches {runtime.world} gives the same with any"
            )
            self.listener(Warned(message=text))
