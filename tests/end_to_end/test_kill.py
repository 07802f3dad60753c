"""Real kills of a real command: whatever moment it dies at, the same command goes on and ends with the same bits.

``COMPRESSOR_KILLS`` says how many (6 unless told), ``COMPRESSOR_KILL_SEED`` which moments (0 unless told).
"""

import hashlib
import json
import os
import random
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import SHIPPED, TINY, write_data

KILLS = int(os.environ.get("COMPRESSOR_KILLS", "6"))
SEED = int(os.environ.get("COMPRESSOR_KILL_SEED", "0"))
STAGES = ("start", "teacher", "keep", "head", "after head", "student", "after student")
SETTINGS = {
    **TINY,
    **SHIPPED["sskd"],
    "method.name": "sskd",
    "training.epochs": 4,
    "runtime.save_every": 0.02,
    "runtime.threads": 1,
}
COMMAND = [
    "distill",
    "--out",
    "run",
    *(word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")),
]


@dataclass(frozen=True)
class Shot:
    """A signal, so many seconds after the run came to a stage."""

    stage: str
    delay: float
    number: int = signal.SIGKILL


class Server:
    """The process that forks, and the lines it says."""

    def __init__(self) -> None:
        here = Path(__file__).with_name("fork_server.py")
        path = os.pathsep.join([str(here.parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, str(here)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": path},
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)
        self.rest = ""
        assert self.line(120) == "ready"

    def line(self, seconds: float) -> str | None:
        """Return the next line, or None when none came in that time."""
        deadline = time.monotonic() + seconds
        while "\n" not in self.rest:
            if not self.selector.select(max(0.0, deadline - time.monotonic())):
                return None
            assert self.process.stdout is not None
            said = self.process.stdout.read()
            assert said, "the fork server died"
            self.rest += said.decode()
        first, _, self.rest = self.rest.partition("\n")
        return first

    def run(self, place: Path, shot: Shot | None = None) -> tuple[int, list[str]]:
        """Run the command in ``place``, perhaps shot at; returns its exit status and the stages it came to."""
        assert self.process.stdin is not None
        order = {"args": COMMAND, "cwd": str(place), "cache": str(place / "cache")}
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()
        stages: list[str] = []
        child, due = 0, None
        while True:
            said = self.line(120 if due is None else max(0.0, due - time.monotonic()))
            if said is None:
                assert due is not None, f"nothing happened for two minutes after {stages}"
                assert shot is not None
                with suppress(ProcessLookupError):  # it may have ended by itself just now
                    os.killpg(child, shot.number)
                due, shot = None, None
                continue
            kind, _, what = said.partition(" ")
            if kind == "exit":
                return int(what), stages
            if kind == "pid":
                child = int(what)
            else:
                stages.append(what)
            if shot is not None and due is None and child and shot.stage in stages:
                due = time.monotonic() + shot.delay

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.selector.close()
        self.process.wait(30)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="module")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = new_place(tmp_path_factory.mktemp("undisturbed"))
    status, stages = server.run(place)
    assert status == 0, (place / "output.txt").read_text()
    assert set(STAGES) <= set(stages)
    return place


def new_place(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    write_data(folder)
    return folder


def facts(place: Path) -> dict[str, Any]:
    """What must not depend on how often a run died: all weights, the metrics, and which files there are."""
    result = json.loads((place / "run" / "result.json").read_text())
    weights = {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(place.rglob("*.safetensors"))
    }
    files = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    return {
        "student": result["student"]["sha256"],
        "teacher": result["teacher"]["sha256"],
        "metrics": result["metrics"],
        "weights": weights,
        "files": [name for name in files if not name.endswith("log.txt")],
    }


def story(place: Path, shots: list[tuple[Shot, int]]) -> str:
    lines = [f"{shot.stage} +{shot.delay:.3f} s, signal {int(shot.number)} -> {status}" for shot, status in shots]
    return f"seed {SEED}: {lines}\n" + (place / "output.txt").read_text()[-3000:]


def stages_left(place: Path) -> list[str]:
    """Stages that a run which goes on will still come to."""
    left = list(STAGES)
    if list(place.glob("cache/compress/teachers/*/manifest.json")):
        left = [stage for stage in left if stage not in ("teacher", "keep")]
    if list(place.glob("cache/compress/artefacts/*/manifest.json")):
        left = [stage for stage in left if "head" not in stage]
    return left


@pytest.mark.slow
def test_killed_runs_go_on_and_end_with_the_same_bits(server: Server, undisturbed: Path, tmp_path: Path) -> None:
    wanted = facts(undisturbed)
    chance = random.Random(SEED)
    kills, runs, hit = 0, 0, dict.fromkeys(STAGES, 0)
    while kills < KILLS:
        runs += 1
        assert runs <= 20 + 10 * KILLS, "hardly any shot hits"
        place = new_place(tmp_path / f"run{runs}")
        shots: list[tuple[Shot, int]] = []
        for _ in range(chance.randint(1, 3)):
            left = stages_left(place)
            # The stage least often hit so far, so that every kind of moment has its share.
            stage = min(left, key=lambda name: (hit[name], chance.random()))
            shot = Shot(stage, chance.uniform(0.0, 0.25))
            status, _ = server.run(place, shot)
            shots.append((shot, status))
            assert status in (0, -signal.SIGKILL), story(place, shots)
            if status == 0:
                break
            kills += 1
            hit[stage] += 1
        status, _ = server.run(place)
        assert status == 0, story(place, shots)
        assert facts(place) == wanted, story(place, shots)
        shutil.rmtree(place)
    print(f"{kills} kills in {runs} runs, by stage: {hit}")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["teacher", "head", "student"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_signal_stops_the_command_with_its_exit_code_and_a_saved_place(
    number: int, code: int, stage: str, server: Server, undisturbed: Path, tmp_path: Path
) -> None:
    place = new_place(tmp_path / "place")
    status, _ = server.run(place, Shot(stage, 0.0, number))
    said = (place / "output.txt").read_text()
    assert status == code, said
    assert "Saved step" in said
    assert "resume with the same command" in said
    assert "Traceback" not in said
    assert list(place.rglob("checkpoints/step-*/manifest.json"))
    status, _ = server.run(place)
    assert status == 0, (place / "output.txt").read_text()
    assert facts(place) == facts(undisturbed)


@pytest.mark.slow
def test_finished_command_returns_at_once_and_changes_nothing(
    server: Server, undisturbed: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    shutil.copytree(undisturbed, place)
    before = facts(place)
    status, stages = server.run(place)
    assert (status, stages) == (0, ["start"])
    assert facts(place) == before
