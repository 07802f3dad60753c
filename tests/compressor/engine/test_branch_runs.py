"""Methods with branches in real runs: what a frozen teacher keeps, what belongs to it, and two networks that learn."""

import shutil
from pathlib import Path

import pytest
import torch
from test_frozen_teacher import teacher_for_digits
from tiny_runs import TINY, Recorder, student_sha, tiny_run

import compressor
from compressor.events import PhaseStarted
from compressor.storage import is_complete, read_tensors

pytestmark = pytest.mark.usefixtures("tiny")
ARTEFACTS = Path("cache/compress/artefacts")
SHORT = {"training__epochs": 1, "method__branch_epochs": 1, "method__teacher_epochs": 1}


def phases_of(recorder: Recorder) -> list[str]:
    return [event.phase for event in recorder.of(PhaseStarted)]


def kept() -> list[str]:
    return sorted(path.name.rpartition("-")[0] for path in ARTEFACTS.iterdir() if is_complete(path))


@pytest.mark.parametrize(("variant", "phase"), [("frozen", "branches"), ("joint", "teacher")])
def test_teachers_phase_is_trained_once_and_shared_by_seeds_and_students(variant: str, phase: str) -> None:
    first, second, third = Recorder(), Recorder(), Recorder()
    settings = {**SHORT, "method__variant": variant}
    tiny_run("hsakd", out="a", listener=first, **settings)
    fresh = tiny_run("hsakd", out="b", seed=1, listener=second, **settings)
    tiny_run("hsakd", out="c", student__name="wrn_16_1", listener=third, **settings)
    assert phases_of(first) == [phase, "student"]
    assert phases_of(second) == phases_of(third) == ["student"]
    assert kept() == [f"hsakd-{phase}"]
    shutil.rmtree(ARTEFACTS)
    again = tiny_run("hsakd", out="d", seed=1, **settings)  # trained here by another seed than before
    assert student_sha(again) == student_sha(fresh)


def test_frozen_teacher_is_bit_identical_after_its_branches_and_the_student() -> None:
    teacher = teacher_for_digits()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    own = {key: value for key, value in TINY.items() if not key.startswith(("teacher.", "student.", "data.source"))}
    settings = {**own, "method.branch_epochs": 1, "training.epochs": 1}
    compressor.distill(
        method="hsakd", teacher=teacher, student="resnet8", data="tiny.npz", out="run", settings=settings
    )
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(teacher.state_dict()[name], value) for name, value in before.items())


def test_two_networks_learn_together_and_both_are_published() -> None:
    result = tiny_run("hssakd", student__name="wrn_16_1", training__epochs=1)
    peer = result.values["peer"]
    assert (result.values["student"]["architecture"], peer["name"]) == ("cifar_wrn_16_1", "resnet14")
    for folder in (Path(result.values["student"]["folder"]), Path(peer["folder"])):
        keys = read_tensors(folder / "model.safetensors")
        assert not [key for key in keys if "branch" in key or "tails" in key]
    assert 0 <= peer["top1"] <= 100
