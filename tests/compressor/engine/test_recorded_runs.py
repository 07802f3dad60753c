"""Runs whose steps are recorded and repeated give the students of runs whose steps are not, bit for bit on a CPU."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_methods import AtConfig, plant
from tiny_runs import SHIPPED, Recorder, stop_after, student_sha, tiny_config, tiny_run, until_done
from torch import Tensor
from torch.nn import functional as F

from compressor.distiller import Batch, Distiller, ModelOutput, Terms
from compressor.engine import repeated as engine_repeated
from compressor.engine.capture import Recorder as DeviceRecorder
from compressor.engine.jobs import Cell
from compressor.engine.rehearsal import last_phase
from compressor.engine.runs import run_cells
from compressor.errors import TrainingError
from compressor.events import Warned
from compressor.registry import METHODS, load_method, names

NAMES = sorted(names(METHODS))
NEVER = {"kdsvd"}
"""Methods whose steps cannot be recorded; this list may only grow shorter."""


@pytest.fixture
def replays(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often something was done from a recording that had passed its checks."""
    seen: list[int] = []
    original = engine_repeated.Repeated._again

    def counted(self: engine_repeated.Repeated, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        if self.recorded:
            seen.append(len(inputs))
        return original(self, inputs)

    monkeypatch.setattr(engine_repeated.Repeated, "_again", counted)
    return seen


def of_warnings(recorder: Recorder) -> list[str]:
    return [event.message for event in recorder.of(Warned)]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("method", list(SHIPPED))
def test_recorded_run_gives_the_student_of_a_plain_one(method: str, replays: list[int]) -> None:
    listener = Recorder()
    # 270 images in batches of 40: the last batch of an epoch has 30. The rate falls twice.
    options: dict[str, Any] = {"training__batch_size": 40, "training__epochs": 3, "training__milestones": (0.4, 0.8)}
    recorded = tiny_run(method, out="recorded", runtime__capture="on", listener=listener, **options)
    count = len(replays)
    assert student_sha(recorded) == student_sha(tiny_run(method, out="plain", **options))
    assert of_warnings(listener) == []
    assert count > 0
    assert len(replays) == count, "a plain run repeated something"


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "changes",
    [
        {"training__micro_batches": 2},
        {"training__ema_decay": 0.9},
        {"training__nesterov": True, "training__warmup_epochs": 1},
        {"method__kd_target": "ps", "method__kd_temperature_policy": "flsw"},  # notes numbers for the log
    ],
)
def test_parts_averages_rates_and_notes_come_out_alike(changes: dict[str, Any], replays: list[int]) -> None:
    recorded = tiny_run("kd", out="recorded", runtime__capture="on", **changes)
    assert len(replays) > 0
    plain = tiny_run("kd", out="plain", **changes)
    assert student_sha(recorded) == student_sha(plain)
    lines = [Path(run, "metrics.csv").read_text().splitlines() for run in ("recorded", "plain")]
    column = lines[0][0].split(",").index("seconds")
    rows = [[[cell for n, cell in enumerate(line.split(",")) if n != column] for line in one] for one in lines]
    assert rows[0] == rows[1]


@pytest.mark.usefixtures("tiny")
def test_recorded_lanes_in_company_give_what_they_give_alone(replays: list[int]) -> None:
    cells = [Cell(tiny_config(method, runtime__capture="on"), Path("group") / method) for method in SHIPPED]
    outcomes = run_cells(cells)
    assert len(replays) > 0
    for method, outcome in zip(SHIPPED, outcomes, strict=True):
        assert outcome.result is not None
        assert student_sha(outcome.result) == student_sha(tiny_run(method, out=f"alone-{method}"))


@pytest.mark.usefixtures("tiny")
def test_recorded_run_that_is_stopped_and_resumed_gives_the_same_student(monkeypatch: pytest.MonkeyPatch) -> None:
    result, stops = until_done(monkeypatch, 7, lambda: tiny_run("crd", runtime__capture="on"))
    assert stops > 0
    stop_after(monkeypatch, None)
    assert student_sha(result) == student_sha(tiny_run("crd", out="undisturbed"))


class Progressing(Distiller[AtConfig]):
    """Says that its steps may be recorded, and reads how far the phase is."""

    name = "progressing"
    Config = AtConfig
    capturable = "phase"

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"ce": (1 + batch.progress) * F.cross_entropy(student.logits, batch.labels)}


class Counting(Distiller[AtConfig]):
    """Does not say so, and counts its steps."""

    name = "counting"
    Config = AtConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"ce": F.cross_entropy(student.logits, batch.labels) * (1 + batch.step)}


@pytest.fixture
def planted(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "planted_methods", sys.modules[__name__])
    plant(monkeypatch, progressing="planted_methods:Progressing", counting="planted_methods:Counting",
          poisoned="tiny_methods:Poisoned")  # fmt: skip


@pytest.mark.usefixtures("planted")
def test_method_that_changes_from_step_to_step_is_found_and_told_once() -> None:
    listener = Recorder()
    recorded = tiny_run("progressing", out="recorded", runtime__capture="on", listener=listener)
    [warning] = of_warnings(listener)
    assert warning == (
        "progressing s0: steps are not recorded, going on one by one (a recorded step came out otherwise)"
    )
    assert student_sha(recorded) == student_sha(tiny_run("progressing", out="plain"))


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("method", "changes", "reason"),
    [
        ("counting", {}, "counting does not declare that its steps may be recorded (capturable)"),
        ("kd", {"training__optimizer": "adamw"}, "optimizer adamw reads numbers of the device in each step"),
    ],
)
def test_why_a_lane_is_not_recorded_is_said_where_it_was_asked_for(
    method: str, changes: dict[str, Any], reason: str
) -> None:
    listener = Recorder()
    tiny_run(method, runtime__capture="on", listener=listener, **changes)
    assert of_warnings(listener) == [f"{method} s0: steps are not recorded, going on one by one ({reason})"]
    silent = Recorder()
    tiny_run(method, out="auto", runtime__capture="auto", listener=silent, **changes)
    assert of_warnings(silent) == []


@pytest.mark.usefixtures("planted")
def test_loss_that_is_lost_is_named_from_a_recorded_run_too() -> None:
    with pytest.raises(TrainingError, match=r"loss became NaN at step 3 \(term 'bad'"):
        tiny_run("poisoned", method__at=3, runtime__capture="on")


@pytest.mark.usefixtures("tiny")
def test_plain_run_records_nothing(replays: list[int]) -> None:
    tiny_run("kd", runtime__capture="on", runtime__plain=True)
    assert replays == []


class BrokenRecorder(DeviceRecorder):
    """A driver that refuses."""

    def record(self, work: Any) -> Any:
        raise RuntimeError("CUDA error: operation not permitted")


@pytest.mark.usefixtures("tiny")
def test_driver_that_refuses_costs_one_line_each_for_teacher_and_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.engine.runtime.recorder_for", lambda *_: BrokenRecorder())
    listener = Recorder()
    tiny_run("sskd", out="broken", listener=listener)
    warnings = of_warnings(listener)
    assert [text.split(" not recorded")[0] for text in warnings] == [
        "the teacher's pass is",
        "sskd head: steps are",
        "the teacher's pass is",
        "sskd s0: steps are",
    ]


def test_every_method_says_whether_its_steps_may_be_recorded() -> None:
    assert {name for name in NAMES if load_method(name).capturable == "no"} == NEVER
    assert len(NEVER) <= 1


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("method", sorted(set(NAMES) - NEVER))
def test_method_whose_steps_may_be_recorded_reads_no_number_that_changes(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: set[str] = set()

    class Watched(Batch):
        def __getattribute__(self, name: str) -> Any:
            # `replace` copies every field and looks at none.
            if name in ("epoch", "step", "progress") and sys._getframe(1).f_globals["__name__"] != "dataclasses":
                read.add(name)
            return super().__getattribute__(name)

    monkeypatch.setattr("compressor.engine.trainer.Batch", Watched)
    last_phase([tiny_config(method)]).rehearse(2)
    allowed = {"step"} if method == "crd" else set()  # by it crd tells the parts of a step that failed apart
    if load_method(method).capturable == "epoch":
        allowed.add("epoch")
    assert read <= allowed


@pytest.mark.usefixtures("tiny")
def test_method_that_hangs_on_the_epoch_is_recorded_anew_in_each(replays: list[int]) -> None:
    recorded = tiny_run("dkd", out="recorded", runtime__capture="on", training__epochs=4, training__batch_size=20)
    assert len(replays) > 0
    plain = tiny_run("dkd", out="plain", training__epochs=4, training__batch_size=20)
    assert student_sha(recorded) == student_sha(plain)
