"""Finished runs as cells: named, and refused where they cannot stand in one table."""

from pathlib import Path
from typing import Any

import pytest
from made_up_runs import write_run

from compressor.comparison.finished import records_of
from compressor.errors import InputError, UsageError


def test_runs_become_cells_with_pair_method_and_seed(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", method="scratch"),
        write_run(tmp_path / "b", method="kd", seed=1),
        write_run(tmp_path / "c", method="kd", seed=1, settings={"views": 4}),
    ]
    assert [(cell.method, cell.pair, cell.seed) for cell in records_of(folders)] == [
        ("scratch", "resnet20 -> resnet8", 0),
        ("kd", "resnet20 -> resnet8", 1),
        ("kd (4 views)", "resnet20 -> resnet8", 1),
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"training": {"epochs": 12}}, r"differ in epochs 6 and 12$"),
        ({"training": {"batch_size": 64, "select": "best"}}, r"batch_size 50 and 64; select last and best$"),
        ({"data": {"shots": 10}}, r"differ in data.shots None and 10$"),
        ({"data_sha256": "e" * 64}, r"differ in data_sha256 d{12}\.\.\. and e{12}\.\.\.$"),
        ({"teacher_sha256": "8" * 64}, r"differ in teacher_sha256 7{12}\.\.\. and 8{12}\.\.\.$"),
    ],
)
def test_what_differs_is_named_with_both_values(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b", seed=1, **changed)]
    with pytest.raises(UsageError, match=message) as caught:
        records_of(folders)
    assert caught.value.hint == "compare runs of equal data, teacher and budget"


def test_run_without_a_teacher_does_not_hide_two_teachers(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", method="scratch"),
        write_run(tmp_path / "b", seed=0),
        write_run(tmp_path / "c", seed=1, teacher_sha256="8" * 64),
    ]
    assert len(records_of(folders[:2])) == 2
    with pytest.raises(UsageError, match="differ in teacher_sha256"):
        records_of(folders)


def test_runs_of_two_pairs_have_each_their_teacher(tmp_path: Path) -> None:
    other = write_run(tmp_path / "b", teacher="vgg13", student="vgg8", teacher_sha256="8" * 64)
    cells = records_of([write_run(tmp_path / "a"), other])
    assert [cell.pair for cell in cells] == ["resnet20 -> resnet8", "vgg13 -> vgg8"]


def test_same_method_and_seed_twice_is_refused(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a"), write_run(tmp_path / "b")]
    with pytest.raises(UsageError, match=r"a and .*b are the same method and seed: kd s0"):
        records_of(folders)


def test_run_that_is_not_finished_is_refused_with_its_command(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    (folder / "result.json").unlink()
    with pytest.raises(InputError, match="is not finished") as caught:
        records_of([folder])
    assert "compress compare --methods kd" in str(caught.value.hint)
