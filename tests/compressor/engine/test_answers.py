"""Runs with an augmentation pool: what is replayed is what the teacher answers, and it is asked but once."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_methods import plant
from tiny_runs import STEPS_PER_EPOCH, Recorder, stop_after, student_sha, tiny_config, tiny_run, until_done

from compressor.engine import replay
from compressor.engine.jobs import Cell
from compressor.engine.rehearsal import last_phase, rehearse
from compressor.engine.replay import answers_folder, kept_bytes
from compressor.engine.runs import run_cells
from compressor.errors import InputError, Stopped, StorageError, UsageError
from compressor.events import Fact, Warned
from compressor.models.taps import TappedModel
from compressor.storage import RunLock, open_sealed, read_tensors, sealed_files, write_sealed

pytestmark = pytest.mark.usefixtures("tiny")
IMAGES = 270  # 300 less a tenth held out, in six batches of 50 and a last one of 20
EPOCHS = {"training__epochs": 3}


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Collect the rows of every pass of the teacher in training."""
    rows: list[int] = []
    usual = TappedModel.forward

    def forward(self: TappedModel, images: torch.Tensor, wanted: Any) -> Any:
        if self.owner == "teacher" and len(images) > 2:  # two blank images tell the shapes
            rows.append(len(images))
        return usual(self, images, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(TappedModel, "forward", forward)
        yield rows


def stores() -> list[Path]:
    """The folders of kept answers."""
    return sorted(answers_folder().iterdir())


def files() -> list[Path]:
    """The files of kept answers."""
    return sorted(path for folder in answers_folder().rglob("logits*") for path in sealed_files(folder))


def test_the_teacher_answers_each_draw_once_for_all_epochs_seeds_and_methods(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with counted(monkeypatch) as rows:
        tiny_run("kd", data__augmentation_pool=2, **EPOCHS)
    assert rows == [50] * (2 * STEPS_PER_EPOCH)  # two epochs of three; a last batch of 20 is filled up
    for changes in ({"seed": 1}, {"method__kd_temperature": 2.0}, {"seed": 2, "training__epochs": 5}):
        with counted(monkeypatch) as rows:
            tiny_run("kd", out=f"other-{len(changes)}-{next(iter(changes))}", data__augmentation_pool=2, **changes)
        assert rows == [50]  # the sample that is compared, filled up to a call


def test_pooled_training_learns_from_few_draws_and_says_so_in_its_identity() -> None:
    fresh, pooled = tiny_config("kd"), tiny_config("kd", data__augmentation_pool=2)
    assert fresh.sha256 != pooled.sha256
    assert "augmentation_pool" not in fresh.identity()["data"]
    assert pooled.identity()["data"]["augmentation_pool"] == 2
    assert tiny_config("kd", runtime__replay_bytes=5).sha256 == fresh.sha256


@pytest.mark.parametrize("method", ["kd", "fitnet", "sskd"])
def test_replayed_answers_train_the_student_that_computed_ones_train(method: str) -> None:
    options = {"data__augmentation_pool": 2, **EPOCHS}
    computed = tiny_run(method, out="computed", runtime__replay_bytes=0, **options)
    assert kept_bytes(answers_folder()) < 10_000  # a lock and a record
    tiny_run(method, out="seed-1", seed=1, **options)
    replayed = tiny_run(method, out="replayed", **options)
    assert replayed.values["data"]["augmentation_pool"] == 2
    one, other = (read_tensors(run.student_folder / "model.safetensors") for run in (computed, replayed))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_remembered_answers_to_fresh_draws_change_no_pixel_and_spare_the_second_student_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fresh = tiny_run("kd", out="fresh", training__epochs=6)
    with counted(monkeypatch) as rows:
        first = tiny_run("kd", out="first", data__augmentation_pool="all", training__epochs=6)
    # of nine corners six draws hit 9 * (1 - (8 / 9) ** 6) = 4.56
    assert IMAGES * 4.4 < sum(rows) < IMAGES * 6
    with counted(monkeypatch) as rows:
        tiny_run("kd", out="second", seed=1, data__augmentation_pool="all", training__epochs=6)
    assert sum(rows) < IMAGES * 4
    one, other = (read_tensors(run.student_folder / "model.safetensors") for run in (fresh, first))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("method", "pool"), [("sskd", 2), ("kd", "all")])
def test_a_run_stopped_again_and_again_ends_with_the_bits_of_an_undisturbed_one(
    method: str, pool: Any, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data__augmentation_pool": pool, **EPOCHS}
    undisturbed = tiny_run(method, out="undisturbed", **options)
    for product in ("answers", "artefacts"):
        shutil.rmtree(tiny / "cache" / "compress" / product, ignore_errors=True)
    stopped, stops = until_done(monkeypatch, 5, lambda: tiny_run(method, out="stopped", **options))
    assert stops >= 3
    assert student_sha(stopped) == student_sha(undisturbed)


def test_a_run_that_lost_what_it_had_not_written_ends_with_the_same_bits(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data__augmentation_pool": 2, **EPOCHS}
    undisturbed = tiny_run("fitnet", out="undisturbed", **options)
    shutil.rmtree(answers_folder())
    stop_after(monkeypatch, 8)
    with pytest.raises(Stopped):
        tiny_run("fitnet", out="killed", **options)
    assert files()
    files()[0].unlink()
    stop_after(monkeypatch, None)
    assert student_sha(tiny_run("fitnet", out="killed", **options)) == student_sha(undisturbed)


def test_lanes_are_the_same_alone_and_in_company() -> None:
    methods = ("scratch", "kd", "sskd")
    options = {"data__augmentation_pool": 2, **EPOCHS}
    outcomes = run_cells([Cell(tiny_config(name, **options), Path("group") / name) for name in methods])
    assert [outcome.failure for outcome in outcomes] == [None] * 3
    for name, outcome in zip(methods, outcomes, strict=True):
        assert outcome.result is not None
        assert student_sha(tiny_run(name, out=f"alone-{name}", **options)) == student_sha(outcome.result), name


def test_a_method_that_asks_for_everything_is_replayed_in_all_its_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, demanding="tiny_methods:Demanding")
    options = {"data__augmentation_pool": 1, **EPOCHS}
    first = tiny_run("demanding", out="first", **options)
    with counted(monkeypatch) as rows:
        second = tiny_run("demanding", out="second", **options)
    assert student_sha(first) == student_sha(second)
    assert set(rows) == {50}
    assert len(rows) == 2 * 4  # the samples of four views in two phases: the artefact was there already


def test_answers_that_hold_more_serve_who_wants_less_and_who_wants_more_makes_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"data__augmentation_pool": 1}
    tiny_run("kd", out="less", **options)
    assert [path.parent.name for path in files()] == ["logits"]
    with counted(monkeypatch) as rows:
        tiny_run("fitnet", out="more", **options)
    assert rows == [50] * STEPS_PER_EPOCH
    assert sorted(path.parent.name for path in files()) == ["logits", "logits+stages"]
    shutil.rmtree(files()[0].parent)
    with counted(monkeypatch) as rows:
        tiny_run("kd", out="less-again", **options, seed=1)
    assert rows == [50]
    assert [path.parent.name for path in files()] == ["logits+stages"]


def test_a_damaged_file_is_dropped_with_a_line_and_computed_anew() -> None:
    options = {"data__augmentation_pool": 2, **EPOCHS}
    usual, heard = tiny_run("kd", out="usual", **options), Recorder()
    [path] = files()
    content = bytearray(path.read_bytes())
    content[-5] ^= 64
    path.write_bytes(bytes(content))
    again = tiny_run("kd", out="again", listener=heard, **options)
    assert student_sha(again) == student_sha(usual)
    assert "1 damaged files of kept answers were left out: they are computed anew" in _warnings(heard)
    assert files() == [path]
    assert open_sealed(path)


def test_answers_that_are_not_the_teachers_end_the_run_before_its_first_step() -> None:
    tiny_run("kd", data__augmentation_pool=2, **EPOCHS)
    [path] = files()
    tensors = read_tensors(path)
    path.unlink()
    write_sealed(path.parent, {**tensors, "logits": tensors["logits"].roll(1, 0)})
    [folder] = stores()
    with pytest.raises(InputError, match=rf"logits kept in {folder} are not what the teacher answers") as refused:
        tiny_run("kd", out="other", seed=1, data__augmentation_pool=2)
    assert refused.value.hint == f"rm -r '{folder}'"


def test_a_second_run_reads_what_another_one_writes_and_writes_nothing() -> None:
    options = {"data__augmentation_pool": 4, **EPOCHS}
    first = tiny_run("kd", out="first", **options)
    before, heard = files(), Recorder()
    with RunLock(stores()[0]):
        other = tiny_run("kd", out="other", listener=heard, **{**options, "training__epochs": 5})
    assert files() == before
    assert any("answers are read but none are added" in line and "is in use" in line for line in _warnings(heard))
    assert len(other.values["student"]["sha256"]) == len(first.values["student"]["sha256"])


def test_what_does_not_fit_is_computed_each_time_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Recorder()
    with counted(monkeypatch) as rows:
        tiny_run("kd", data__augmentation_pool=2, runtime__replay_bytes=20_000, listener=heard, **EPOCHS)
    assert sum(rows) == 3 * IMAGES
    [line] = _warnings(heard)
    assert line.startswith("22 kB of answers do not fit into the 19 kB they may take")  # the record takes one
    assert files() == []
    with counted(monkeypatch) as rows:
        tiny_run("kd", out="fits", data__augmentation_pool=2, runtime__replay_bytes=40_000, **EPOCHS)
    assert sum(rows) == 2 * STEPS_PER_EPOCH * 50


def test_a_disk_that_refuses_ends_the_keeping_and_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Path:
        raise StorageError("disk full while saving answers")

    heard = Recorder()
    with monkeypatch.context() as patch:
        patch.setattr("compressor.engine.replay_table.write_sealed", refuse)
        refused = tiny_run("kd", out="refused", data__augmentation_pool=2, listener=heard, **EPOCHS)
    assert _warnings(heard) == [
        "no more of the teacher's answers are kept, the run goes on: disk full while saving answers"
    ]
    assert student_sha(refused) == student_sha(tiny_run("kd", out="kept", data__augmentation_pool=2, **EPOCHS))


def test_a_cache_that_cannot_be_written_is_said_and_done_without() -> None:
    answers_folder().write_text("in the way")
    heard = Recorder()
    tiny_run("kd", data__augmentation_pool=2, listener=heard, **EPOCHS)
    assert any("is a file; a folder is needed there" in line for line in _warnings(heard))


def test_a_rehearsal_says_what_will_be_kept_and_writes_nothing() -> None:
    heard = Recorder()
    rehearse(tiny_config("kd", data__augmentation_pool=2, **EPOCHS), listener=heard)
    [line] = [event.text for event in heard.of(Fact) if event.title == "Answers"]
    assert line.startswith(f"0 of the teacher kept before, 22 kB to come in {answers_folder()}")
    assert not answers_folder().exists()


def test_the_share_that_is_computed_is_that_of_the_pool_among_the_epochs() -> None:
    loop = last_phase([tiny_config("kd", data__augmentation_pool=2)])
    assert [loop.answers.prepare(epochs) for epochs in (1, 2, 3, 8)] == pytest.approx([1, 1, 2 / 3, 1 / 4])
    nowhere = last_phase([tiny_config("kd", data__augmentation_pool=2, runtime__replay_bytes=0)])
    assert nowhere.answers.prepare(8) == 1


def test_streamed_images_have_a_pool_too_and_share_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"data__pipeline": "stream", "runtime__workers": 0, "data__augmentation_pool": 1, "training__epochs": 2}
    with counted(monkeypatch) as rows:
        tiny_run("kd", out="first", **options)
    assert rows == [50] * STEPS_PER_EPOCH
    with counted(monkeypatch) as rows:
        tiny_run("kd", out="second", seed=1, **options)
    assert rows == [50]


def test_all_draws_of_streamed_images_are_refused_with_what_to_type() -> None:
    with pytest.raises(UsageError, match="--augmentation-pool all needs images in memory: those of") as refused:
        tiny_run("kd", data__pipeline="stream", runtime__workers=0, data__augmentation_pool="all")
    assert refused.value.hint == "--augmentation-pool 8, or --set data.pipeline=resident"


def test_nothing_is_kept_without_a_pool_or_without_a_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay.Replay, "open", lambda *_: pytest.fail("opened"))
    tiny_run("kd", out="fresh")
    tiny_run("scratch", out="scratch", data__augmentation_pool=2)


def _warnings(heard: Recorder) -> list[str]:
    return [event.message for event in heard.of(Warned)]
