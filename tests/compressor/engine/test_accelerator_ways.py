"""What is done otherwise on an accelerator, walked on a CPU."""

from pathlib import Path

import pytest
import torch
from tiny_methods import plant
from tiny_runs import Recorder, checkpoint_folders, student_sha, tiny_config, tiny_run

from compressor.engine.rehearsal import last_phase
from compressor.engine.runtime import Runtime
from compressor.engine.snapshots import restore, snapshot
from compressor.errors import TrainingError
from compressor.events import Progress

pytestmark = pytest.mark.usefixtures("tiny")


def test_lost_loss_is_noticed_before_anything_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, poisoned="tiny_methods:Poisoned")
    monkeypatch.setattr(Runtime, "asynchronous", True)
    with pytest.raises(TrainingError, match="became NaN"):
        tiny_run("poisoned", method__at=3, runtime__save_every=1e9)
    assert checkpoint_folders(Path("run")) == []
    assert not Path("run/result.json").exists()


@pytest.mark.parametrize("method", ["crd", "sskd"])
def test_host_that_runs_ahead_trains_the_same_student(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = student_sha(tiny_run(method, out="waiting"))
    monkeypatch.setattr(Runtime, "asynchronous", True)
    assert student_sha(tiny_run(method, out="ahead")) == waiting


def test_means_are_shown_more_rarely_than_the_device_is_asked_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.engine.trainer._REPORT_EVERY", 0.0)
    often, rarely = Recorder(), Recorder()
    tiny_run("scratch", out="often", listener=often)
    monkeypatch.setattr(Runtime, "asynchronous", True)
    tiny_run("scratch", out="rarely", listener=rarely)
    assert len(often.of(Progress)) == 10  # every step but the last of each of two epochs
    assert len(rarely.of(Progress)) < 10


def test_moments_that_were_read_again_lie_in_memory_as_their_parameters_do() -> None:
    loop = last_phase([tiny_config("kd")])
    loop.rehearse(2)
    lane = loop.seats[0].lane
    assert any(not parameter.is_contiguous() for parameter in lane.module.student.parameters()), "channels come last"
    before = [state["momentum_buffer"].clone() for state in lane.optimizer.state.values()]
    restore(lane, *snapshot(lane))
    for (parameter, state), value in zip(lane.optimizer.state.items(), before, strict=True):
        assert state["momentum_buffer"].stride() == parameter.stride()
        assert torch.equal(state["momentum_buffer"], value)


def test_measured_steps_must_fit_into_an_epoch() -> None:
    loop = last_phase([tiny_config("kd")])
    assert loop.seconds_a_step(1, 2) > 0
    with pytest.raises(ValueError, match=r"an epoch has 6 steps, 1 [+] 6 were asked for"):
        loop.seconds_a_step(1, 6)
