"""The runs that faults are planted in: a few hundred milliseconds each, and what must not depend on the faults."""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from fault_client import Server
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from tiny_runs import DATA, SHIPPED, TINY

STEPS = 12
SAVE_EVERY = 4
SETTINGS: Mapping[str, Any] = {
    **TINY,
    "teacher.name": "resnet8",
    "training.batch_size": 32,
    "training.epochs": 3,
    "teacher_training.batch_size": 16,
    "teacher_training.epochs": 3,
    "teacher_training.lr": 0.1,
    "runtime.threads": 1,
}
MEMORY = Path("/dev/shm")


def settings(method: str = "kd", **changes: Any) -> list[str]:
    """Return the options of a tiny run; ``training__epochs=1`` changes ``training.epochs``."""
    given = {key.replace("__", "."): value for key, value in changes.items()}
    values = {**SETTINGS, "method.name": method, **SHIPPED.get(method, {}), **given}
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def distill(method: str = "kd", *, out: str = "run", **changes: Any) -> list[str]:
    """Return the command line of a tiny run."""
    return ["distill", "--out", out, *settings(method, **changes)]


def teach() -> list[str]:
    """Return the command line that trains the tiny teacher into the bank."""
    return ["teach", *settings("scratch")]


def compare(methods: str = "kd", *, seeds: int = 1, out: str = "comparison", **changes: Any) -> list[str]:
    """Return the command line of a tiny comparison; the method without a teacher is always in it."""
    words = settings(**changes)
    place = words.index("method.name=kd")
    del words[place - 1 : place + 1]
    return ["compare", "--methods", methods, "--seeds", str(seeds), "--out", out, *words]


def publish(run: str = "run", to: str = "published") -> list[str]:
    """Return the command line that publishes a finished run elsewhere."""
    return ["publish", run, "--to", to, "--license", "apache-2.0"]


def write_data(folder: Path) -> None:
    """Write 142 training and 64 test digits of 8 x 8 pixels: 128 to learn from, 14 held out."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels[:206] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    parts = {"x_train": images[:142], "y_train": labels[:142], "x_test": images[142:], "y_test": labels[142:206]}
    np.savez(folder / DATA, **parts)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """Give a folder where syncing costs nothing, in memory where the machine has such a place."""
    folder = Path(mkdtemp(prefix="faults-", dir=MEMORY if MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Stage:
    """Fresh places to run in, each with data and perhaps a trained teacher; and the server that runs there.

    Args:
        bank: the stage whose trained teacher it takes; None trains its own when it is first asked for.
    """

    def __init__(self, server: Server, root: Path, bank: "Stage | None" = None) -> None:
        self.server = server
        self.root = root
        self._count = 0
        self._from = bank
        self._bank: Path | None = None

    def place(self, *, bank: bool = True) -> Path:
        """Make a new folder with the data; with ``bank`` the teacher lies in its cache."""
        self._count += 1
        place = self.root / f"place{self._count}"
        if bank:
            shutil.copytree(self._taught(), place)
        else:
            place.mkdir()
            write_data(place)
        return place

    def copy(self, place: Path) -> Path:
        """Return a copy of a place as it is now."""
        self._count += 1
        other = self.root / f"place{self._count}"
        shutil.copytree(place, other, symlinks=True)
        return other

    def run(self, args: list[str], place: Path, **given: Any) -> Any:
        """Run a command in a place and return the child when it has ended."""
        return self.server.run("compress", place, environ(place), args=args, **given)

    def start(self, args: list[str], place: Path, **given: Any) -> Any:
        """Start a command in a place."""
        return self.server.start("compress", place, environ(place), args=args, **given)

    def _taught(self) -> Path:
        if self._from is not None:
            return self._from._taught()
        if self._bank is None:
            self._bank = self.root / "bank"
            self._bank.mkdir()
            write_data(self._bank)
            done = self.run(teach(), self._bank)
            assert done.status == 0, done.output
            (self._bank / "output.txt").unlink()
        return self._bank


@dataclass(frozen=True)
class State:
    """What lies on the disk at one moment of a command, in a place of its own; see `states_of`.

    Attributes:
        moment: ``before N`` or ``within N``, of the command's file operations. said: what it had told by then.
    """

    moment: str
    said: tuple[str, ...]
    place: Path


def states_of(
    stage: Stage, args: list[str], place: Path, *, of: Callable[[int], bool], **given: Any
) -> Iterator[State]:
    """Run a command and yield each state of the disk that its death could leave, torn writes too.

    The command waits meanwhile; it must end well, so that ``place`` shows in the end what it does undisturbed.

    Args:
        of: tells whether the state of a number is wanted, counted from 0. given: see `fault_children.compress`.
    """
    pipe = place.with_name(f"{place.name}.go")
    os.mkfifo(pipe)
    go = os.open(pipe, os.O_RDWR)
    try:
        child = stage.start(args, place, disk={"kind": "pause", "go": str(pipe)}, **given)
        number = 0
        for seen, words in enumerate(child.talk(), 1):
            if not words.startswith(("before ", "within ")):
                continue
            if of(number):
                copy = stage.copy(place)
                bury(copy, child.pid)
                yield State(words, tuple(child.said[:seen]), copy)
                shutil.rmtree(copy)
            number += 1
            os.write(go, b".")
        assert child.status == 0, child.output
    finally:
        os.close(go)


def bury(place: Path, number: int) -> None:
    """Rename what a process is writing as if it were dead: no machine has processes of this number."""
    for path in sorted(place.rglob(f".tmp-*-{number}-*"), reverse=True):
        path.rename(path.with_name(path.name.replace(f"-{number}-", f"-{2**22 + 1}-")))


def environ(place: Path) -> dict[str, str | None]:
    """Return what keeps a child away from the user's files."""
    return {"XDG_CACHE_HOME": str(place / "cache"), "XDG_CONFIG_HOME": str(place / "config"), "HOME": str(place)}


def sha256(path: Path) -> str:
    """Hash a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def student(place: Path, run: str = "run") -> str:
    """Hash the published weights of a finished run; a run that is not finished has none."""
    assert (place / run / "result.json").is_file(), f"{run} is not finished"
    return sha256(place / run / "student" / "model.safetensors")


def weights(place: Path) -> dict[str, str]:
    """Hash every file of weights and answers below a place."""
    return {str(path.relative_to(place)): sha256(path) for path in sorted(place.rglob("*.safetensors"))}


def answers(place: Path) -> dict[str, dict[int, str]]:
    """Hash every kept answer of a teacher below a place, by folder and row, however they are spread over files."""
    found: dict[str, dict[int, str]] = {}
    for path in sorted(place.glob("cache/compress/answers/**/*.safetensors")):
        tensors = load_file(path)
        rows = found.setdefault(str(path.parent.relative_to(place)), {})
        for number, row in enumerate(tensors.pop("rows").tolist()):
            parts = [value[number].contiguous().view(-1).numpy().tobytes() for _, value in sorted(tensors.items())]
            rows[row] = hashlib.sha256(b"".join(parts)).hexdigest()
    return found


def files(place: Path) -> list[str]:
    """List the files below a place, but for logs and the bench's own."""
    every = (str(path.relative_to(place)) for path in sorted(place.rglob("*")) if path.is_file() or path.is_symlink())
    return [name for name in every if not name.endswith((".txt", "events.jsonl")) and name != DATA]


def facts(place: Path, run: str = "run") -> dict[str, Any]:
    """Return what must not depend on how often a run died: weights, metrics, which files there are."""
    result = json.loads((place / run / "result.json").read_text())
    return {
        "student": student(place, run),
        "metrics": result["metrics"],
        "weights": weights(place),
        "files": files(place),
    }


def table(place: Path, out: str = "comparison") -> list[dict[str, str]]:
    """Return the rows of a comparison's table without what is measured by a clock or of this process."""
    with (place / out / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows
    return [{key: value for key, value in row.items() if not _measured(key)} for row in rows]


def _measured(column: str) -> bool:
    return column.startswith("latency") or column.endswith("seconds") or column == "peak_bytes"
