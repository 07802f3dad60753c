"""Whatever decides an answer decides where it is kept: nothing that changed can be hit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import write_data
from torch import nn

from compressor.config.settings import RuntimeConfig
from compressor.data.load import load_data
from compressor.data.types import PLAIN, Augmentation, DataSet, ViewSlot
from compressor.distiller import Rotations, Views
from compressor.engine.inference import InferenceForm
from compressor.engine.interrupts import StopRequest
from compressor.engine.normalise import Normalisation
from compressor.engine.replay_keys import (
    described,
    expected_new,
    key_of,
    names_of_more,
    parts_name,
    slot_name,
    wanted_by,
)
from compressor.engine.runtime import Runtime
from compressor.engine.session import Session, Teacher
from compressor.events import silent
from compressor.models.taps import TappedModel, Wanted


@pytest.fixture
def data() -> DataSet:
    return load_data(str(write_data(Path.cwd())))


def session_of(data: DataSet, **changes: Any) -> Session:
    runtime = Runtime(RuntimeConfig(device="cpu", plain=changes.pop("plain", False)), changes.pop("precision", "fp32"))
    net = changes.pop("net", None) or nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    teacher = Teacher(
        name="teacher",
        tapped=TappedModel(net, owner="teacher"),
        normalisation=changes.pop("normalisation", Normalisation((0.5,) * 3, (0.25,) * 3)),
        sha256=changes.pop("sha256", "a" * 64),
    )
    known = {"crop_padding": 1, "flip": True, "pool": 4, "pool_seed": 0}
    augmentation = Augmentation(**{**known, **changes.pop("augmentation", {})})
    assert not changes
    return Session(
        data=data, teacher=teacher, augmentation=augmentation, runtime=runtime, listener=silent, stop=StopRequest()
    )


def key(session: Session) -> str:
    assert session.teacher is not None
    return key_of(described(session, session.teacher, session.data.train))


CHANGES: dict[str, dict[str, Any]] = {
    "weights of the teacher": {"sha256": "b" * 64},
    "mean": {"normalisation": Normalisation((0.5, 0.5, 0.4), (0.25,) * 3)},
    "deviation": {"normalisation": Normalisation((0.5,) * 3, (0.25, 0.25, 0.3))},
    "no normalisation": {"normalisation": Normalisation((0.5,) * 3, (0.25,) * 3, identity=True)},
    "modules that run": {"net": nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(192, 10))},
    "types of its numbers": {"net": nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).double()},
    "precision": {"precision": "bf16"},
    "plain": {"plain": True},
    "padding": {"augmentation": {"crop_padding": 2}},
    "flip": {"augmentation": {"flip": False}},
    "scale of crops": {"augmentation": {"crop_scale": 0.5}},
    "K": {"augmentation": {"pool": 5}},
    "seed of the pool": {"augmentation": {"pool_seed": 1}},
    "all draws": {"augmentation": {"pool": 0, "numbered": True}},
}


def test_every_change_of_teacher_form_or_pictures_has_a_folder_of_its_own(data: DataSet) -> None:
    same = [key(session_of(data)), key(session_of(data))]
    assert same[0] == same[1]
    keys = {name: key(session_of(data, **changes)) for name, changes in CHANGES.items()}
    assert len({*keys.values(), same[0]}) == len(CHANGES) + 1 == 15


def test_a_folded_form_has_a_folder_of_its_own(data: DataSet) -> None:
    plain, folded = session_of(data), session_of(data)
    assert plain.teacher is not None
    net = plain.teacher.tapped.net
    form = InferenceForm(net, nn.Sequential(nn.Flatten(), nn.Identity(), nn.Linear(192, 10))).eval()
    assert key(replace(folded, teacher=replace(plain.teacher, tapped=form))) != key(plain)
    same = InferenceForm(net, net).eval()
    assert key(replace(folded, teacher=replace(plain.teacher, tapped=same))) == key(plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: replace(data, sha256="c" * 64, teacher_sha256="c" * 64),
        lambda data: replace(data, image_size=(3, 16, 16)),
        lambda data: replace(data, pipeline="stream"),
        lambda data: replace(data, train=data.train.subset(torch.arange(20))),
    ],
)
def test_every_change_of_the_data_has_a_folder_of_its_own(change: Callable[[DataSet], DataSet], data: DataSet) -> None:
    assert key(session_of(change(data))) != key(session_of(data))


def test_other_pixels_are_other_data(data: DataSet) -> None:
    brighter = load_data(str(write_data(Path.cwd(), name="brighter.npz", brighter=1)))
    assert key(session_of(brighter)) != key(session_of(data))


def test_students_and_products_of_the_teacher_share_answers_unless_the_student_sees_less(data: DataSet) -> None:
    session = session_of(data)
    assert session.teacher is not None
    assert key(session) == key_of(described(session, session.teacher, data.teacher_train))
    few = session_of(load_data(data.name, shots=5))
    assert few.teacher is not None
    assert key(few) != key_of(described(few, few.teacher, few.data.teacher_train)) == key(session)


@dataclass(frozen=True)
class Flips(Views):
    """Another family."""

    count: int = 2
    downwards: bool = False


def test_views_have_folders_of_their_own_and_the_plain_one_is_everybodys() -> None:
    assert slot_name(PLAIN) == slot_name(ViewSlot(Rotations(4), 0)) == "plain"
    others = [
        ViewSlot(Rotations(4), 1),
        ViewSlot(Rotations(4), 2),
        ViewSlot(Rotations(4, shared_crop=True), 1),
        ViewSlot(Flips(), 1),
        ViewSlot(Flips(downwards=True), 1),
    ]
    assert len({slot_name(slot) for slot in others} | {"plain"}) == 6
    assert slot_name(ViewSlot(Rotations(4), 1)) == slot_name(ViewSlot(Rotations(4), 1))


def test_parts_are_named_and_read_back() -> None:
    assert parts_name(Wanted(tails=True)) == "logits"
    assert parts_name(Wanted(stages=True, embedding=True)) == "logits+embedding+stages"
    assert wanted_by("logits+embedding+stages") == Wanted(stages=True, embedding=True)
    assert set(names_of_more(Wanted(embedding=True))) == {
        "logits+embedding+stages",
        "logits+embedding+preacts",
        "logits+embedding+stages+preacts",
    }
    assert len(names_of_more(Wanted())) == 7


def test_a_pool_is_seen_draw_by_draw_and_fresh_draws_meet_again() -> None:
    assert expected_new(100, 8, 3, 0, pool=True) == 300
    assert expected_new(100, 8, 240, 500, pool=True) == 300
    assert expected_new(100, 1, 240, 0, pool=False) == 100
    # of 162 pictures, 240 draws miss one with probability (161 / 162) ** 240 = 0.2263
    assert expected_new(50_000, 162, 240, 0, pool=False) == pytest.approx(50_000 * 162 * 0.7737, rel=1e-3)
    assert expected_new(100, 162, 240, 100 * 162, pool=False) == 0
