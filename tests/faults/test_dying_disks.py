"""K1, K2: a process that dies before any file operation, or within any write, loses nothing that was saved.

Each state is the disk as it is when the process dies at that moment: the command waits while the same command goes on
from a copy. A sample, at night all of them, dies for real.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fault_disks import DIED
from fault_runs import Stage, compare, distill, facts, publish, states_of, table, teach, weights
from figures import NIGHTLY, count, note

NEVER = 100


@dataclass(frozen=True)
class Case:
    """A command, how many steps lie between its checkpoints, and which share of its states a push tries."""

    args: list[str]
    save_every: int
    stride: int = 1


CASES = {
    "distill": Case(distill(training__epochs=2), save_every=4),
    "artefact": Case(distill("sskd", training__epochs=1), save_every=NEVER, stride=3),
    "teach": Case(teach(), save_every=14, stride=2),
    "compare": Case(compare(training__epochs=1), save_every=NEVER),
    "publish": Case(publish(), save_every=NEVER),
}
SHARDS = 2


def prepared(stage: Stage, name: str) -> Path:
    place = stage.place(bank=name != "teach")
    if name == "publish":
        done = stage.run(distill(training__epochs=1), place)
        assert done.status == 0, done.output
    return place


def outcome(name: str, place: Path) -> Any:
    """What must be the same as if nothing had happened."""
    if name in ("distill", "artefact"):
        return facts(place)
    if name == "compare":
        cells = json.loads((place / "comparison" / "cells.json").read_text())
        return table(place), len(cells), weights(place)
    return weights(place), sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.suffix != ".txt")


def last_saved(said: tuple[str, ...], who: str = "run") -> int:
    """The last step that was told to be saved, of the student or the ``teacher``."""
    return max((int(words.split()[2]) for words in said if words.startswith(f"{who} saved")), default=0)


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", CASES)
def test_death_before_any_operation_or_within_any_write_changes_nothing(name: str, shard: int, stage: Stage) -> None:
    case, place = CASES[name], prepared(stage, name)
    stride = 1 if NIGHTLY else case.stride
    seen: list[tuple[str, Any]] = []

    def mine(number: int) -> bool:
        return number % stride == 0 and number // stride % SHARDS == shard

    for state in states_of(stage, case.args, place, of=mine, save_every=case.save_every):
        done = stage.run(case.args, state.place, save_every=case.save_every)
        story = f"{name} died {state.moment}:\n{done.output}"
        assert done.status == 0, story
        assert "Traceback" not in done.output, story
        if name == "distill" and (begun := done.last("run student from")) is not None:
            assert begun >= last_saved(state.said), story
        seen.append((story, outcome(name, state.place)))
    wanted = outcome(name, place)
    assert len(seen) > 10
    for story, got in seen:
        assert got == wanted, story
    note("K2" if name == "artefact" else "K1", tried=len(seen), exits=[0] * len(seen))


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
def test_process_that_dies_for_real_goes_on_with_the_same_bits(torn: bool, stage: Stage) -> None:
    case, undisturbed = CASES["distill"], prepared(stage, "distill")
    whole = stage.run(case.args, undisturbed, save_every=case.save_every, disk={"kind": "count"})
    wanted = facts(undisturbed)
    moments = (
        [int(word) for word in whole.said[-1].split()[1:]] if torn else list(range(1, whole.last("operations") + 1))
    )
    stride = max(1, len(moments) // count(8, len(moments)))
    for number in moments[::stride]:
        place = prepared(stage, "distill")
        died = stage.run(
            case.args, place, save_every=case.save_every, disk={"kind": "die", "number": number, "torn": torn}
        )
        assert died.status == DIED
        done = stage.run(case.args, place, save_every=case.save_every)
        assert done.status == 0, done.output
        assert facts(place) == wanted, f"died at operation {number}:\n{done.output}"
    note("K2" if torn else "K1", tried=len(moments[::stride]), exits=[0] * len(moments[::stride]))
