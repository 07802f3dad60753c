"""Row D3: files that want to run something are given to every door; nothing runs."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fault_runs import DATA, Stage, distill
from figures import count
from hostile_doors import FILE_DOORS, FINISHED, RUN_DOORS, ask, check, finished_runs, report, through
from payloads import Payload, payloads
from watch import TOKEN

PAYLOADS = payloads()


def write(place: Path, number: int, payload: Payload) -> str:
    """Write a payload and return its name."""
    name = f"teacher{number}.{payload.ending}" if payload.ending else f"teacher{number}"
    (place / name).write_bytes(payload.content)
    return name


def test_there_are_enough_payloads_and_every_live_one_is_seen_by_the_watch(stage: Stage) -> None:
    place = stage.place()
    live = [(number, payload) for number, payload in enumerate(PAYLOADS) if payload.reader is not None]
    cases = [
        {"label": payload.kind, "path": write(place, number, payload), "reader": payload.reader}
        for number, payload in live
    ]
    answers = ask(stage, place, cases, do="unsafe")
    assert len(PAYLOADS) >= 60
    assert [answer.label for answer in answers if not answer.seen] == []
    assert len(live) > 0.8 * len(PAYLOADS)


@pytest.mark.parametrize("door", FILE_DOORS)
def test_no_payload_runs_through_any_door_that_takes_a_file(door: str, stage: Stage) -> None:
    place = stage.place()
    every = count(push=1 if door in ("convert", "eval --weights") else 5, nightly=1)
    chosen = list(enumerate(PAYLOADS))[list(FILE_DOORS).index(door) % every :: every]
    cases = [
        {"label": f"{door}: {payload.kind}", "arguments": FILE_DOORS[door](write(place, number, payload))}
        for number, payload in chosen
    ]
    (place / "warm.pth").write_bytes(b"nothing")
    answers = ask(stage, place, cases, warm=[FILE_DOORS[door]("warm.pth")])
    report("D3", answers)
    check(answers, names=[f"teacher{number}" for number, _ in chosen])
    left = {path.name for path in place.iterdir()}
    assert left <= {*cases_files(place), "cache", "config", "out", DATA, "answers.json", "output.txt", f"{TOKEN}.py"}


def cases_files(place: Path) -> list[str]:
    """List the weights files that the test itself wrote."""
    return [path.name for path in place.iterdir() if path.name.startswith(("teacher", "warm"))]


@pytest.fixture(scope="module")
def runs(stage: Stage) -> Path:
    """A place with two finished runs and one that was stopped."""
    return finished_runs(stage)


# Where a stranger may leave a pickle in a run's folder, and what is taken away so that somebody may fall back on it.
PLACES: Mapping[str, tuple[str, str]] = {
    "weights by another name": ("student/pytorch_model.bin", "student/model.safetensors"),
    "weights by any name": ("student/x.pth", "student/model.safetensors"),
    "weights themselves": ("student/model.safetensors", ""),
    "beside the weights": ("student/pytorch_model.bin", ""),
    "accelerate's custom checkpoint": ("custom_checkpoint_0.pkl", ""),
    "accelerate's random states": ("random_states_0.pkl", ""),
    "accelerate's optimizer": ("optimizer.bin", ""),
    "numpy's": ("metrics.npy", ""),
}


def test_no_pickle_in_a_run_folder_runs_through_any_door(runs: Path, stage: Stage) -> None:
    place = stage.copy(runs)
    combined = itertools.product(PLACES, RUN_DOORS)
    cases: list[dict[str, Any]] = []
    live = [payload for payload in PAYLOADS if payload.reader == "torch"]
    for number, (spot, door) in enumerate(combined):
        if number % count(push=7, nightly=1):
            continue
        run = f"run{number}"
        shutil.copytree(place / "finished", place / run)
        planted, taken = PLACES[spot]
        if taken:
            (place / run / taken).unlink()
        (place / run / planted).write_bytes(live[number % len(live)].content)
        cases.append(
            {"label": f"{spot}: {door}", "arguments": through(RUN_DOORS[door], run), "remove": ["published", "out"]}
        )
    warm = [through(door, "finished") for name, door in RUN_DOORS.items() if not name.startswith("publish")]
    answers = ask(stage, place, cases, warm=warm)
    report("D3", answers)
    check(answers, exits=(0, 3))
    lost = [answer for answer in answers if answer.label.startswith("weights ") and needs_weights(answer.label)]
    assert {answer.exit for answer in lost} == {3}


def needs_weights(label: str) -> bool:
    """Tell whether a door reads the student's weights at all."""
    return not label.endswith((": show", ": compare", ": distill again"))


def test_a_pickle_in_a_checkpoint_is_damage_and_does_not_run(runs: Path, stage: Stage) -> None:
    place = stage.copy(runs)
    live = [payload for payload in PAYLOADS if payload.reader == "torch"]
    cases = []
    for number, name in enumerate(
        ["random_states_0.pkl", "custom_checkpoint_0.pkl", "optimizer.bin", "lane.safetensors"]
    ):
        run = f"run{number}"
        shutil.copytree(place / "stopped", place / run)
        for checkpoint in (place / run / "checkpoints").iterdir():
            (checkpoint / name).write_bytes(live[number].content)
        cases.append({"label": name, "arguments": distill(out=run, **FINISHED)})
    answers = ask(stage, place, cases, warm=[distill(out="stopped", **FINISHED)])
    report("D3", answers)
    check(answers, names=["no whole checkpoint is left"] * len(answers))
