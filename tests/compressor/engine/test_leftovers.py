"""What a kill leaves in the cache is gone after the next run; what lives there stays."""

import shutil
from pathlib import Path

import pytest
from tiny_runs import tiny_run

from compressor.engine.bank import bank_folder
from compressor.engine.leftovers import clear_leftovers, work_folder
from compressor.storage import RunLock, is_complete, is_temporary
from compressor.storage.names import temporary_name


def left_by_a_dead_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patched:
        patched.setattr("os.getpid", lambda: 2**22 + 1)  # more than any process number of a Linux machine
        place = temporary_name(folder)
    place.mkdir()
    (place / "teacher.json").write_text("{}")
    return place


def test_half_written_teacher_and_finished_work_are_cleared_by_the_next_run(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [teacher] = bank_folder().iterdir()
    torn = left_by_a_dead_process(teacher, monkeypatch)
    work_folder(teacher).mkdir()
    (work_folder(teacher) / "run.lock").write_text("")
    assert is_temporary(torn.name)
    tiny_run("kd")
    assert list(bank_folder().iterdir()) == [teacher]


def test_half_written_head_is_cleared_by_the_next_run(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_run("sskd", out="a")
    [head] = [path for path in Path("cache/compress/artefacts").iterdir() if is_complete(path)]
    left_by_a_dead_process(head, monkeypatch)
    work_folder(head).mkdir()
    tiny_run("sskd", out="b", seed=1)
    assert [path.name for path in head.parent.iterdir()] == [head.name]


def test_folder_in_which_somebody_works_is_left_alone(tiny: Path) -> None:
    [teacher] = bank_folder().iterdir()
    work = work_folder(teacher)
    work.mkdir()
    alive = temporary_name(teacher)
    alive.mkdir()
    with RunLock(work):
        clear_leftovers(teacher)
        assert work.is_dir()
        assert alive.is_dir()
    shutil.rmtree(work)
    clear_leftovers(teacher)
    assert is_complete(teacher)
