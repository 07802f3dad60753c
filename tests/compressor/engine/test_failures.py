"""What goes wrong in one lane is said exactly, saved nowhere, and no other lane's business."""

from pathlib import Path

import pytest
from tiny_methods import plant
from tiny_runs import Recorder, checkpoint_folders, stop_after, student_sha, tiny_config, tiny_run

from compressor.engine.jobs import Cell
from compressor.engine.runs import run_cells
from compressor.errors import InputError, PluginError, Stopped, TrainingError, UnsupportedPair, UsageError
from compressor.events import LaneFailed

METHODS = {
    name: f"tiny_methods:{name.capitalize()}" for name in ("poisoned", "falling", "silent", "picky", "undeclared")
}


@pytest.fixture(autouse=True)
def planted(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, **METHODS)


def test_nan_names_term_step_and_rate() -> None:
    with pytest.raises(TrainingError) as caught:
        tiny_run("poisoned", method__at=3)
    assert str(caught.value) == "poisoned s0: loss became NaN at step 3 (term 'bad', lr 0.05)"
    assert caught.value.exit_code == 5
    assert caught.value.code == "training.not_finite"
    assert caught.value.hint == "--lr 0.0125"


def test_checkpoint_is_not_advanced_past_the_last_finite_step(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 2)
    with pytest.raises(Stopped):
        tiny_run("poisoned", method__at=5)
    stop_after(monkeypatch, None)
    before = [path.name for path in checkpoint_folders(Path("run"))]
    for _ in range(2):
        with pytest.raises(TrainingError, match="at step 5"):
            tiny_run("poisoned", method__at=5)
    assert [path.name for path in checkpoint_folders(Path("run"))] == before
    assert not Path("run/result.json").exists()
    assert not Path("run/student").exists()


def test_rate_that_is_far_too_high_ends_with_a_training_error_and_nothing_is_published() -> None:
    with pytest.raises(
        TrainingError, match=r"kd s0: loss became (NaN|infinite) at step \d+ \(term '(ce|kd)', lr 1e\+08"
    ):
        tiny_run("kd", training__lr=1e8, training__epochs=4)
    assert not Path("run/result.json").exists()


def test_exception_of_a_method_reaches_the_caller_of_a_single_run() -> None:
    with pytest.raises(ZeroDivisionError, match="a stranger's bug"):
        tiny_run("falling")


def test_method_without_terms_is_at_fault() -> None:
    with pytest.raises(PluginError, match="silent s0: phase 'student' returned no terms"):
        tiny_run("silent")


def test_method_that_reads_what_it_did_not_declare_is_at_fault() -> None:
    with pytest.raises(PluginError, match="embedding of the teacher were read but not served"):
        tiny_run("undeclared")


def test_refused_pair_is_told_before_anything_is_written_or_trained(tiny: Path) -> None:
    with pytest.raises(UnsupportedPair, match="picky likes no pair") as caught:
        tiny_run("picky")
    assert caught.value.exit_code == 3
    assert not Path("run").exists()


def test_unknown_setting_of_a_method_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="method 'poisoned' has no setting 'art'") as caught:
        tiny_run("poisoned", method__art=1)
    assert caught.value.hint == "did you mean at?"
    with pytest.raises(UsageError, match=r"poisoned\.at: .*given 'soon'"):
        tiny_run("poisoned", method__at="soon")


@pytest.mark.parametrize("culprit", list(METHODS))
def test_only_the_lane_of_the_culprit_fails(culprit: str) -> None:
    recorder = Recorder()
    configs = [tiny_config("scratch"), tiny_config(culprit), tiny_config("kd")]
    outcomes = run_cells([Cell(config, Path("group") / config.method.name) for config in configs], listener=recorder)
    assert [outcome.result is None for outcome in outcomes] == [False, True, False]
    assert outcomes[1].failure is not None
    [event] = recorder.of(LaneFailed)
    assert event.lane == f"{culprit} s0"
    last = outcomes[2].result
    assert last is not None
    assert student_sha(last) == student_sha(tiny_run("kd", out="alone"))


def test_group_in_which_every_lane_fails_ends_without_a_result() -> None:
    cells = [Cell(tiny_config(name), Path("group") / name) for name in ("poisoned", "falling")]
    outcomes = run_cells(cells)
    assert [type(outcome.failure) for outcome in outcomes] == [TrainingError, ZeroDivisionError]


def test_failed_lane_goes_on_from_its_checkpoint_when_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [Cell(tiny_config(name, runtime__save_every=1e-6), Path("group") / name) for name in ("poisoned", "kd")]
    first = run_cells(cells)
    assert [outcome.failure is None for outcome in first] == [False, True]
    assert [folder.name[-2:] for folder in checkpoint_folders(Path("group/poisoned"))] == ["02", "03"]
    again = run_cells(cells)
    assert isinstance(again[0].failure, TrainingError)
    assert again[1].result is not None
    assert again[1].result.model is None  # it was finished and only read


def test_batch_larger_than_the_data_names_the_largest() -> None:
    with pytest.raises(UsageError, match="--batch-size 500 is larger than the training set of 2") as caught:
        tiny_run("scratch", training__batch_size=500)
    assert str(caught.value.hint).startswith("--batch-size 2")


def test_best_without_held_out_images_is_refused_before_training() -> None:
    with pytest.raises(UsageError, match="--select best needs held-out images"):
        tiny_run("kd", training__select="best", data__val_split=0.0)
    assert not Path("run").exists()


def test_damaged_data_is_exit_3(tiny: Path) -> None:
    (tiny / "tiny.npz").write_bytes(b"PK\x03\x04 nothing else")
    with pytest.raises(InputError, match=r"cannot read tiny\.npz"):
        tiny_run("kd")
