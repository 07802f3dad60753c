"""Teachers: kept in the bank under all that decides their weights, refused when they cannot teach."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import Recorder, student_sha, tiny_config, tiny_run, write_data

import compressor_zoo
from compressor.data.load import load_data
from compressor.data.types import DataSet
from compressor.engine.bank import bank_folder, list_bank, teacher_key
from compressor.engine.teaching import teach
from compressor.errors import InputError
from compressor.events import Fact, LaneDone
from compressor.storage import read_json


def tiny_data(path: str = "tiny.npz") -> DataSet:
    return load_data(path)


def banked() -> Path:
    [folder] = bank_folder().iterdir()
    return folder


def test_teacher_is_trained_once_and_found_afterwards(tiny: Path) -> None:
    shutil.rmtree(bank_folder())
    first, second = Recorder(), Recorder()
    one = tiny_run("kd", out="a", listener=first)
    other = tiny_run("kd", out="b", seed=1, listener=second)
    assert [fact.text for fact in first.of(Fact) if "the bank has none" in fact.text] == [
        "the bank has none: training resnet14"
    ]
    assert not [fact for fact in second.of(Fact) if "the bank has none" in fact.text]
    assert one.values["teacher"]["sha256"] == other.values["teacher"]["sha256"]
    [record] = list_bank()
    assert record.sha256 == one.values["teacher"]["sha256"]
    assert record.top1 == one.metrics["teacher_top1"]
    assert sorted(path.name for path in record.folder.iterdir()) == [
        "manifest.json",
        "model.safetensors",
        "teacher.json",
    ]


def test_bank_training_twice_gives_the_same_weights(tiny: Path) -> None:
    [before] = list_bank()
    shutil.rmtree(bank_folder())
    assert teach(tiny_config()).sha256 == before.sha256


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher__name": "resnet8"},
        {"teacher_training__epochs": 5},
        {"teacher_training__lr": 0.06},
        {"data__crop_padding": 2},
        {"data__flip": True},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_key_changes_with_what_decides_the_weights(changes: dict[str, object], tiny: Path) -> None:
    data = tiny_data()
    assert teacher_key(tiny_config(**changes), data) != teacher_key(tiny_config(), data)


def test_key_changes_with_the_images(tiny: Path) -> None:
    before = teacher_key(tiny_config(), tiny_data())
    write_data(tiny, brighter=1)
    assert teacher_key(tiny_config(), tiny_data()) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7},
        {"method__kd_temperature": 2.0},
        {"student__name": "resnet20"},
        {"training__epochs": 9},
        {"data__shots": 5},
        {"runtime__threads": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_key_does_not_change_with_what_only_the_student_sees(changes: dict[str, object], tiny: Path) -> None:
    data = tiny_data()
    assert teacher_key(tiny_config("kd", **changes), data) == teacher_key(tiny_config("kd"), data)


def test_few_shots_leave_the_teacher_all_its_images(tiny: Path) -> None:
    recorder = Recorder()
    result = tiny_run("kd", data__shots=5, training__batch_size=25, listener=recorder)
    assert result.values["data"]["train"] == 50
    assert not [fact for fact in recorder.of(Fact) if "the bank has none" in fact.text]
    assert recorder.of(LaneDone)


@pytest.mark.parametrize("file", ["model.safetensors", "teacher.json"])
def test_damaged_bank_folder_is_refused(file: str, tiny: Path) -> None:
    path = banked() / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError) as caught:
        tiny_run("kd")
    assert caught.value.exit_code == 3
    assert str(banked()) in str(caught.value)


def test_random_teacher_is_refused_with_exit_3(tiny: Path) -> None:
    torch.manual_seed(1)
    assert compressor_zoo.ARCHITECTURES
    net = timm.create_model("cifar_resnet14", num_classes=10)
    save_file(net.state_dict(), "random.safetensors")
    with pytest.raises(InputError, match=r"teacher top-1 is \d+\.\d on \d+ images \(chance 10\.0\)") as caught:
        tiny_run("kd", teacher__weights="random.safetensors")
    assert caught.value.exit_code == 3
    assert caught.value.code == "teacher.chance"
    assert "compress teach --teacher resnet14" in str(caught.value.hint)


def test_teacher_named_by_its_bank_folder_teaches_the_same_student(tiny: Path) -> None:
    named = tiny_run("kd", out="a", teacher__weights=str(banked()))
    assert student_sha(named) == student_sha(tiny_run("kd", out="b"))
    assert named.values["teacher"]["origin"] == str(banked())


def test_bare_weights_file_is_shown_images_as_its_architecture_wants_them(tiny: Path) -> None:
    shutil.copy(banked() / "model.safetensors", "teacher.safetensors")
    result = tiny_run("kd", teacher__weights="teacher.safetensors")
    stored = load_file("teacher.safetensors")
    net = timm.create_model("cifar_resnet14", num_classes=10).eval()
    net.load_state_dict(stored)
    with np.load("tiny.npz") as archive:
        images, labels = torch.tensor(archive["x_test"]), torch.tensor(archive["y_test"])
    mean, std = (torch.tensor(net.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        logits = net((images[:, None].expand(-1, 3, -1, -1) / 255 - mean) / std)
    assert result.metrics["teacher_top1"] == pytest.approx(100 * float((logits.argmax(1) == labels).double().mean()))


def test_teacher_of_another_class_count_is_refused(tiny: Path) -> None:
    net = timm.create_model("cifar_resnet14", num_classes=7)
    save_file(net.state_dict(), "seven.safetensors")
    with pytest.raises(InputError):
        tiny_run("kd", teacher__weights="seven.safetensors")


def test_class_order_that_differs_names_the_first_difference(tiny: Path) -> None:
    with np.load("tiny.npz") as archive:
        arrays = dict(archive)
    names = np.array(["0", "1", "3", "2", "4", "5", "6", "7", "8", "9"])
    np.savez("renamed.npz", **arrays, class_names=names)
    with pytest.raises(
        InputError, match=r"class order differs: index 2 is '2' in the teacher, '3' in renamed\.npz"
    ) as caught:
        tiny_run("kd", data__source="renamed.npz", teacher__weights=str(banked()))
    assert caught.value.code == "teacher.class_order"


def test_finished_student_teaches_the_next_one(tiny: Path) -> None:
    first = tiny_run("kd", out="first", training__epochs=6)
    second = tiny_run("kd", out="second", teacher__name=f"run:{first.folder}", student__name="resnet8")
    assert second.values["teacher"]["sha256"] == first.values["student"]["sha256"]


def test_import_puts_a_file_into_the_bank_and_keeps_what_is_there(tiny: Path) -> None:
    shutil.copy(banked() / "model.safetensors", "mine.safetensors")
    with pytest.raises(InputError, match="the bank already has"):
        teach(tiny_config(), weights=Path("mine.safetensors"))
    shutil.rmtree(bank_folder())
    record = teach(tiny_config(), weights=Path("mine.safetensors"))
    assert record.origin == "imported from mine.safetensors"
    stored = load_file(record.folder / "model.safetensors")
    assert all(torch.equal(value, stored[name]) for name, value in load_file("mine.safetensors").items())
    assert tiny_run("kd").values["teacher"]["sha256"] == record.sha256


def test_fresh_teacher_sets_the_old_one_aside(tiny: Path) -> None:
    old = banked()
    digest = read_json(old / "teacher.json")
    record = teach(tiny_config(), fresh=True)
    assert record.folder == old
    asides = [path for path in bank_folder().iterdir() if path != old]
    assert [read_json(path / "teacher.json") for path in asides] == [digest]
