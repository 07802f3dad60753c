"""Products of the teacher alone: trained once, kept, shared, and keyed by all they depend on."""

import shutil
from pathlib import Path

import pytest
from tiny_methods import plant
from tiny_runs import Recorder, stop_after, student_sha, tiny_run

from compressor.errors import InputError, Stopped
from compressor.events import EpochDone, Fact, PhaseStarted
from compressor.storage import is_complete

ARTEFACTS = Path("cache/compress/artefacts")


def kept() -> list[Path]:
    return sorted(path for path in ARTEFACTS.iterdir() if is_complete(path))


def phases_of(recorder: Recorder) -> list[str]:
    return [event.phase for event in recorder.of(PhaseStarted)]


@pytest.mark.usefixtures("tiny")
def test_head_is_trained_once_and_shared_by_seeds_and_students() -> None:
    first, second, third = Recorder(), Recorder(), Recorder()
    tiny_run("sskd", out="a", listener=first)
    [folder] = kept()
    tiny_run("sskd", out="b", seed=1, listener=second)
    tiny_run("sskd", out="c", student__name="resnet14", listener=third)
    assert phases_of(first) == ["head", "student"]
    assert phases_of(second) == phases_of(third) == ["student"]
    assert kept() == [folder]
    for recorder in (first, second, third):
        assert [fact.text for fact in recorder.of(Fact) if fact.title == "Head"] == [
            f"made once for all students, kept in {folder.resolve()}"
        ]


@pytest.mark.usefixtures("tiny")
def test_student_is_the_same_whether_the_head_was_kept_or_trained() -> None:
    fresh = tiny_run("sskd", out="a", seed=3)
    shutil.rmtree(ARTEFACTS)
    tiny_run("sskd", out="b", seed=0)
    assert student_sha(tiny_run("sskd", out="c", seed=3)) == student_sha(fresh)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"method__head_epochs": 2}, False),
        ({"method__head_lr": 0.01}, False),
        ({"training__batch_size": 40}, False),
        ({"data__crop_padding": 0}, False),
        ({"teacher_training__epochs": 5}, False),
        ({"method__ss_temperature": 1.0}, True),
        ({"method__kd_weight": 2.0}, True),
        ({"training__epochs": 1}, True),
        ({"training__lr": 0.02}, True),
        ({"training__ema_decay": 0.9}, True),
        ({"data__shots": 10}, True),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_key_holds_what_the_head_depends_on_and_nothing_else(changes: dict[str, object], shared: bool) -> None:
    tiny_run("sskd", out="a", training__epochs=2)
    tiny_run("sskd", out="b", **changes)
    assert len(kept()) == (1 if shared else 2)


@pytest.mark.usefixtures("tiny")
def test_damaged_head_is_refused() -> None:
    tiny_run("sskd", out="a")
    [folder] = kept()
    file = folder / "artefact.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(InputError) as caught:
        tiny_run("sskd", out="b", seed=1)
    assert caught.value.exit_code == 3
    assert str(folder) in str(caught.value)


@pytest.mark.usefixtures("tiny")
def test_stop_inside_the_head_leaves_a_place_and_no_artefact(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 2)
    with pytest.raises(Stopped, match="saved step 2"):
        tiny_run("sskd")
    assert kept() == []
    stop_after(monkeypatch, None)
    recorder = Recorder()
    tiny_run("sskd", listener=recorder)
    assert [(event.phase, event.step) for event in recorder.of(PhaseStarted)] == [("head", 2), ("student", 0)]
    assert len(kept()) == 1
    assert [path for path in ARTEFACTS.iterdir() if path.name.endswith(".work")] == []


@pytest.mark.usefixtures("tiny")
def test_skipped_head_phase_keeps_nothing() -> None:
    recorder = Recorder()
    tiny_run("sskd", method__head_epochs=0, listener=recorder)
    assert phases_of(recorder) == ["student"]
    assert not ARTEFACTS.exists()


@pytest.mark.usefixtures("tiny")
def test_phases_follow_each_other_with_their_own_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch, demanding="tiny_methods:Demanding")
    recorder = Recorder()
    tiny_run("demanding", method__warm_epochs=2, listener=recorder)
    assert phases_of(recorder) == ["probe", "warm", "student"]
    rates = [(event.phase, event.lr) for event in recorder.of(EpochDone)]
    assert [rate for phase, rate in rates if phase == "warm"] == pytest.approx([0.02, 0.002])
    assert not (Path("run") / "student" / "lane.safetensors").exists()
