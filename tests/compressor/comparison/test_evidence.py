"""What is read of a run's folder: against the answers that were planted there."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_runs import CLASSES, IMAGES, answers, made_up_cells, write_run

from compressor.comparison.evidence import read_evidence
from compressor.comparison.table import make_rows
from compressor.errors import InputError
from compressor.storage import read_tensors, write_tensors


def test_choices_confidence_and_errors_are_those_of_the_logits(tmp_path: Path) -> None:
    seen = read_evidence(write_run(tmp_path / "run", share_right=0.75, seed=3))
    assert seen is not None
    logits, labels = answers(0.75, 3)
    assert np.array_equal(seen.chosen, logits.argmax(1).numpy())
    assert int(seen.right.sum()) == 180
    assert seen.confidence == pytest.approx(logits.double().softmax(1).amax(1).numpy())
    assert seen.teacher_chosen is not None
    assert np.array_equal(seen.teacher_chosen, labels.numpy())
    assert len(seen.worst) == 4
    assert all(error.label != error.chosen for error in seen.worst)
    assert seen.size_bytes == 312_000
    assert seen.class_name(4) == CLASSES[4]
    assert seen.class_name(99) == "99"
    assert [row["epoch"] for row in seen.history] == [str(epoch) for epoch in range(6)]


def test_older_run_without_extras_is_read_and_one_without_answers_is_not(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", held_out=False)
    logits, labels = answers(0.8, 0)
    write_tensors(folder / "test.safetensors", {"logits": logits, "labels": labels})
    (folder / "student" / "config.json").unlink()
    seen = read_evidence(folder)
    assert seen is not None
    assert (seen.temperature, seen.scaled_error, seen.teacher_chosen, seen.worst) == (None, None, None, [])
    assert seen.class_name(2) == "2"
    (folder / "test.safetensors").unlink()
    assert read_evidence(folder) is None


def test_temperature_mends_what_the_held_out_images_show(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    logits = 2 * torch.randn(4000, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    halves = {"logits": 3 * logits[:2000], "labels": labels[:2000]}
    held_out = {"val_logits": 3 * logits[2000:], "val_labels": labels[2000:]}
    write_tensors(folder / "test.safetensors", halves | held_out)
    seen = read_evidence(folder)
    assert seen is not None
    assert seen.temperature == pytest.approx(3.0, rel=0.1)
    assert seen.scaled_error is not None
    assert seen.scaled_error < 0.03


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"logits": torch.zeros(240)}, "logits are no table of numbers"),
        ({"logits": torch.full((240, 6), torch.nan)}, "logits are not finite"),
        ({"labels": torch.full((240,), 6)}, "labels are not a class for each image"),
        ({"val_labels": torch.zeros(3, dtype=torch.int64)}, "val_labels are not a class for each image"),
        ({"teacher_classes": torch.zeros(240)}, "teacher_classes are not a class for each image"),
        ({"worst_index": torch.tensor([0, 1, 2, 240])}, "worst_images are no small pictures"),
        ({"worst_images": torch.zeros(4, 3, 8, 8)}, "worst_images are no small pictures"),
    ],
)
def test_answers_that_cannot_be_are_refused(tmp_path: Path, changed: dict[str, torch.Tensor], fault: str) -> None:
    file = write_run(tmp_path / "run") / "test.safetensors"
    write_tensors(file, read_tensors(file) | changed)
    with pytest.raises(InputError, match=f"test.safetensors is damaged: {fault}"):
        read_evidence(tmp_path / "run")


def test_interval_over_images_is_of_the_mean_over_seeds_and_needs_the_same_images(tmp_path: Path) -> None:
    cells = made_up_cells(tmp_path, {"scratch": [0.7, 0.7], "kd": [0.8, 0.8]})
    kd = next(row for row in make_rows(cells, "scratch") if row.method == "kd")
    assert kd.difference == pytest.approx(10.0)
    low, high = kd.image_interval or (0.0, 0.0)
    assert 5.0 < low < 10.0 < high < 15.0
    assert kd.temperature is not None
    for cell in cells:
        assert cell.evidence is not None
        object.__setattr__(cell.evidence, "labels", np.arange(IMAGES) if cell.method == "kd" else cell.evidence.labels)
    assert next(row for row in make_rows(cells, "scratch") if row.method == "kd").image_interval is None
