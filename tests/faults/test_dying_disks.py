"""K1, K2: a process that dies before any file operation, or within any write, loses nothing that was saved.

Each state is the disk as it is when the process dies at that moment: the command waits while the same command goes on
from a copy. A sample, at night all of them, dies for real.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from fault_disks import DIED
from fault_runs import Stage, compare, distill, facts, publish, states_of, table, teach, weights
from figures import NIGHTLY, count, note

SHORT = {"training__epochs": 2}
COMMANDS = {
    "distill": distill(**SHORT),
    "artefact": distill("sskd", training__epochs=1),
    "teach": teach(),
    "compare": compare(training__epochs=1),
    "publish": publish(),
}
SHARDS = 2


def prepared(stage: Stage, name: str) -> Path:
    place = stage.place(bank=name != "teach")
    if name == "publish":
        done = stage.run(distill(**SHORT), place)
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


def saved(said: list[str]) -> dict[str, int]:
    """The last step that was told to be saved, for the teacher and for students, in a run that is not finished."""
    return {words.split()[0]: int(words.split()[2]) for words in said if " saved " in words}


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", COMMANDS)
def test_death_before_any_operation_or_within_any_write_changes_nothing(name: str, shard: int, stage: Stage) -> None:
    place = prepared(stage, name)
    seen: list[tuple[str, Any]] = []
    for number, state in enumerate(states_of(stage, COMMANDS[name], place)):
        if number % SHARDS != shard:
            continue
        done = stage.run(COMMANDS[name], state.place)
        story = f"{name} died {state.moment}:\n{done.output}"
        assert done.status == 0, story
        assert "Traceback" not in done.output, story
        seen.append((story, outcome(name, state.place)))
    wanted = outcome(name, place)
    assert len(seen) > 10
    for story, got in seen:
        assert got == wanted, story
    note("K1", tried=len(seen), exits=[0] * len(seen))
