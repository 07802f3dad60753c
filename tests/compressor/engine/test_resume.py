"""A run that was stopped anywhere and goes on gives the same bits as one that was left alone."""

import shutil
from pathlib import Path

import pytest
from tiny_methods import plant
from tiny_runs import (
    SHIPPED,
    STEPS_PER_EPOCH,
    Recorder,
    checkpoint_folders,
    stop_after,
    student_sha,
    tiny_run,
    until_done,
    write_data,
)

from compressor.errors import InputError, Stopped
from compressor.events import Fact, Saved, Warned
from compressor.storage import read_json

STUDENT_STEPS = 2 * STEPS_PER_EPOCH


@pytest.mark.parametrize("method", list(SHIPPED))
def test_shipped_method_stopped_again_and_again_ends_with_the_same_bits(
    method: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = student_sha(tiny_run(method, out="undisturbed"))
    shutil.rmtree(tiny / "cache" / "compress" / "artefacts", ignore_errors=True)
    result, stops = until_done(monkeypatch, 4, lambda: tiny_run(method, out="stopped"))
    assert student_sha(result) == undisturbed
    assert stops == (STUDENT_STEPS + (STEPS_PER_EPOCH if method == "sskd" else 0)) // 4


@pytest.mark.slow
def test_sskd_stopped_after_every_step_of_head_and_student_ends_with_the_same_bits(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = student_sha(tiny_run("sskd", out="undisturbed"))
    shutil.rmtree(tiny / "cache" / "compress" / "artefacts")
    result, stops = until_done(monkeypatch, 1, lambda: tiny_run("sskd", out="stopped"))
    assert student_sha(result) == undisturbed
    assert stops == STEPS_PER_EPOCH + STUDENT_STEPS


@pytest.mark.parametrize("steps", range(1, STUDENT_STEPS + 1))
def test_one_stop_at_any_step_changes_nothing(steps: int, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, steps)
    with pytest.raises(Stopped, match=rf"Time budget spent: saved step {steps}\."):
        tiny_run("kd")
    [*_, newest] = checkpoint_folders(Path("run"))
    assert newest.name == f"step-00{steps:08d}"
    stop_after(monkeypatch, None)
    assert student_sha(tiny_run("kd")) == student_sha(tiny_run("kd", out="undisturbed"))


@pytest.mark.slow
def test_teacher_head_phase_own_phase_and_student_resume_everywhere(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, demanding="tiny_methods:Demanding")
    (tiny / "elsewhere").mkdir()
    short = {"teacher_training__epochs": 2, "training__epochs": 1}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny / "elsewhere"))  # no teacher there yet
    undisturbed = tiny_run("demanding", out="undisturbed", **short)
    shutil.rmtree(tiny / "elsewhere")
    result, stops = until_done(monkeypatch, 1, lambda: tiny_run("demanding", out="stopped", **short))
    assert student_sha(result) == student_sha(undisturbed)
    assert result.values["teacher"]["sha256"] == undisturbed.values["teacher"]["sha256"]
    teacher, probe, warm = 2 * STEPS_PER_EPOCH, STEPS_PER_EPOCH, STEPS_PER_EPOCH
    assert stops == teacher + probe + warm + STEPS_PER_EPOCH


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    "changes",
    [
        {"training__ema_decay": 0.9},
        {"training__select": "best"},
        {"training__micro_batches": 2},
        {"training__schedule": "cosine", "training__warmup_epochs": 1},
        {"training__optimizer": "adamw", "training__lr": 0.003},
        {"training__nesterov": True},
        {"data__shots": 10},
        {"training__precision": "bf16"},
    ],
    ids=lambda changes: next(iter(changes)).removeprefix("training__"),
)
def test_settings_that_carry_state_resume_exactly(changes: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = tiny_run("kd", out="undisturbed", **changes)
    result, stops = until_done(monkeypatch, 3, lambda: tiny_run("kd", out="stopped", **changes))
    assert stops == (1 if "data__shots" in changes else 4)
    assert student_sha(result) == student_sha(undisturbed)
    assert result.values["metrics"] == undisturbed.values["metrics"]


def test_history_and_best_survive_stops(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run("kd", out="undisturbed")
    until_done(monkeypatch, 4, lambda: tiny_run("kd", out="stopped"))

    def rows(run: str) -> list[list[str]]:
        lines = [line.split(",") for line in Path(run, "metrics.csv").read_text().splitlines()]
        seconds = lines[0].index("seconds")
        return [line[:seconds] + line[seconds + 1 :] for line in lines]

    assert rows("stopped") == rows("undisturbed")
    assert len(rows("stopped")) == 3


def test_same_run_from_another_folder_and_cache_has_the_same_weights(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tiny_run("kd")
    other = tiny / "other place"
    other.mkdir()
    write_data(other)
    monkeypatch.chdir(other)
    monkeypatch.setenv("XDG_CACHE_HOME", str(other / "its cache"))
    second = tiny_run("kd", out="x")
    assert student_sha(second) == student_sha(first)
    assert second.values["teacher"]["sha256"] == first.values["teacher"]["sha256"]
    assert second.values["config_sha256"] == first.values["config_sha256"]


def test_another_seed_gives_another_student(tiny: Path) -> None:
    assert student_sha(tiny_run("kd", out="a")) != student_sha(tiny_run("kd", out="b", seed=1))


def test_newest_two_checkpoints_are_kept_while_training_and_one_afterwards(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 3)
    for _ in range(3):
        with pytest.raises(Stopped):
            tiny_run("kd")
    assert [folder.name[-2:] for folder in checkpoint_folders(Path("run"))] == ["06", "09"]
    stop_after(monkeypatch, None)
    tiny_run("kd")
    assert len(checkpoint_folders(Path("run"))) == 1


def test_checkpoints_are_written_when_they_are_due(tiny: Path) -> None:
    recorder = Recorder()
    tiny_run("kd", runtime__save_every=1e-6, listener=recorder)
    assert [event.step for event in recorder.of(Saved)] == [*range(1, STUDENT_STEPS + 1), STUDENT_STEPS]


def test_time_budget_saves_the_first_step_and_the_same_command_goes_on(tiny: Path) -> None:
    with pytest.raises(Stopped, match="Time budget spent: saved step 1") as caught:
        tiny_run("kd", runtime__time_budget=1e-6)
    assert caught.value.exit_code == 130
    assert caught.value.hint == "resume with the same command"
    recorder = Recorder()
    assert student_sha(tiny_run("kd", listener=recorder)) == student_sha(tiny_run("kd", out="undisturbed"))
    assert any("resuming at step 1" in fact.text for fact in recorder.of(Fact))


def test_data_that_changed_under_a_run_is_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 3)
    with pytest.raises(Stopped):
        tiny_run("scratch")
    stop_after(monkeypatch, None)
    write_data(tiny, brighter=9)
    with pytest.raises(InputError, match=r"the data changed since .*run was begun"):
        tiny_run("scratch")


def test_another_number_of_threads_is_told_and_refused_when_strict(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 3)
    with pytest.raises(Stopped):
        tiny_run("kd")
    [newest] = checkpoint_folders(Path("run"))
    manifest = read_json(newest / "manifest.json")
    assert isinstance(manifest, dict)
    threads = manifest["extra"]["threads"]
    stop_after(monkeypatch, None)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads + 1)
    with pytest.raises(InputError, match=f"begun with {threads} threads, going on with {threads + 1}: bits may differ"):
        tiny_run("kd", runtime__strict=True)
    recorder = Recorder()
    result = tiny_run("kd", listener=recorder)
    assert any("bits may differ" in warning.message for warning in recorder.of(Warned))
    assert any("bits may differ" in warning for warning in result.values["warnings"])
