"""The end of an epoch: a look at the held-out images, a line in the history, an event."""

from collections.abc import Mapping
from typing import Any

from compressor.engine.evaluate import predict
from compressor.engine.lanes import Lane
from compressor.engine.meters import Meter, Notes
from compressor.engine.session import Seat, Session
from compressor.events import EpochDone

WATCHED = "test_top1"
"""Column of ``metrics.csv``: accuracy on the test images after an epoch, where `RuntimeConfig.watch_test` asks."""


def close_epoch(
    seat: Seat, session: Session, *, epoch: int, epochs: int, steps: int, look: bool, rates: Mapping[str, float]
) -> None:
    """Write down what an epoch of a lane brought, and begin the next one's sums.

    Args:
        epoch: from 0. look: evaluate the student where the settings say that it is time. rates: see `Pace.rates`.

    Raises:
        TrainingError: the student's answers to the held-out images are not finite.
    """
    lane = seat.lane
    means = lane.meter.of_all(session.runtime.gather).means()
    row: dict[str, Any] = {
        "phase": lane.phase.name,
        "epoch": epoch,
        "train_loss": sum(means.values()),
        "lr": lane.rate.now,
        "seconds": round(lane.seconds, 3),
        **(_look(seat, session, epoch, epochs) if look else {}),
        **means,
        **lane.notes.means(),
    }
    lane.history.append(row)
    lane.meter, lane.notes = Meter(), Notes()
    seat.log.metrics(lane.history)
    seat.tell(session, _event(lane, row, means, epochs, steps, rates))


def _look(seat: Seat, session: Session, epoch: int, epochs: int) -> dict[str, float]:
    if not _due(seat.lane, epoch, epochs) or not seat.lane.phase.runs_student:
        return {}
    watched = _watch(seat, session) if session.watch_test and seat.lane.in_last_phase else {}
    return {**_held_out(seat, session, epoch), **watched}


def best_watched(lane: Lane) -> float | None:
    """Return the best accuracy on the test images over the looks of the last phase; None unless every look was one.

    A run that was begun without looking at the test images, and goes on with it, has seen too few to say.
    """
    mine = [row for row in lane.history if row["phase"] == lane.phase.name]
    looks = [row for row in mine if _due(lane, row["epoch"], len(mine))]
    if not looks or any(WATCHED not in row for row in looks):
        return None
    return max(float(row[WATCHED]) for row in looks)


def _due(lane: Lane, epoch: int, epochs: int) -> bool:
    return (epoch + 1) % lane.training.evaluate_every == 0 or epoch + 1 == epochs


def _watch(seat: Seat, session: Session) -> dict[str, float]:
    """Look at the test images as papers do that report the best of their looks; nothing is chosen by it."""
    return {WATCHED: predict(seat.lane.exported, session.data.test, seat.normalisation).top1}


def _held_out(seat: Seat, session: Session, epoch: int) -> dict[str, float]:
    lane, val = seat.lane, session.data.val
    if val is None:
        return {}
    net = lane.exported
    seen = predict(net, val, seat.normalisation)
    lane.check_finite({"held-out loss": seen.loss})  # else the answers of a network that is lost might be the best
    if lane.in_last_phase and (lane.best.top1 is None or seen.top1 > lane.best.top1):
        lane.best.top1, lane.best.epoch = seen.top1, epoch
        lane.best.weights = {key: value.detach().clone() for key, value in net.state_dict().items()}
    return {"eval_loss": seen.loss, "eval_top1": seen.top1, "eval_top5": seen.top5}


def _event(
    lane: Lane, row: Mapping[str, Any], means: Mapping[str, float], epochs: int, steps: int, rates: Mapping[str, float]
) -> EpochDone:
    return EpochDone(
        lane=lane.name,
        phase=lane.phase.name,
        epoch=row["epoch"] + 1,
        epochs=epochs,
        step=lane.position.step,
        steps=steps,
        loss=row["train_loss"],
        terms=means,
        lr=row["lr"],
        val_top1=row.get("eval_top1"),
        val_loss=row.get("eval_loss"),
        best_top1=lane.best.top1,
        best_epoch=None if lane.best.epoch is None else lane.best.epoch + 1,
        **rates,
    )
