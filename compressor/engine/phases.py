"""The order of things: phases of a lane's own first, then the last phase together with every lane at its step."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from compressor.engine.artefacts import supply as supply_artefact
from compressor.engine.lanes import Position
from compressor.engine.optimisation import schedule_of
from compressor.engine.session import Seat, Session
from compressor.engine.trainer import PhaseLoop
from compressor.errors import CompressorError
from compressor.events import LaneFailed


def train(seats: Sequence[Seat], session: Session) -> None:
    """Bring every lane to the end of its last phase: phases of its own alone, the last one with all at its step.

    Raises:
        Stopped: somebody asked; every lane's place is saved. Errors of a lane, when the session says so.
    """
    for seat in seats:
        while seat.failure is None and not seat.lane.in_last_phase:
            _advance(seat, session)
    together: dict[tuple[Any, ...], list[Seat]] = defaultdict(list)
    for seat in seats:
        if seat.failure is None:
            lane = seat.lane
            epochs = schedule_of(lane.training, lane.phase.schedule).epochs
            key = (lane.position.step, epochs, lane.training.batch_size, lane.training.micro_batches, lane.seed)
            together[key].append(seat)
    for group in together.values():
        PhaseLoop(group, session, session.data.train, order="student", evaluate=True).run()


def _advance(seat: Seat, session: Session) -> None:
    lane = seat.lane
    try:
        if schedule_of(lane.training, lane.phase.schedule).epochs > 0:
            if lane.phase.artefact:
                supply_artefact(lane, session)
            else:
                PhaseLoop([seat], session, session.data.train, order=lane.phase.name, evaluate=False).run()
    except CompressorError as failure:
        if session.fail_fast or failure.exit_code in (4, 130, 143):
            raise
        seat.failure = failure
        seat.tell(session, LaneFailed(lane=lane.name, message=failure.message, hint=failure.hint))
        return
    if seat.failure is None:
        lane.position = Position(lane.position.phase + 1, 0)
        lane.begin()
        if seat.checkpoints is not None and session.runtime.is_main:
            seat.checkpoints.save(lane)
