"""Rows I1 to I4: data that cannot be used are told before anything is trained, by name, and nothing is replaced."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from bad_data import bad_archive, good_entries, image_folder, odd_entries, scrambled, sound_arrays
from fault_runs import Stage, distill, environ
from figures import SEED, count, note
from hostile_doors import QUICK, ask, check, report

from compressor.data.images import UnreadableImage, probe_file, quiet_decoder, read_file
from compressor.data.load import load_data
from compressor.errors import InputError, UsageError

_PICTURES = 150, 2000
_ARCHIVES = 60, 500
EASY = {"data__val_split": 0.0, "training__batch_size": 2000}
CLASSES = {"aster": 6, "iris": 6, "rose": 6}


def test_scrambled_pictures_are_read_or_refused_with_a_reason(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    refused = 0
    wrong: list[str] = []
    number = count(*_PICTURES)
    for place in range(number):
        ending, content = scrambled(chance)
        path = tmp_path / f"{place}.{ending}"
        path.write_bytes(content)
        for read in (probe_file, read_file):
            with quiet_decoder():
                try:
                    read(path)
                except UnreadableImage as reason:
                    refused += read is read_file
                    if not str(reason):
                        wrong.append(f"{path.name}: no reason")
                except Exception as bug:  # noqa: BLE001  # whatever it is, the row must tell it
                    wrong.append(f"{path.name}, {read.__name__}: {type(bug).__name__}: {bug}")
        path.unlink()
    note("I1", tried=number, exits=[3] * refused, tracebacks=len(wrong))
    assert not wrong, "\n".join(wrong)
    assert number / 4 < refused < number


def test_garbled_archives_are_read_or_refused_by_name(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    path = tmp_path / "data.npz"
    refused = 0
    wrong: list[str] = []
    number = count(*_ARCHIVES)
    for _ in range(number):
        kind, content = bad_archive(chance)
        path.write_bytes(content)
        try:
            load_data(str(path), val_split=0.25)
        except (InputError, UsageError) as said:
            refused += 1
            if "\n" in said.message or str(path) not in said.message:
                wrong.append(f"{kind}: {said.message}")
        except Exception as bug:  # noqa: BLE001  # as above
            wrong.append(f"{kind}: {type(bug).__name__}: {bug}")
    note("I1", tried=number, exits=[3] * refused, tracebacks=len(wrong))
    assert not wrong, "\n".join(wrong)
    assert refused > number / 2


def folder_run(data: str, out: str, **changes: object) -> list[str]:
    """Return a run without a teacher on a folder of images."""
    return distill("scratch", out=out, data__source=data, **{"training__batch_size": 4, **QUICK, **changes})


def test_a_folder_with_everything_in_it_is_told_whole_or_left_out_and_counted(stage: Stage) -> None:
    place = stage.place(bank=False)
    root = image_folder(place / "flowers", CLASSES)
    fine = good_entries(root / "train" / "iris")
    clean = image_folder(place / "clean", CLASSES)
    good_entries(clean / "train" / "iris")
    bad = odd_entries(root / "train" / "rose")
    cases = [
        {"label": "told", "arguments": folder_run("flowers", "told")},
        {"label": "left out", "arguments": folder_run("flowers", "left", data__skip_bad_images="true")},
        {"label": "clean", "arguments": folder_run("clean", "clean-run")},
    ]
    answers = ask(stage, place, cases)
    report("I1", answers)
    check(answers[:1], names=[f"{len(bad)} unreadable images, first: "])
    check(answers[1:], exits=(0,))
    assert answers[0].errors[0].count(";") == 4  # five are shown
    left = json.loads((place / "left" / "result.json").read_text())
    assert left["data"]["unreadable"] == len(bad)
    assert left["data"]["train"] + left["data"]["val"] == sum(CLASSES.values()) + fine
    assert weights_of(place, "left") == weights_of(place, "clean-run")  # gone before the split: nothing else moved


def weights_of(place: Path, run: str) -> str:
    """Return the hash of a finished student's weights, whatever its data were called."""
    return str(json.loads((place / run / "result.json").read_text())["student"]["sha256"])


def two_thousand(place: Path) -> None:
    """Write a data set of two thousand classes."""
    pixels = np.zeros((4000, 4, 4), dtype=np.uint8)
    labels = np.arange(4000) % 2000
    np.savez(place / "many.npz", x_train=pixels, y_train=labels, x_test=pixels[:10], y_test=labels[:10])


def test_folders_that_cannot_be_learned_from_are_told_with_the_class_names(stage: Stage) -> None:
    place = stage.place(bank=False)
    (place / "empty").mkdir()
    image_folder(place / "one", {"aster": 4})
    image_folder(place / "hollow", CLASSES)
    for file in (place / "hollow" / "train" / "rose").iterdir():
        file.unlink()
    image_folder(place / "more", CLASSES)
    image_folder(place / "more", {"daisy": 2}, splits=("train",))
    image_folder(place / "fewer", CLASSES)
    image_folder(place / "fewer", {"tulip": 2}, splits=("val",))
    image_folder(place / "single", {"aster": 1, "iris": 1})
    two_thousand(place)
    rows = [
        ("empty", "empty", 3, "train"),
        ("one class", "one", 3, "'aster'"),
        ("empty class", "hollow", 3, "rose"),
        ("class only in train", "more", 3, "'daisy'"),
        ("class only in val", "fewer", 3, "'tulip'"),
        ("one image a class", "single", 3, "every class is too small"),
        ("two thousand classes", "many.npz", 0, ""),
    ]
    cases = [
        {"label": label, "arguments": folder_run(data, f"out-{data}", **(EASY if code == 0 else {}))}
        for label, data, code, _ in rows
    ]
    large = distill("scratch", out="b", data__source="many.npz", data__val_split=0, training__batch_size=5000, **QUICK)
    cases.append({"label": "batch larger than the data", "arguments": large})
    answers = ask(stage, place, cases)
    report("I2", answers)
    for (_, _, code, words), answer in zip(rows, answers, strict=False):
        check([answer], exits=(code,), names=[words])
    check(answers[-1:], exits=(2,), names=["5000 is larger than the training set"])


def test_a_teacher_of_other_classes_or_another_order_is_told_with_the_first_difference(stage: Stage) -> None:
    place = stage.place(bank=False)
    image_folder(place / "flowers", CLASSES)
    image_folder(place / "others", {"aster": 6, "iris": 6, "tulip": 6})
    image_folder(place / "fewer", {"aster": 6, "iris": 6})
    made = stage.run(folder_run("flowers", "teacher"), place)
    assert made.status == 0, made.output
    weights = "teacher/student/model.safetensors"

    def taught(data: str, **changes: object) -> list[str]:
        return distill("kd", out="out", data__source=data, training__batch_size=4, **QUICK, **changes)

    cases = [
        {"label": "other names", "arguments": taught("others", teacher__weights="run:teacher")},
        {"label": "other count", "arguments": taught("fewer", teacher__weights="run:teacher")},
        {"label": "other count, as a name", "arguments": taught("fewer", teacher__name="run:teacher")},
        {"label": "other count, bare file", "arguments": taught("fewer", teacher__weights=weights)},
        {"label": "first weights of other classes", "arguments": folder_run("fewer", "out", student__init=weights)},
        {"label": "evaluation of other classes", "arguments": ["eval", "teacher", "--data", "fewer"]},
        {"label": "evaluation of other names", "arguments": ["eval", "teacher", "--data", "others"]},
    ]
    answers = ask(stage, place, [{**case, "remove": ["out"]} for case in cases])
    report("I3", answers)
    order = "class order differs: index 2 is 'rose' in the teacher, 'tulip' in others"
    size = "has 3 classes, data fewer has 2"
    fit = "does not fit"
    check(answers, names=[order, size, size, fit, fit, size, order])


@pytest.mark.parametrize(("kind", "reason"), [("gone", "gone"), ("cut", "changed since it was scanned")])
def test_an_image_lost_amid_a_run_is_named_and_the_run_goes_on_when_it_is_back(
    kind: str, reason: str, stage: Stage
) -> None:
    place = stage.place(bank=False)
    root = image_folder(place / "flowers", CLASSES)
    args = folder_run("flowers", "run", data__pipeline="stream", runtime__workers=0)
    undisturbed = stage.copy(place)
    assert stage.run(args, undisturbed).status == 0
    contents = {path: path.read_bytes() for path in (root / "train").rglob("*.png")}
    told = {"args": args, "steps": 2, "kind": kind, "lost": sorted(map(str, contents))}
    ended = stage.server.run("hostile_children:losing", place, environ(place), **told)
    note("I4", tried=1, exits=[ended.status or 0])
    assert ended.status == 3, ended.output
    assert f".png ({reason})" in ended.output
    assert [path.name[-1] for path in sorted((place / "run" / "checkpoints").iterdir())] == ["1", "2"]
    for path, content in contents.items():
        path.write_bytes(content)
    assert stage.run(args, place).status == 0
    assert weights_of(place, "run") == weights_of(undisturbed, "run")


def test_the_sound_arrays_are_sound(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **sound_arrays())
    assert load_data(str(tmp_path / "data.npz"), val_split=0.25).num_classes == 3
