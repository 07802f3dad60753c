"""The teacher's answers to a batch: computed, or replayed where the same pictures were answered before."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from compressor.data.types import ImageBatch, Split
from compressor.distiller import ModelOutput
from compressor.engine.answer_parts import answer_of, difference, merged, parts_of
from compressor.engine.replay import SlotAnswers
from compressor.engine.replay_keys import parts_name
from compressor.engine.replay_plan import open_kept
from compressor.engine.replay_table import Layout, Numbers
from compressor.engine.session import Prepared, Session, Teacher
from compressor.engine.teacher_pass import pass_of
from compressor.engine.views import SlotPlan
from compressor.errors import InputError, StorageError
from compressor.events import Fact, Warned
from compressor.models.taps import Wanted

_ROWS_A_CALL = 16
_SAMPLE = 16
_FLUSH_EVERY = 60.0  # seconds
TOLERANCE = {"fp32": 2e-3, "fp16": 2e-2, "bf16": 1e-1}
"""Largest difference of a kept and a computed answer, over the largest number in the computed one: with another number
of rows in a call, or reduced precision, the same sums are added up in another order."""


class Answers:
    """Answers of a session's teacher to the batches of one loop.

    Until `prepare` every answer is computed. Then, where the session keeps answers, a picture that was answered before,
    by this run or another one, is looked up. The others are computed in calls of a fixed number of rows, so that an
    answer does not depend on how many of its neighbours were known.

    Args:
        rows_a_call: those of a whole batch, or of a process's part of it. With fresh draws most batches are known in
            part, and calls have 16 rows.
        warn: takes a line where the teacher's pass cannot be recorded.

    Attributes:
        computed, replayed: pictures so far. seconds: of computing, as far as the device lets itself be timed.
    """

    def __init__(
        self, session: Session, plan: SlotPlan, split: Split, rows_a_call: int, warn: Callable[[str], None]
    ) -> None:
        self._session = session
        teacher, recorder = session.teacher, session.runtime.recorder
        self._pass = None if teacher is None else pass_of(teacher.tapped, recorder, warn)
        self._plan = plan
        self._split = split
        self._rows_a_call = rows_a_call if session.augmentation.pool else _ROWS_A_CALL
        self._kept: dict[int, SlotAnswers] = {}
        self._unchecked: set[int] = set()
        self._layouts: dict[str, Layout] = {}
        self.computed = 0
        self.replayed = 0
        self.seconds = 0.0
        self._flushed = time.monotonic()

    def prepare(self, epochs: int) -> float:
        """Open what is kept for a loop of so many epochs, see `open_kept`; return the share that will be computed."""
        kept = open_kept(self._session, self._plan, self._split, epochs, self._layout)
        self._kept = dict(kept.slots)
        self._unchecked = {number for number, slot in self._kept.items() if len(slot)}
        return kept.computed

    def of(self, batch: ImageBatch, images: Prepared) -> Mapping[int, ModelOutput]:
        """Return the answer to every slot that some lane wants, rows in the order of the batch.

        Raises:
            InputError: a kept answer is not the teacher's; the message names the folder.
        """
        teacher = self._session.teacher
        if teacher is None or self._pass is None or not self._plan.teacher:
            return {}
        if not self._kept:
            self.computed += len(batch.index) * len(self._plan.teacher)
            began = time.monotonic()
            with self._session.runtime.autocast():
                answers = self._plan.answers(self._pass, images.for_network(teacher.normalisation))
            self.seconds += time.monotonic() - began
            return answers
        return {slot: self._answer(teacher, slot, batch, images) for slot in self._plan.teacher}

    def begin_epoch(self) -> None:
        """Share between processes what was computed in the epoch before, and take in what other runs have written."""
        replay, runtime = self._session.replay, self._session.runtime
        if replay is None:
            return
        if runtime.world > 1:  # also where this process keeps nothing: others may, and wait here
            self.flush(now=True)
            runtime.wait_for_everyone()
            replay.refresh()
        elif not any(slot.own.writing for slot in self._kept.values()):
            replay.refresh()

    def close(self) -> None:
        """Write what was computed, and say how much that was."""
        if self._kept:
            self.flush(now=True)
            text = f"{self.computed:,} of the teacher computed, {self.replayed:,} replayed"
            self._session.listener(Fact(title="Answers", text=text))

    def flush(self, *, now: bool = False) -> None:
        """Write what was computed, once a minute at most unless ``now``.

        What is lost with the process is computed again; a disk that refuses ends the keeping, and not the run.
        """
        if self._session.replay is None or not (now or time.monotonic() - self._flushed > _FLUSH_EVERY):
            return
        self._flushed = time.monotonic()
        try:
            self._session.replay.flush()
        except StorageError as refusal:
            self._stop_keeping(refusal)

    def _answer(self, teacher: Teacher, slot: int, batch: ImageBatch, images: Prepared) -> ModelOutput:
        wanted, kept = self._plan.teacher[slot], self._kept.get(slot)
        if kept is None or batch.draw is None:
            self.computed += len(batch.index)
            return self._call(teacher, images.for_network(teacher.normalisation)[:, slot], wanted)
        numbers: Numbers = batch.draw[:, slot].contiguous().numpy()
        found = kept.has(numbers)
        known, unknown = np.flatnonzero(found), np.flatnonzero(~found)
        if slot in self._unchecked and len(known):
            self._check(teacher, slot, kept, numbers, known[:_SAMPLE], images)
        self.computed += len(unknown)
        self.replayed += len(known)
        if len(unknown) == 0:
            old = kept.read(numbers)
            return answer_of({name: part.to(batch.images.device) for name, part in old.items()}, wanted)
        fresh = self._computed(teacher, slot, unknown, images)
        self._keep(kept, numbers[unknown], fresh)
        if len(known):
            old = kept.read(numbers[known])
            fresh = {name: merged(known, old[name], unknown, part) for name, part in fresh.items()}
        return answer_of(fresh, wanted)

    def _computed(self, teacher: Teacher, slot: int, places: Numbers, images: Prepared) -> dict[str, Tensor]:
        """Show the teacher some rows of a batch, the last call filled up with some of them again."""
        rows, wanted = self._rows_a_call, self._plan.teacher[slot]
        padded = torch.from_numpy(np.resize(places, -(-len(places) // rows) * rows))
        pixels = images.for_network(teacher.normalisation)[:, slot]
        shown = torch.split(pixels[padded.to(pixels.device)], rows)
        calls = [parts_of(self._call(teacher, part, wanted), wanted) for part in shown]
        return {name: torch.cat([call[name] for call in calls])[: len(places)].contiguous() for name in calls[0]}

    def _call(self, teacher: Teacher, pixels: Tensor, wanted: Wanted) -> ModelOutput:
        began = time.monotonic()
        with self._session.runtime.autocast(), torch.no_grad():
            answer: ModelOutput = (self._pass or teacher.tapped)(pixels, wanted)
        self.seconds += time.monotonic() - began
        return answer

    def _check(
        self, teacher: Teacher, slot: int, kept: SlotAnswers, numbers: Numbers, places: Numbers, images: Prepared
    ) -> None:
        """Compare some answers that were kept before the loop, in the first batch that has any, with computed ones."""
        self._unchecked.discard(slot)
        old, now = kept.read(numbers[places]), self._computed(teacher, slot, places, images)
        allowed = TOLERANCE[self._session.runtime.precision]
        for name, part in now.items():
            found = difference(old[name], part)
            if not found <= allowed:
                raise InputError(
                    f"{name} kept in {kept.folder} are not what the teacher answers: they differ by "
                    f"{100 * found:.3g} %, {100 * allowed:g} % are allowed",
                    hint=f"rm -r '{kept.folder}'",
                    code="answers.differ",
                )

    def _keep(self, kept: SlotAnswers, numbers: Numbers, values: Mapping[str, Tensor]) -> None:
        if not kept.own.writing:
            return
        try:
            kept.own.add(numbers, values)
        except StorageError as refusal:
            self._stop_keeping(refusal)

    def _stop_keeping(self, refusal: StorageError) -> None:
        for slot in self._kept.values():
            slot.own.writing = False
        text = f"no more of the teacher's answers are kept, the run goes on: {refusal.message}"
        self._session.listener(Warned(message=text))

    def _layout(self, wanted: Wanted) -> Layout:
        """Find out by two blank images what a row of these answers holds."""
        name = parts_name(wanted)
        if name not in self._layouts:
            teacher, session = self._session.teacher, self._session
            assert teacher is not None
            blank = torch.zeros(2, *session.data.image_size, device=session.runtime.device)
            self._layouts[name] = Layout.of(parts_of(self._call(teacher, blank, wanted), wanted))
        return self._layouts[name]
