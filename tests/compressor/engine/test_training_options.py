"""What settings of the training mean, each seen in the weights or the records of a tiny run."""

import csv
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny_runs import (
    STEPS_PER_EPOCH,
    Recorder,
    checkpoint_folders,
    student_sha,
    tiny_config,
    tiny_run,
    until_done,
)

from compressor.engine.results import RunResult
from compressor.engine.runtime import Runtime
from compressor.errors import UsageError
from compressor.events import EpochDone, Warned
from compressor.storage import read_tensors

pytestmark = pytest.mark.usefixtures("tiny")


def weights(run: str) -> dict[str, torch.Tensor]:
    return read_tensors(Path(run) / "student" / "model.safetensors")


def rows(run: str) -> list[dict[str, str]]:
    with (Path(run) / "metrics.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_one_micro_batch_is_no_micro_batch_and_two_are_near() -> None:
    whole = tiny_run("kd", out="whole")
    assert student_sha(tiny_run("kd", out="one", training__micro_batches=1)) == student_sha(whole)
    halves = tiny_run("kd", out="halves", training__micro_batches=2)
    assert student_sha(halves) != student_sha(whole)  # BatchNorm sees halves
    assert halves.values["cost"]["steps"] == whole.values["cost"]["steps"] == 2 * STEPS_PER_EPOCH


def test_moving_average_follows_its_recurrence_and_is_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def one_more_step() -> RunResult:
        if Path("ema").exists():
            seen.append(read_tensors(checkpoint_folders(Path("ema"))[-1] / "lane.safetensors"))
        return tiny_run("scratch", out="ema", training__ema_decay=0.75, training__lr=0.01)

    result, stops = until_done(monkeypatch, 1, one_more_step)
    assert stops == len(seen) == 2 * STEPS_PER_EPOCH
    parameters = [name.removeprefix("student/") for name in seen[0] if name.startswith("student/") and "bn" not in name]
    for before, after in pairwise(seen):
        for name in parameters:
            if not before[f"ema/{name}"].is_floating_point():
                continue
            by_hand = 0.75 * before[f"ema/{name}"] + 0.25 * after[f"student/{name}"]
            assert torch.allclose(after[f"ema/{name}"], by_hand, rtol=1e-5, atol=1e-7), name
    published = weights("ema")
    assert all(torch.equal(value, seen[-1][f"ema/{name}"]) for name, value in published.items())
    assert not all(torch.equal(value, seen[-1][f"student/{name}"]) for name, value in published.items())
    assert result.metrics["top1"] >= 0


def test_selected_epoch_is_the_best_on_held_out_images_and_last_is_the_last() -> None:
    changes = {"training__epochs": 6, "training__lr": 0.4, "training__schedule": "constant", "data__val_split": 0.3}
    best = tiny_run("scratch", out="best", training__select="best", **changes)
    history = [float(row["eval_top1"]) for row in rows("best")]
    chosen = best.metrics["val_best_epoch"]
    assert best.metrics["val_best_top1"] == max(history)
    assert chosen == history.index(max(history)) + 1
    last = tiny_run("scratch", out="last", **changes)
    assert last.metrics["val_last_top1"] == history[-1]
    assert (student_sha(best) == student_sha(last)) == (chosen == 6)
    assert "held-out" in Path("best/student/README.md").read_text()


def test_epochs_without_a_look_say_nothing_and_the_last_is_always_looked_at() -> None:
    recorder = Recorder()
    tiny_run("kd", training__epochs=5, training__evaluate_every=2, listener=recorder)
    looked = [event.epoch for event in recorder.of(EpochDone) if event.val_top1 is not None]
    assert looked == [2, 4, 5]
    assert [row["eval_top1"] != "" for row in rows("run")] == [False, True, False, True, True]


def test_metrics_have_a_column_a_term_and_their_sum() -> None:
    tiny_run("kd")
    for row in rows("run"):
        assert float(row["train_loss"]) == pytest.approx(float(row["ce"]) + float(row["kd"]), rel=1e-6)
        assert row["phase"] == "student"
    assert [row["epoch"] for row in rows("run")] == ["0", "1"]


def test_reduced_precision_runs_and_warns_where_it_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressor.engine.precision._flags", lambda _: {"avx2"})
    recorder = Recorder()
    result = tiny_run("kd", out="half", training__precision="bf16", listener=recorder)
    assert any("bf16 is many times slower" in event.message for event in recorder.of(Warned))
    stored = weights("half")
    assert all(value.dtype in (torch.float32, torch.int64) for value in stored.values())
    assert result.metrics["top1"] > 10
    assert student_sha(result) != student_sha(tiny_run("kd", out="full"))


def test_student_starts_from_a_file_and_from_the_seed_alone() -> None:
    tiny_run("kd", out="first")
    again = tiny_run("kd", out="second", student__init="first/student/model.safetensors", training__lr=1e-9)
    assert again.metrics["top1"] == pytest.approx(tiny_run("kd", out="first").metrics["top1"], abs=6)


def test_more_processes_than_were_launched_are_refused() -> None:
    with pytest.raises(UsageError, match="launched with 1 of 2 processes") as caught:
        tiny_run("kd", runtime__processes=2)
    assert "torchrun" in str(caught.value.hint)


def test_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match="no device 'cuda' on this machine"):
        Runtime(tiny_config(runtime__device="cuda").runtime)
    with pytest.raises(UsageError, match="no device 'gpu'"):
        Runtime(tiny_config(runtime__device="gpu").runtime)


def test_watching_the_test_images_writes_the_best_look_down_and_changes_nothing() -> None:
    plain = tiny_run("kd", out="plain", training__epochs=3)
    watched = tiny_run("kd", out="watched", training__epochs=3, runtime__watch_test=True)
    looks = [float(row["test_top1"]) for row in rows("watched")]
    assert len(looks) == 3
    assert watched.metrics["paper_rule_top1"] == max(looks)
    assert looks[-1] == watched.metrics["top1"]
    assert student_sha(watched) == student_sha(plain)
    assert "paper_rule_top1" not in plain.metrics


def test_a_run_that_did_not_watch_from_the_start_does_not_say_what_was_best(monkeypatch: pytest.MonkeyPatch) -> None:
    watches = iter([False])

    def next_run() -> RunResult:
        return tiny_run("kd", out="late", runtime__watch_test=next(watches, True))

    result, stops = until_done(monkeypatch, STEPS_PER_EPOCH + 1, next_run)
    assert stops == 1
    assert [bool(row["test_top1"]) for row in rows("late")] == [False, True]
    assert "paper_rule_top1" not in result.metrics


def test_without_held_out_images_the_test_images_are_still_watched() -> None:
    watched = tiny_run("kd", out="whole", data__val_split=0.0, runtime__watch_test=True, training__evaluate_every=2)
    assert [bool(row["test_top1"]) for row in rows("whole")] == [False, True]
    assert watched.metrics["paper_rule_top1"] == watched.metrics["top1"]
