"""G1, G2, G4: signals at any moment, a terminal that closes, a reader that goes, a pause: all is kept."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_client import ROOT, Child
from fault_runs import Stage, distill, environ, facts, student
from figures import NIGHTLY, SEED, count, note
from test_other_surroundings import photo_run, write_photos

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
TEACHER = ("teacher student from 0", "teacher saved 12", "teacher student epoch 2")
STUDENT = ("run student from 0", "run saved 4", "run student epoch 1", "run saved 15", "finishing kd s0")
PROMPT = 10.0  # seconds within which a signal is answered


@dataclass(frozen=True)
class Shot:
    """A signal, once or twice, to a process or its whole group, some moments after it has said something."""

    words: str
    number: signal.Signals
    group: bool
    twice: bool
    delay: float

    def at(self, child: Child) -> int:
        """Shoot, and return the exit status."""
        child.hear(self.words)
        time.sleep(self.delay)
        for _ in range(1 + self.twice):
            child.signal(self.number, group=self.group)
        child.release()
        return child.wait(PROMPT)


def some_shot(chance: random.Random, words: tuple[str, ...]) -> Shot:
    return Shot(
        words=chance.choice(words),
        number=chance.choice([signal.SIGINT, signal.SIGTERM]),
        group=chance.random() < 0.5,
        twice=chance.random() < 0.25,
        delay=chance.choice([0.0, chance.uniform(0, 0.1)]),
    )


def nobody_is_left(child: Child) -> bool:
    """Whether its process group is empty, within the five seconds that a data worker takes to miss its parent."""
    deadline = time.monotonic() + 7
    while time.monotonic() < deadline:
        try:
            os.killpg(child.pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def check_stopped(place: Path, child: Child, shot: Shot, story: str) -> None:
    """The exit code is the signal's; unless a second one came, the step that is told is the one that was saved."""
    assert "Traceback" not in child.output, story
    if child.status == 0:  # it came too late: all is there
        assert (place / "run" / "result.json").is_file(), story
        return
    before_all = -int(shot.number) if shot.number != signal.SIGINT else CODES[shot.number]
    assert child.status in (CODES[shot.number], before_all), story
    told = re.findall(r"Saved step (\d+)", child.output)
    if told:
        newest = max(place.rglob("checkpoints/step-*/manifest.json"), key=lambda file: file.parent.name).parent.name
        assert int(newest[-8:]) == int(told[-1]), story
        assert "resume with the same command" in child.output, story
    else:
        assert shot.twice or child.status == before_all, story


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_signal_at_any_moment_is_answered_and_the_run_goes_on_to_the_same_bits(kind: str, stage: Stage) -> None:
    undisturbed = stage.place(bank=kind == "student")
    assert stage.run(distill(), undisturbed).status == 0
    wanted, chance = facts(undisturbed), random.Random(f"{kind} {SEED}")
    shots, exits = count(7, 45), []
    for _ in range(shots):
        place = stage.place(bank=kind == "student")
        shot = some_shot(chance, TEACHER if kind == "teacher" else STUDENT)
        child = stage.start(distill(), place)
        status = shot.at(child)
        story = f"{shot} -> {status}\n{child.output}"
        check_stopped(place, child, shot, story)
        assert nobody_is_left(child), story
        exits.append(status)
        assert stage.run(distill(), place).status == 0, story
        assert facts(place) == wanted, story
        shutil.rmtree(place)
    assert {130, 143} & set(exits)
    note("G1", tried=shots, exits=exits)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["INT", "TERM"])
def test_group_with_data_workers_stops_and_leaves_nobody(number: signal.Signals, stage: Stage) -> None:
    place = stage.place(bank=False)
    write_photos(place)
    undisturbed = stage.copy(place)
    assert stage.run(photo_run(2), undisturbed).status == 0
    shot = Shot("run saved 4", number, group=True, twice=False, delay=0.0)
    child = stage.start(photo_run(2), place, hold_at=shot.words)
    assert shot.at(child) == CODES[number], child.output
    assert "Saved step 5" in child.output  # the one that it is in
    check_stopped(place, child, shot, child.output)
    assert nobody_is_left(child)
    assert stage.run(photo_run(2), place).status == 0
    assert student(place) == student(undisturbed)
    note("G1", tried=1, exits=[CODES[number]])


@pytest.mark.parametrize("seconds", [0.02, 0.3, 1.0] if not NIGHTLY else [0.05 * number for number in range(1, 40)])
def test_signal_while_everything_is_imported_ends_quietly(seconds: float, stage: Stage) -> None:
    place = stage.place()
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "plugins", ROOT / "zoo")))
    given = {key: value for key, value in environ(place).items() if value}
    command = [sys.executable, "-m", "compressor", *distill()]
    with subprocess.Popen(
        command, cwd=place, env={**os.environ, **given, "PYTHONPATH": paths}, stderr=subprocess.PIPE, text=True
    ) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    # The interpreter's own start answers with 1, before there is anything of ours.
    early = said.startswith(("Fatal Python error: init_", "Could not import runpy module"))
    assert process.returncode in (0, 130, -signal.SIGINT, *([1] if early else [])), said
    if ", in run\n" in said:  # later than the interpreter's own start
        assert "Traceback" not in said
    note("G1", tried=1, exits=[process.returncode])


def test_terminal_that_closes_stops_the_run_as_sigterm_does(stage: Stage) -> None:
    undisturbed, place = stage.place(), stage.place()
    assert stage.run(distill(), undisturbed).status == 0
    child = stage.server.run("compress_in_closing_terminal", place, environ(place), args=distill(), words="run saved 4")
    assert child.status == CODES[signal.SIGHUP], child.output
    assert "Traceback" not in child.output
    again = stage.run(distill(), place)
    assert again.status == 0
    assert (again.last("run student from") or 0) >= 4
    assert student(place) == student(undisturbed)
    note("G2", tried=1, exits=[143])


@pytest.mark.parametrize("streams", [[1], [2], [1, 2]], ids=["stdout", "stderr", "both"])
def test_reader_that_has_gone_changes_nothing(streams: list[int], stage: Stage) -> None:
    place = stage.place()
    child = stage.server.run("compress_without_reader", place, environ(place), args=distill(), streams=streams)
    assert child.status == 0, child.output
    assert "Traceback" not in child.output
    assert "BrokenPipe" not in child.output
    assert (place / "run" / "result.json").is_file()
    note("G2", tried=1, exits=[0])


def test_run_that_was_paused_goes_on_and_counts_the_pause_once_at_most(stage: Stage) -> None:
    undisturbed, place = stage.place(), stage.place()
    assert stage.run(distill(), undisturbed).status == 0
    pause = 60.0 if NIGHTLY else 0.7
    began = time.monotonic()
    child = stage.start(distill(), place, hold_at="run saved 4")
    assert child.hear("run saved 4")
    child.signal(signal.SIGSTOP)
    child.release()
    time.sleep(pause)
    child.signal(signal.SIGCONT)
    assert child.wait() == 0, child.output
    elapsed = time.monotonic() - began
    assert facts(place) == facts(undisturbed)
    assert json.loads((place / "run" / "result.json").read_text())["cost"]["train_seconds"] <= elapsed
    for line in (place / "run" / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "EpochDone":
            assert 0 <= event["data_wait"] <= 1
            assert event["seconds_left"] <= 15 * elapsed
    note("G4", tried=1)
