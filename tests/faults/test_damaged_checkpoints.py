"""Row D1: whatever becomes of the newest checkpoint, the run goes on from a whole one with the same bits, or stops."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from damage import damages
from fault_runs import Stage, distill, environ, student
from figures import SEED, count, note
from hostile_doors import FINISHED, ask, check, report

from compressor.engine.checkpoint import Checkpoints, Place
from compressor.errors import InputError
from compressor.storage import read_json

State = tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]
_DRAWN = 300, 5000
_WHOLE = 14, 250  # of them through the whole command


@dataclass(frozen=True)
class Stopped:
    """A run that was stopped at step 6 and has the checkpoints of the steps 4 and 6; what it becomes undisturbed."""

    place: Path
    config_sha256: str
    states: Mapping[int, State]
    student: str


@pytest.fixture(scope="module")
def stopped(stage: Stage) -> Stopped:
    """Stop a run, read its two checkpoints, and let a copy go on undisturbed."""
    place = stage.place()
    args = distill(out="run", **FINISHED)
    child = stage.server.run("hostile_children:stopped", place, environ(place), args=args, steps=6)
    assert child.status == 130, child.output
    digest = str(read_json(place / "run" / "run.json")["config_sha256"])
    whole = Checkpoints(place / "run", digest)
    states = {place.step: whole.read(place) for place in whole.whole()[0]}
    assert sorted(states) == [4, 6]
    other = stage.copy(place)
    assert stage.run(args, other).status == 0
    return Stopped(place, digest, states, student(other))


def same(state: State, other: State) -> bool:
    """Tell whether two checkpoints hold the same bits."""
    (tensors, plain), (theirs, values) = state, other
    return (
        plain == values
        and tensors.keys() == theirs.keys()
        and all(torch.equal(tensors[name], theirs[name]) for name in tensors)
    )


def outcome(run: Path, stopped: Stopped) -> str:
    """Say what a resumed run would find."""
    checkpoints = Checkpoints(run, stopped.config_sha256)
    try:
        places, faults = checkpoints.whole()
        state = checkpoints.read(places[-1]) if places else None
    except InputError as refused:
        return "refused in lines" if "\n" in refused.message else "refused"
    if state is None:
        return "begins anew, told" if faults else "begins anew"
    if same(state, stopped.states[6]):
        return "the newest"
    if same(state, stopped.states[4]):
        return "the one before, told" if faults else "the one before"
    return "other weights"


def test_no_damage_gives_other_weights_or_another_error(stopped: Stopped, tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    wrong: list[str] = []
    run = tmp_path / "run"
    for label, damage in damages(count(*_DRAWN), SEED):
        shutil.copytree(stopped.place / "run" / "checkpoints", run / "checkpoints")
        folders = [run / "checkpoints" / Place(0, step).folder_name for step in (6, 4)]
        damage(*folders)
        seen = outcome(run, stopped)
        found[seen] += 1
        unsaid = seen == "the one before" and not label.startswith(("checkpoint", "remove"))
        if seen in ("other weights", "begins anew, told", "refused in lines") or unsaid:
            wrong.append(f"{label}: {seen}")
        shutil.rmtree(run)
    note("D1", tried=found.total(), exits=[3] * found["refused"], wrong=len(wrong))
    assert wrong == []
    assert found["the one before, told"] > found.total() / 2
    assert found["refused"] > 0
    assert found["the newest"] < found.total() / 8


def test_command_goes_on_with_the_same_end_or_stops_with_exit_3(stopped: Stopped, stage: Stage) -> None:
    every = damages(count(*_DRAWN), SEED)
    chosen = every[:: len(every) // count(*_WHOLE)]
    place = stage.copy(stopped.place)
    cases = []
    for number, (label, damage) in enumerate(chosen):
        run = place / f"run{number}"
        shutil.copytree(place / "run", run)
        damage(*(run / "checkpoints" / Place(0, step).folder_name for step in (6, 4)))
        cases.append({"label": label, "arguments": distill(out=run.name, **FINISHED)})
    answers = ask(stage, place, cases, watched=False)
    ends = [student(place, f"run{number}") for number, answer in enumerate(answers) if answer.exit == 0]
    report("D1", answers, wrong=sum(end != stopped.student for end in ends))
    check(answers, exits=(0, 3))
    assert set(ends) == {stopped.student}
    assert all("warning:" in answer.said for answer in answers if answer.exit == 0 and answer.label.startswith("cut"))


def test_memory_for_a_header_that_lies_stays_that_of_the_file(stopped: Stopped, tmp_path: Path) -> None:
    """A header may claim terabytes; reading it must not ask the system for them."""
    import resource

    checkpoints = Checkpoints(tmp_path, stopped.config_sha256)
    shutil.copytree(stopped.place / "run" / "checkpoints", tmp_path / "checkpoints")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for folder in (tmp_path / "checkpoints").iterdir():
        file = folder / "lane.safetensors"
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        file.write_bytes(
            data[:8] + data[8 : 8 + length].replace(b'"shape":[', b'"shape":[1000000000,') + data[8 + length :]
        )
    with pytest.raises(InputError, match="no whole checkpoint is left"):
        checkpoints.whole()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
