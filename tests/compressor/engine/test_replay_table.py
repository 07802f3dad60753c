"""Tables of answers: a row is what was added under its number, from memory, from files, and after any damage."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from compressor.engine import replay_table
from compressor.engine.replay_table import AnswerTable, Layout
from compressor.errors import InputError, StorageError
from compressor.storage import replaced_operations, sealed_files, write_sealed
from compressor.storage.faults import FailingOperations

COUNT = 50


def values(rows: np.ndarray) -> dict[str, Tensor]:
    """What the row of each number holds."""
    numbers = torch.from_numpy(rows).float()
    return {
        "logits": numbers[:, None] + torch.tensor([0.0, 0.25, 0.5]),
        "stages.0": (-numbers[:, None, None, None]).expand(-1, 2, 2, 2).to(torch.bfloat16),
    }


LAYOUT = Layout.of(values(np.arange(1)))


def table(folder: Path, *, writing: bool = True) -> AnswerTable:
    return AnswerTable(folder, COUNT, LAYOUT, writing=writing)


def check(found: AnswerTable, rows: np.ndarray) -> None:
    assert found.has(rows).all()
    for name, part in found.read(rows, LAYOUT.parts).items():
        assert torch.equal(part, values(rows)[name])


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_table, "SEALED_BYTES", 7 * LAYOUT.row_bytes)


def test_rows_are_what_was_added_in_memory_in_files_and_for_the_next_reader(tmp_path: Path) -> None:
    own, order = table(tmp_path / "t"), np.random.default_rng(0).permutation(COUNT)
    assert LAYOUT.row_bytes == 3 * 4 + 8 * 2
    for start in range(0, COUNT, 9):
        rows = order[start : start + 9]
        own.add(rows, values(rows))
        known = order[: start + 9]
        check(own, np.random.default_rng(start).permutation(known))
        assert own.has(np.arange(COUNT)).sum() == len(own) == len(known)
    assert len(sealed_files(tmp_path / "t")) == COUNT // 7
    assert len(table(tmp_path / "t", writing=False)) == COUNT // 7 * 7  # the last one waits in memory
    own.flush()
    check(table(tmp_path / "t", writing=False), order)
    assert own.memory_bytes == 4 * COUNT + 7 * LAYOUT.row_bytes


def test_a_row_is_kept_once_and_as_it_came_first(tmp_path: Path) -> None:
    own = table(tmp_path / "t")
    own.add(np.array([3, 3, 5]), values(np.array([3, 3, 5])))
    own.add(np.array([5, 6]), {name: part + 100 for name, part in values(np.array([5, 6])).items()})
    check(own, np.array([3, 5]))
    own.flush()
    own.add(np.array([3, 5, 6]), values(np.array([3, 5, 6])))
    own.flush()
    assert len(sealed_files(tmp_path / "t")) == 1


def test_a_reader_takes_in_what_was_written_since(tmp_path: Path) -> None:
    own, other = table(tmp_path / "t"), table(tmp_path / "t", writing=False)
    own.add(np.arange(10), values(np.arange(10)))
    other.refresh()
    assert len(other) == 7
    other.add(np.arange(40, 42), values(np.arange(40, 42)))
    own.flush()
    other.refresh()
    assert len(other) == 9  # what waits in memory comes first
    other.flush()
    other.refresh()
    check(other, np.array([*range(10), 40, 41]))


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_a_damaged_file_is_left_out_and_its_rows_can_be_added_again(damage: str, tmp_path: Path) -> None:
    own = table(tmp_path / "t")
    own.add(np.arange(21), values(np.arange(21)))
    [_, second, _] = files = sealed_files(tmp_path / "t")
    content = bytearray(second.read_bytes())
    content[-3] ^= 16
    second.unlink()
    if damage != "gone":
        second.write_bytes(bytes(content) if damage == "flipped" else second.name.encode())
    reader = table(tmp_path / "t", writing=False)
    assert reader.damaged == (damage != "gone")
    assert second.exists() == (damage != "gone")  # a reader removes nothing
    again = table(tmp_path / "t")
    assert (len(again), second.exists()) == (14, False)
    again.add(np.arange(21), values(np.arange(21)))
    again.flush()
    check(table(tmp_path / "t"), np.arange(21))
    assert sealed_files(tmp_path / "t") == files


def test_a_file_that_the_disk_does_not_give_back_is_left_out_and_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise StorageError(f"input/output error of the device while reading {path}")

    table(tmp_path / "t").add(np.arange(7), values(np.arange(7)))
    monkeypatch.setattr(replay_table, "open_sealed", refuse)
    found = table(tmp_path / "t", writing=False)
    found.refresh()
    assert (len(found), found.damaged) == (0, 1)


def test_files_of_other_answers_or_impossible_rows_are_left_out(tmp_path: Path) -> None:
    rows = torch.arange(2)
    two = {name: part.contiguous() for name, part in values(np.arange(2)).items()}
    for strange in (
        {"rows": rows, "logits": two["logits"]},
        {"rows": rows, **two, "logits": two["logits"].double()},
        {"rows": torch.tensor([0, COUNT]), **two},
        {"rows": torch.tensor([-1, 0]), **two},
        {"rows": torch.arange(3), **two},
        two,
    ):
        write_sealed(tmp_path, strange)
    found = table(tmp_path, writing=False)
    assert (len(found), found.damaged) == (0, 6)


def test_rows_that_could_not_be_written_are_given_up_and_the_others_stay(tmp_path: Path) -> None:
    for number in range(1, 20):
        own = table(tmp_path / str(number))
        own.add(np.arange(9), values(np.arange(9)))
        with replaced_operations(FailingOperations(number)) as disk:
            try:
                own.flush()
            except StorageError:
                assert len(own) == 7
        check(own, np.arange(7))
        own.add(np.arange(9), values(np.arange(9)))
        own.flush()
        check(own, np.arange(9))
        check(table(tmp_path / str(number)), np.arange(9))
        if not disk.failed:
            break
    else:
        raise AssertionError("no write ever succeeded")
    assert number > 4


def test_a_file_that_is_not_read_back_as_it_was_written_is_the_disks_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(folder: Path, tensors: dict[str, Tensor], *, what: str) -> Path:
        path = write_sealed(folder, tensors, what=what)
        path.write_bytes(path.read_bytes()[:-1])
        return path

    own = table(tmp_path / "t")
    monkeypatch.setattr(replay_table, "write_sealed", cut)
    own.add(np.arange(3), values(np.arange(3)))
    with pytest.raises(StorageError, match="is not read back as it was written"):
        own.flush()
    assert len(own) == 0


def test_other_answers_than_the_table_holds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="do not fit"):
        table(tmp_path).add(np.arange(2), {"logits": torch.zeros(2, 3)})
    with pytest.raises(InputError, match=r"answers of type torch\.int64 are not kept"):
        Layout.of({"logits": torch.zeros(2, 3, dtype=torch.int64)})
