"""Signals ask, the loop answers; everything else of the process is left as it was."""

import os
import signal
from pathlib import Path

import pytest
from tiny_runs import Recorder, checkpoint_folders, student_sha, tiny_run

from compressor.engine.interrupts import StopRequest
from compressor.errors import Stopped
from compressor.events import Event, PhaseStarted, Saved, Stopping


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)], ids=["INT", "TERM", "HUP"]
)
def test_signal_asks_to_stop_and_names_its_exit_code(number: signal.Signals, code: int) -> None:
    told: list[bool] = []
    before = signal.getsignal(number)
    with StopRequest(notice=lambda: told.append(True)) as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked
        assert stop.stopped(7).exit_code == code
        assert str(stop.stopped(7)) == "Saved step 7."
    assert told == [True]
    assert signal.getsignal(number) is before


def test_budget_asks_once_it_is_spent() -> None:
    assert not StopRequest(1000.0).asked
    spent = StopRequest(0.0)
    assert spent.asked
    assert spent.stopped(3).exit_code == 130
    assert str(spent.stopped(3)) == "Time budget spent: saved step 3."


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"])
def test_signal_in_the_middle_of_training_saves_that_step_and_the_run_goes_on(number: int, code: int) -> None:
    def kill_at_first_save(event: Event) -> None:
        recorder(event)
        if isinstance(event, Saved) and event.step == 5:
            os.kill(os.getpid(), number)

    recorder = Recorder()
    with pytest.raises(Stopped) as caught:
        tiny_run("kd", runtime__save_every=1e-6, listener=kill_at_first_save)
    assert caught.value.exit_code == code
    assert str(caught.value) == "Saved step 6."
    assert len(recorder.of(Stopping)) == 1

    assert checkpoint_folders(Path("run"))[-1].name == "step-0000000006"
    going_on = Recorder()
    result = tiny_run("kd", listener=going_on)
    assert [event.step for event in going_on.of(PhaseStarted)] == [6]
    assert student_sha(result) == student_sha(tiny_run("kd", out="undisturbed"))
