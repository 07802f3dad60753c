"""G3: a wall clock that is wrong or jumps changes nothing but labels; the newest checkpoint is the last step's."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fault_client import Child
from fault_runs import Stage, distill, environ, facts
from figures import note

DAY, YEAR = 86_400.0, 365 * 86_400.0


def at(stage: Stage, place: Path, offset: float, words: str = "", jump: float = 0.0, **more: Any) -> Child:
    given = {"args": distill(), "offset": offset, "words": words, "jump": jump, **more}
    return stage.server.start("compress_at_another_time", place, environ(place), **given)


def durations(place: Path) -> list[float]:
    """Every duration and rate that a run wrote down."""
    wanted = ("seconds", "seconds_left", "images_per_second", "data_wait", "train_seconds")
    events = [json.loads(line) for line in (place / "run" / "events.jsonl").read_text().splitlines()]
    cost = json.loads((place / "run" / "result.json").read_text())["cost"]
    rows: list[dict[str, Any]] = [*events, cost]
    found = [float(row[key]) for row in rows for key in wanted if key in row]
    assert len(found) > 10
    return found


@pytest.mark.parametrize(
    ("first", "second"), [(10 * YEAR, 0.0), (0.0, -DAY), (-30 * YEAR, 10 * YEAR)], ids=["back", "yesterday", "far"]
)
def test_run_begun_and_ended_under_other_clocks_has_the_same_bits(first: float, second: float, stage: Stage) -> None:
    undisturbed, place = stage.place(), stage.place()
    assert stage.run(distill(), undisturbed).status == 0
    assert at(stage, place, first, die_at="run saved 8").wait() == -9
    done = at(stage, place, second)
    assert done.wait() == 0, done.output
    assert done.last("run student from") == 8
    assert facts(place) == facts(undisturbed)
    assert min(durations(place)) >= 0
    note("G3", tried=1, exits=[0])


@pytest.mark.parametrize("jump", [-YEAR, -3600.0, 3600.0], ids=["year-back", "winter", "summer"])
def test_clock_that_jumps_in_the_middle_makes_no_duration_negative(jump: float, stage: Stage) -> None:
    undisturbed, place = stage.place(), stage.place()
    assert stage.run(distill(), undisturbed).status == 0
    done = at(stage, place, 0.0, "run saved 8", jump)
    assert done.wait() == 0, done.output
    assert facts(place) == facts(undisturbed)
    found = durations(place)
    assert min(found) >= 0
    assert max(found[:-1]) < 1e6
    assert "eta_s=-" not in done.output
    note("G3", tried=1, exits=[0])


def test_newest_checkpoint_is_that_of_the_highest_step_whatever_its_date(stage: Stage) -> None:
    place = stage.place()
    assert stage.run(distill(), place, die_at="run saved 8").status == -9
    older, newer = sorted((place / "run" / "checkpoints").glob("step-*"))
    for folder, date in ((older, 2e9), (newer, 1e9)):
        for path in (folder, *folder.iterdir()):
            os.utime(path, (date, date))
    done = stage.run(distill(), place)
    assert done.status == 0
    assert done.last("run student from") == 8
    note("G3", tried=1, exits=[0])
