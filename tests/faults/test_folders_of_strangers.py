"""Row D4: a stranger's run folder is given to every command that takes one; nothing outside of it is touched."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fault_runs import Stage, distill
from figures import SEED, count
from hostile_doors import FINISHED, RUN_DOORS, Answer, ask, check, finished_runs, report, through
from strangers import Plant, planted_links, planted_names, planted_oddities, planted_paths
from watch import TOKEN

from compressor.comparison.ledger.records import all_records, hash_of

STOPPED_DOOR = "go on"
DOORS = {**RUN_DOORS, STOPPED_DOOR: distill(out="RUN", **FINISHED)}


@pytest.fixture(scope="module")
def runs(stage: Stage) -> Path:
    """A place with two finished runs and one that was stopped."""
    return finished_runs(stage)


def give(runs: Path, stage: Stage, plants: Sequence[tuple[str, Plant, str]]) -> list[Answer]:
    """Plant each in a folder of its own and give that to the door beside it; nothing in ``secret`` may be touched."""
    place = stage.copy(runs)
    secret = place / "secret"
    secret.mkdir()
    shutil.copytree(place / "finished", secret / "finished")
    cases = []
    for number, (label, plant, door) in enumerate(plants):
        run = place / f"run{number}"
        shutil.copytree(place / ("stopped" if door == STOPPED_DOOR else "finished"), run)
        try:
            plant(run, secret)
        except FileNotFoundError:  # a stopped run has no student yet
            continue
        cases.append(
            {"label": f"{label}: {door}", "arguments": through(DOORS[door], run.name), "remove": ["published", "out"]}
        )
    kept = snapshot(secret)
    warm = [through(door, "finished") for name, door in RUN_DOORS.items() if not name.startswith("publish")]
    answers = ask(stage, place, cases, warm=[*warm, distill(out="stopped", **FINISHED)], secret=secret)
    assert snapshot(secret) == kept
    return answers


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of everything below a folder."""
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in folder.rglob("*")}


def some(plants: list[tuple[str, Plant]], number: int) -> list[tuple[str, Plant, str]]:
    """Choose plants, and a door for each, by the seed of this run of the tests."""
    pairs = [(*plant, door) for plant in plants for door in DOORS]
    return random.Random(SEED).sample(pairs, min(number, len(pairs)))


def test_nothing_outside_of_a_strangers_folder_is_touched(runs: Path, stage: Stage) -> None:
    sound = [("sound", lambda run, secret: None, door) for door in DOORS]
    hostile = [
        *some(planted_paths(), count(30, 1500)),
        *some(planted_names(), count(10, 400)),
        *some(planted_links(), count(20, 500)),
        *some(planted_oddities(), count(40, 2000)),
    ]
    answers = give(runs, stage, [*sound, *hostile])
    report("D4", answers[len(sound) :])
    check(answers[: len(sound)], exits=(0,))
    check(answers[len(sound) :], exits=(0, 2, 3, 4))
    assert not any("\x1b" in answer.said or "\x9b" in answer.said for answer in answers)


def forged_record(place: Path, name: str, change: Callable[[dict[str, Any]], object]) -> str:
    """Write a record of the ledger with other settings and a hash that is right; return the file's name."""
    listed = next(iter(all_records().values()))
    document = json.loads(json.dumps(listed.record.document()))
    change(document["config"])
    document["config_sha256"] = hash_of(document["config"])
    (place / f"{name}.json").write_text(json.dumps(document))
    return f"{name}.json"


def test_a_strangers_record_calls_nothing(stage: Stage) -> None:
    place = stage.place(bank=False)
    (place / f"{TOKEN}.py").write_text("def make(num_classes=3):\n    open('harmed', 'w')\n")
    changes: dict[str, Callable[[dict[str, Any]], object]] = {
        "student": lambda config: config["student"].update(name=f"{TOKEN}:make"),
        "teacher": lambda config: config["teacher"].update(name=f"{TOKEN}:make"),
        "abort": lambda config: config["student"].update(name="os:abort"),
        "no student": lambda config: config.pop("student"),
        "no table": lambda config: config.update(method=3),
        "settings": lambda config: config["method"].update(settings=[1]),
    }
    cases = [
        {"label": name, "arguments": ["reproduce", forged_record(place, name.replace(" ", ""), change)]}
        for name, change in changes.items()
    ]
    answers = ask(stage, place, cases, warm=[["reproduce", "--list"]])
    report("D4", answers)
    check(answers)
    assert not (place / "harmed").exists()
