"""Runs that take about a second: 300 of the embedded digits, a small teacher, the smallest student, a few steps."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from compressor.config.layers import Layer, resolve
from compressor.config.settings import RunConfig
from compressor.engine.evaluate import latencies
from compressor.engine.interrupts import StopRequest
from compressor.engine.results import RunResult
from compressor.engine.runs import distill
from compressor.engine.teaching import teach
from compressor.errors import Stopped
from compressor.events import Event

DATA = "tiny.npz"
STEPS_PER_EPOCH = 6
TINY: Mapping[str, Any] = {
    "data.source": DATA,
    "data.crop_padding": 1,
    "data.flip": False,
    "teacher.name": "resnet14",
    "student.name": "resnet8",
    "training.batch_size": 50,
    "training.epochs": 2,
    "teacher_training.batch_size": 50,
    "teacher_training.epochs": 4,
    "runtime.device": "cpu",
}
SHIPPED: Mapping[str, Mapping[str, Any]] = {
    "scratch": {},
    "kd": {},
    "fitnet": {},
    "crd": {"method.negatives": 16, "method.feature_dim": 8},
    "sskd": {"method.head_epochs": 1},
}
"""The methods that come with the project, with settings that make them quick."""


def write_data(folder: Path, *, name: str = DATA, brighter: int = 0) -> Path:
    """Write 300 training and 100 test digits of 8 x 8 pixels; ``brighter`` makes them another data set."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.minimum(np.rint(pixels * (255 / 16)) + brighter, 255).astype(np.uint8).reshape(-1, 8, 8)
    path = folder / name
    np.savez(path, x_train=images[:300], y_train=labels[:300], x_test=images[300:400], y_test=labels[300:400])
    return path


def tiny_config(method: str = "kd", **changes: Any) -> RunConfig:
    """Settings of a tiny run; ``training__epochs=3`` changes ``training.epochs``."""
    given = {key.replace("__", "."): value for key, value in changes.items()}
    values = {**TINY, "method.name": method, **SHIPPED.get(method, {}), **given}
    return resolve([Layer("test", values)]).config


def tiny_run(method: str = "kd", *, out: str | Path = "run", **changes: Any) -> RunResult:
    """Train a tiny student, or go on with it."""
    listener = changes.pop("listener", None)
    fresh = changes.pop("fresh", False)
    options: dict[str, Any] = {} if listener is None else {"listener": listener}
    return distill(tiny_config(method, **changes), out=Path(out), fresh=fresh, **options)


def student_sha(result: RunResult) -> str:
    """The hash of the trained student's weights."""
    return str(result.values["student"]["sha256"])


def train_bank(folder: Path) -> None:
    """Train the tiny teacher into the cache that the environment names."""
    data = write_data(folder)
    teach(tiny_config(data__source=str(data)))


def quick_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what a test of training need not wait for: the fresh process (tested elsewhere), 200 timed passes."""
    monkeypatch.setattr("compressor.publishing.folder.check_in_fresh_process", lambda *_args, **_more: 0.0)
    monkeypatch.setattr("compressor.engine.finish.latencies", partial(latencies, warm_up=0, runs=2))


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int | None) -> None:
    """Make every run ask to stop after so many steps of whatever is trained in it; None takes that back."""

    class Stopping(StopRequest):
        seen = 0

        @property
        def asked(self) -> bool:
            self.seen += 1
            return steps is not None and self.seen >= steps

    monkeypatch.setattr("compressor.engine.runs.StopRequest", Stopping)


def until_done(monkeypatch: pytest.MonkeyPatch, steps: int, run: Callable[[], RunResult]) -> tuple[RunResult, int]:
    """Run again and again, stopped after every ``steps`` steps; returns the result and how often it was stopped."""
    stop_after(monkeypatch, steps)
    for stops in range(200):
        try:
            return run(), stops
        except Stopped as stopped:
            if stopped.exit_code != 130:
                raise
    raise AssertionError("the run never came to its end")


class Recorder:
    """A listener that keeps what it was told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        """Events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


def checkpoint_folders(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / "checkpoints").glob("step-*"))
