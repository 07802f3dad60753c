"""Before a loop begins: which views' answers are kept, by what fits the disk, and a line that says so."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from compressor.data.pool import pictures_each
from compressor.data.types import Split
from compressor.engine.replay import Replay, SlotAnswers, answers_folder, kept_bytes
from compressor.engine.replay_keys import described, expected_new
from compressor.engine.replay_table import Layout
from compressor.engine.session import Session
from compressor.engine.views import SlotPlan
from compressor.events import Fact, Warned
from compressor.models.taps import Wanted
from compressor.storage import readable_bytes

_LARGE = 1_000_000_000  # bytes whose check takes seconds


@dataclass(frozen=True)
class Kept:
    """What is kept for a loop: by slot, and the share of the pictures it sees that will have to be computed."""

    slots: Mapping[int, SlotAnswers] = field(default_factory=dict)
    computed: float = 1.0


def open_kept(
    session: Session, plan: SlotPlan, split: Split, epochs: int, layout_of: Callable[[Wanted], Layout]
) -> Kept:
    """Open what is kept of each slot that the teacher is shown, and say what will be.

    Slot by slot, what the loop will add is kept if it fits whole into the room that is left; otherwise what is there
    is read, and nothing added. Slots of which nothing is or will be kept are absent.
    """
    replay, teacher, augmentation = session.replay, session.teacher, session.augmentation
    if replay is None or teacher is None or not (augmentation.pool or augmentation.numbered) or not plan.teacher:
        return Kept()
    folder, writing = replay.open(described(session, teacher, split), teacher.name)
    each, room, there = pictures_each(augmentation), replay.room(), kept_bytes(folder)
    if there > _LARGE:
        text = f"checking {readable_bytes(there)} kept in {folder}"
        session.listener(Fact(title="Answers", text=text))
    kept: dict[int, SlotAnswers] = {}
    added = refused = computed = 0
    for number, wanted in plan.teacher.items():
        slot = replay.slot(folder, plan.slots[number], wanted, layout_of, len(split) * each, writing=writing)
        unknown = expected_new(len(split), each, epochs, len(slot), pool=augmentation.pool > 0)
        missing = unknown * slot.own.layout.row_bytes
        fits = missing <= room - added
        added, refused = (added + missing, refused) if fits else (added, refused + missing)
        computed += unknown if fits else len(split) * epochs
        slot.own.writing = writing and fits
        if (fits and not replay.looking) or len(slot):  # what another run is writing may be read as it comes
            kept[number] = slot
    _tell(session, replay, folder, kept, added=added, refused=refused, room=room)
    return Kept(kept, computed / (len(split) * epochs * len(plan.teacher)))


def _tell(
    session: Session,
    replay: Replay,
    folder: Path,
    kept: dict[int, SlotAnswers],
    *,
    added: int,
    refused: int,
    room: int,
) -> None:
    known = sum(len(slot) for slot in kept.values())
    folder = answers_folder() if replay.looking else folder
    text = (
        f"{known:,} of the teacher kept before, {readable_bytes(added)} to come in {folder}   "
        f"{readable_bytes(replay.memory_bytes)} of memory"
    )
    session.listener(Fact(title="Answers", text=text))
    for message in _warnings(replay, refused, room):
        session.listener(Warned(message=message))


def _warnings(replay: Replay, refused: int, room: int) -> list[str]:
    found = []
    if replay.damaged:
        found.append(f"{replay.damaged} damaged files of kept answers were left out: they are computed anew")
    if refused:
        found.append(
            f"{readable_bytes(refused)} of answers do not fit into the {readable_bytes(max(0, room))} they may take: "
            "the teacher computes those each time; --replay-limit SIZE says how much they may"
        )
    if replay.refusal:
        found.append(f"answers are read but none are added: {replay.refusal}")
    return found
