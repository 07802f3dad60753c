"""The doors through which files of strangers come in, and what is asked of each answer."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_runs import DATA, Stage, distill, environ, teach
from figures import note
from hostile_children import ANSWERS

Arguments = list[str]
QUICK = {"training__epochs": 1}
FINISHED = {"training__batch_size": 16, "training__lr": 0.1}
"""What makes a student of three epochs good enough to teach."""
_MEMORY = 2_000_000_000
_SECONDS = 20.0  # of a machine that does other things too; it is a tenth where it is idle

FILE_DOORS: Mapping[str, Callable[[str], Arguments]] = {
    "distill --teacher-weights": lambda file: distill(out="out", teacher__weights=file, **QUICK),
    "distill --student-init": lambda file: distill("scratch", out="out", student__init=file, **QUICK),
    "teach --weights": lambda file: [*teach(), "--set", "teacher_training.momentum=0.8", "--weights", file],
    "convert": lambda file: ["convert", file, "out.safetensors"],
    "eval --weights": lambda file: ["eval", "resnet8", "--weights", file, "--data", DATA],
}
"""Commands that take a weights file; none of them leaves anything behind when it is refused."""

RUN_DOORS: Mapping[str, Arguments] = {
    "show": ["show", "RUN"],
    "eval": ["eval", "RUN", "--data", DATA],
    "publish": ["publish", "RUN", "--to", "published"],
    "publish a student": ["publish", "RUN/student", "--to", "published"],
    "compare": ["compare", "RUN", "other"],
    "distill again": distill(out="RUN", **FINISHED),
    "--teacher run:": distill(out="out", teacher__name="run:RUN", **QUICK),
    "--teacher local-dir:": distill(out="out", teacher__name="local-dir:RUN/student", **QUICK),
    "--teacher-weights": distill(out="out", teacher__weights="RUN", **QUICK),
    "--student run:": distill("scratch", out="out", student__name="run:RUN", **QUICK),
}


def through(arguments: Arguments, run: str) -> Arguments:
    """Return a door's command line for one run's folder."""
    return [word.replace("RUN", run) for word in arguments]


def finished_runs(stage: Stage) -> Path:
    """Return a place with the finished runs ``finished`` and ``other`` and with ``stopped``."""
    place = stage.place()
    for name, seed in (("finished", 0), ("other", 1)):
        done = stage.run(distill(out=name, **FINISHED, seed=seed), place)
        assert done.status == 0, done.output
    stopped = stage.run(distill(out="stopped", **FINISHED, runtime__time_budget=1e-6), place)
    assert stopped.status == 130, stopped.output
    return place


@dataclass(frozen=True)
class Answer:
    """What became of one command: see `hostile_children.commands`."""

    label: str
    exit: int
    said: str
    seen: tuple[str, ...]
    seconds: float

    @property
    def errors(self) -> list[str]:
        """The messages, each on its one line; a log breaks long lines, here they are whole again."""
        whole = re.sub(r"\n  ", " ", self.said)
        return [line.removeprefix("error: ") for line in whole.splitlines() if line.startswith("error:")]

    @property
    def traceback(self) -> bool:
        """Whether a user saw the inside of the program, or a bug was owned up to."""
        return "Traceback" in self.said or "bug of ours" in self.said or self.exit in (1, -3)


def ask(
    stage: Stage,
    place: Path,
    cases: Sequence[Mapping[str, Any]],
    *,
    warm: Sequence[Arguments] = (),
    secret: Path | None = None,
    watched: bool = True,
    memory: int | None = None,
    site: Path | None = None,
    do: str = "commands",
) -> list[Answer]:
    """Run the commands one after the other in one child and return an answer each; memory is checked here."""
    more: dict[str, Any] = {}
    if do == "commands":
        more = {"warm": warm, "secret": None if secret is None else str(secret), "watched": watched}
        more |= {"memory": memory, "site": None if site is None else str(site)}
    own = {**environ(place), "TMPDIR": str(place)}
    patience = 60 + 30 * len(cases)
    child = stage.server.run(f"hostile_children:{do}", place, own, cases=cases, patience=patience, **more)
    assert child.status == 0, child.output[-3000:]
    told = json.loads((place / ANSWERS).read_text())
    assert told["memory"] < _MEMORY
    answers = [Answer(**{**one, "seen": tuple(one["seen"])}) for one in told["answers"]]
    assert [answer.label for answer in answers] == [case["label"] for case in cases]
    return answers


def report(row: str, answers: Sequence[Answer], *, wrong: int = 0) -> None:
    """Note the figures of some answers."""
    note(
        row,
        tried=len(answers),
        exits=[answer.exit for answer in answers],
        tracebacks=sum(answer.traceback for answer in answers),
        executions=sum(bool(answer.seen) for answer in answers),
        wrong=wrong,
    )


def check(answers: Sequence[Answer], *, exits: Sequence[int] = (3,), names: Sequence[str] = ()) -> None:
    """Fail with all that is wrong: nothing ran, an error is one line with its name of ``names`` in it, and quick."""
    expected = names or [""] * len(answers)
    faults = [fault for one, name in zip(answers, expected, strict=True) for fault in _faults(one, exits, name)]
    assert not faults, "\n".join(faults)


def _faults(answer: Answer, exits: Sequence[int], name: str) -> list[str]:
    found = [f"it did: {deed}" for deed in answer.seen]
    if answer.exit not in exits:
        found.append(f"exit {answer.exit}, not {' or '.join(map(str, exits))}")
    if answer.traceback:
        found.append("a traceback")
    if answer.exit != 0 and len(answer.errors) != 1:
        found.append(f"{len(answer.errors)} error lines")
    if answer.exit != 0 and name not in "".join(answer.errors):
        found.append(f"it does not name {name}")
    if answer.seconds > _SECONDS:
        found.append(f"{answer.seconds:.1f} s")
    return [f"{answer.label}: {fault}: {answer.said[-400:]}" for fault in found]
