"""The one loop: lanes at the same place of the same phase take each batch, and the teacher's answer to it, together."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from compressor.data.ahead import contrast_batches
from compressor.data.contrast import ContrastSampler
from compressor.data.types import ImageBatch, Split
from compressor.distiller import Batch, ModelOutput, Negatives
from compressor.engine.answers import Answers
from compressor.engine.batching import Batching
from compressor.engine.epochs import close_epoch
from compressor.engine.optimisation import schedule_of
from compressor.engine.pace import Pace
from compressor.engine.parts import Part
from compressor.engine.session import Prepared, Seat, Session
from compressor.engine.views import SlotPlan
from compressor.errors import CompressorError, TrainingError
from compressor.events import LaneFailed, PhaseStarted, Progress, Saved, Warned
from compressor.memory import give_back_freed_memory

_REPORT_EVERY = 0.5
_REPORT_EVERY_ON_ACCELERATORS = 2.0
"""Seconds; the means of a report are read from the device, which makes the host wait until its work is done."""


class PhaseLoop:
    """Trains lanes through their current phase.

    Args:
        seats: lanes at the same step of a phase of the same length and batch size.
        split: what is learned from. order: purpose of the draws that order it; the same for lanes that share them.
        evaluate: whether students are looked at after epochs.
    """

    def __init__(self, seats: Sequence[Seat], session: Session, split: Split, *, order: str, evaluate: bool) -> None:
        first = seats[0].lane
        self.seats = list(seats)
        self.session = session
        self.split = split
        self.evaluate = evaluate
        self.seed = first.seed
        self.batching = Batching.of(
            first.training, len(split), order, first.seed, world=session.runtime.world, rank=session.runtime.rank
        )
        self.epochs = schedule_of(first.training, first.phase.schedule).epochs
        self.plan = SlotPlan.of([seat.lane.needs for seat in seats])
        self.samplers = {
            seat.lane.needs.negatives: ContrastSampler(split.labels, seat.lane.needs.negatives, self.seed)
            for seat in seats
            if seat.lane.needs.negatives is not None
        }
        self.contrasts: dict[Negatives, Iterator[Tensor]] = {}
        self.steps_per_epoch = len(self.batching.epoch(0))
        self.steps = self.steps_per_epoch * self.epochs
        self.pace = Pace()
        rows_a_call = -(-first.training.batch_size // (self.batching.parts_each * session.runtime.world))
        self.answers = Answers(session, self.plan, split, rows_a_call, warn=self._warn_all)
        give_back_freed_memory()  # what setting up and earlier phases needed has other sizes than a step's maps

    @property
    def alive(self) -> list[Seat]:
        """Seats whose lanes have not failed."""
        return [seat for seat in self.seats if seat.failure is None]

    def run(self) -> None:
        """Train to the end of the phase.

        Raises:
            Stopped: somebody asked; every lane's place is saved. TrainingError, PluginError: of the only lane.
            StorageError: a checkpoint could not be written.
        """
        step = self.seats[0].lane.position.step
        for seat in self.seats:
            self._begin(seat)
            name = seat.lane.phase.name
            event = PhaseStarted(lane=seat.lane.name, phase=name, step=step, steps=self.steps, epochs=self.epochs)
            seat.tell(self.session, event)
        self.answers.prepare(self.epochs)
        self.pace = Pace()
        try:
            for epoch in range(step // self.steps_per_epoch, self.epochs):
                self._epoch(epoch, first=step % self.steps_per_epoch if epoch == step // self.steps_per_epoch else 0)
                if not self.alive:
                    return
        finally:
            self.answers.close()
        self._save()

    def rehearse(self, steps: int, epoch: int = 0) -> list[float]:
        """Do the first few steps of an epoch, saving and telling nothing; return the seconds that each took.

        The first one also warms up; where steps are recorded, so do the `WARM_UP` and `CHECKS` of `Repeated`.
        """
        taken: list[float] = []
        for began in self.rehearsed(steps, epoch):
            self.session.runtime.finish_queued()
            taken.append(time.monotonic() - began)
        return taken

    def seconds_a_step(self, warm_up: int, steps: int) -> float:
        """Measure steps as a run does them, the host running ahead of the device; saves and tells nothing.

        Args:
            warm_up: steps before those that count, >= 1; with `WARM_UP` and `CHECKS` of `Repeated` all are recorded.

        Raises:
            ValueError: an epoch has fewer steps than both together.
        """
        if warm_up + steps > self.steps_per_epoch:
            raise ValueError(f"an epoch has {self.steps_per_epoch} steps, {warm_up} + {steps} were asked for")
        began = 0.0
        for number, _ in enumerate(self.rehearsed(warm_up + steps)):
            if number == warm_up - 1:
                self.session.runtime.finish_queued()
                began = time.monotonic()
        self.session.runtime.finish_queued()
        return (time.monotonic() - began) / steps

    def rehearsed(self, steps: int, epoch: int = 0) -> Iterator[float]:
        """Do the first few steps of an epoch; for each, once the device has been given it, give when it began."""
        for seat in self.seats:
            self._begin(seat)
            seat.lane.rate.set_for(epoch)
        batches = self.batching.epoch(epoch)[:steps]
        images = self._images([part for batch in batches for part in self.batching.my_parts(batch)], epoch)
        for number, positions in enumerate(batches):
            began = time.monotonic()
            self._step([next(images) for _ in range(self.batching.parts_each)], epoch, number, len(positions))
            yield began

    def _begin(self, seat: Seat) -> None:
        lane = seat.lane
        lane.warn = partial(self._warn, seat)
        lane.begin()
        if lane.unrecorded and self.session.runtime.capture == "on":
            lane.warn(f"{lane.name}: steps are not recorded, going on one by one ({lane.unrecorded})")

    def _warn(self, seat: Seat, message: str) -> None:
        seat.warnings.append(message)
        seat.tell(self.session, Warned(lane=seat.lane.name, message=message))

    def _warn_all(self, message: str) -> None:
        for seat in self.alive:
            seat.warnings.append(message)
        self.session.listener(Warned(message=message))

    def _images(self, positions: Sequence[Tensor], epoch: int) -> Iterator[ImageBatch]:
        runtime = self.session.runtime
        self.contrasts = {
            negatives: contrast_batches(sampler, positions, epoch, runtime.device, ahead=runtime.asynchronous)
            for negatives, sampler in self.samplers.items()
        }
        return self.pace.timed(
            self.split.batches(
                positions,
                slots=self.plan.slots,
                augmentation=self.session.augmentation,
                epoch=epoch,
                seed=self.seed,
            )
        )

    def _epoch(self, epoch: int, *, first: int) -> None:
        for seat in self.alive:
            seat.lane.rate.set_for(epoch)
        self.answers.begin_epoch()
        batches = self.batching.epoch(epoch)[first:]
        mine = [part for batch in batches for part in self.batching.my_parts(batch)]
        images = self._images(mine, epoch)
        for number, positions in enumerate(batches):
            taken = [next(images) for _ in range(self.batching.parts_each)]
            self._step(taken, epoch, first + number, len(positions))
            self._after_step(epoch, last=number == len(batches) - 1)

    def _step(self, taken: Sequence[ImageBatch], epoch: int, number: int, size: int) -> None:
        step = epoch * self.steps_per_epoch + number
        prepared = [Prepared(batch.images, self.plan.slots) for batch in taken]
        answers = [self.answers.of(batch, images) for batch, images in zip(taken, prepared, strict=True)]
        drawn = [{negatives: next(feed) for negatives, feed in self.contrasts.items()} for _ in taken]
        for seat in self.alive:
            parts = [
                self._part(seat, batch, images, answer, contrasts, epoch, step, size)
                for batch, images, answer, contrasts in zip(taken, prepared, answers, drawn, strict=True)
            ]
            self._lane_step(seat, parts)
        self.pace.steps += 1
        self.pace.images += size

    def _lane_step(self, seat: Seat, parts: Sequence[Part]) -> None:
        began = time.monotonic()
        try:
            seat.lane.step(parts)
        except Exception as cause:  # noqa: BLE001  # a method is a stranger's code; other lanes must not fall with it
            self._failed(seat, _known(seat, cause))
        seat.lane.seconds += time.monotonic() - began

    def _failed(self, seat: Seat, failure: Exception) -> None:
        if self.session.fail_fast:
            raise failure
        seat.failure = failure
        known = isinstance(failure, CompressorError)
        message = str(failure) if known else f"{seat.lane.name}: {type(failure).__name__}: {failure}"
        hint = failure.hint if isinstance(failure, CompressorError) else None
        seat.tell(self.session, LaneFailed(lane=seat.lane.name, message=message, hint=hint))

    def _part(
        self,
        seat: Seat,
        batch: ImageBatch,
        images: Prepared,
        answers: Any,
        contrasts: Mapping[Negatives, Tensor],
        epoch: int,
        step: int,
        size: int,
    ) -> Part:
        needs = seat.lane.needs
        contrast = None if needs.negatives is None else contrasts[needs.negatives]
        seen = Batch(
            labels=batch.labels,
            views=needs.views.count,
            epoch=epoch,
            step=step,
            progress=step / max(1, self.steps),
            index_or_none=batch.index if needs.index or contrast is not None else None,
            contrast_or_none=contrast,
            note=seat.lane.note,
            gather=self.session.runtime.gather,
        )
        pixels = self.plan.select(images.for_network(seat.normalisation), needs.views)
        teacher: ModelOutput = self.plan.answer_for(needs, answers)
        own = seat.lane.own_teacher if needs.own_teacher else None
        return Part(
            images=pixels,
            batch=seen,
            teacher=teacher,
            weight=len(batch.labels) / size,
            own_teacher_images=(
                None if own is None else self.plan.select(images.for_network(own.normalisation), needs.views)
            ),
        )

    def _after_step(self, epoch: int, *, last: bool) -> None:
        if not self.alive:
            return
        if last:
            self._end_of_epoch(epoch)
        elif time.monotonic() - self.pace.reported >= self._report_every:
            self._report(epoch)
        stopping = self.session.runtime.any_of(self.session.stop.asked)
        if stopping or self._saving_is_due(last):
            self._save()
        if stopping:
            raise self.session.stop.stopped(self.alive[0].lane.position.step)

    def _saving_is_due(self, last: bool) -> bool:
        return self.session.runtime.any_of(self.pace.saving_is_due(self.session.save_every, end_of_epoch=last))

    def _save(self) -> None:
        """Save every lane of the loop; a weight that is not finite never becomes a checkpoint."""
        self.answers.flush()
        for seat in self.alive:
            try:
                self._save_lane(seat)
            except TrainingError as failure:
                self._failed(seat, failure)
        self.pace.saved = time.monotonic()
        self.session.runtime.wait_for_everyone()

    def _save_lane(self, seat: Seat) -> None:
        lane, began = seat.lane, time.monotonic()
        lane.check_finite(lane.meter.means())
        own, lane.meter = lane.meter, lane.meter.of_all(self.session.runtime.gather)
        try:
            if seat.checkpoints is None or not self.session.runtime.is_main:
                return
            path = seat.checkpoints.save(lane)
        finally:
            lane.meter = own
        taken = time.monotonic() - began
        seat.tell(self.session, Saved(lane=lane.name, step=lane.position.step, path=str(path), seconds=taken))
        self.pace.saving_cost = taken * len(self.seats)

    def _end_of_epoch(self, epoch: int) -> None:
        for seat in self.alive:
            try:
                seat.lane.check_finite(seat.lane.meter.means())
                close_epoch(
                    seat,
                    self.session,
                    epoch=epoch,
                    epochs=self.epochs,
                    steps=self.steps,
                    look=self.evaluate,
                    rates=self._rates(seat),
                )
            except TrainingError as failure:
                self._failed(seat, failure)

    def _rates(self, seat: Seat) -> dict[str, float]:
        return self.pace.rates(self.steps - seat.lane.position.step, lanes=len(self.alive))

    @property
    def _report_every(self) -> float:
        return _REPORT_EVERY_ON_ACCELERATORS if self.session.runtime.asynchronous else _REPORT_EVERY

    def _report(self, epoch: int) -> None:
        self.pace.reported = time.monotonic()
        for seat in self.alive:
            means = seat.lane.meter.means()
            event = Progress(
                lane=seat.lane.name,
                phase=seat.lane.phase.name,
                epoch=epoch + 1,
                epochs=self.epochs,
                step=seat.lane.position.step,
                steps=self.steps,
                loss=sum(means.values()),
                terms=means,
                **self._rates(seat),
            )
            seat.tell(self.session, event)


def _known(seat: Seat, cause: Exception) -> Exception:
    """Turn what torch reports as a plain RuntimeError into a line for the user; anything else stays as it is."""
    size, step = seat.lane.training.batch_size, seat.lane.position.step
    text = str(cause).splitlines()[0][:120] if str(cause) else ""
    if isinstance(cause, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return TrainingError(
            f"{seat.lane.name}: out of memory at step {step} with batches of {size}: {text}",
            hint=f"--micro-batches 2 (the same steps in halves), or --batch-size {max(1, size // 2)}",
            code="training.out_of_memory",
        )
    if text.startswith("DataLoader worker"):
        hint = "the machine may be short of memory: --workers 0, then the same command again"
        return TrainingError(f"{seat.lane.name}: a data worker died at step {step}: {text}", hint=hint)
    return cause
