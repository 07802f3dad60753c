"""Files named by their content: whole under that name or not there, and never read when changed."""

import hashlib
from pathlib import Path

import pytest
import torch

from compressor.errors import InputError, StorageError
from compressor.storage import open_sealed, replaced_operations, sealed_files, write_sealed
from compressor.storage.faults import FailingOperations

TENSORS = {"rows": torch.tensor([4, 7, 9]), "values": torch.arange(6, dtype=torch.float32).view(3, 2)}


def test_the_name_is_the_checksum_and_equal_content_is_one_file(tmp_path: Path) -> None:
    path = write_sealed(tmp_path, TENSORS)
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()
    assert write_sealed(tmp_path, TENSORS) == path
    assert sealed_files(tmp_path) == [path]
    assert sealed_files(tmp_path / "nowhere") == []


def test_what_was_written_is_read_where_it_lies(tmp_path: Path) -> None:
    found = open_sealed(write_sealed(tmp_path, TENSORS))
    assert (found["values"].dtype, found["values"].shape) == ("F32", (3, 2))
    assert found["values"].rows[1].tobytes() == TENSORS["values"][1].numpy().tobytes()
    assert not found["values"].rows.flags.writeable


@pytest.mark.parametrize("damage", ["flipped", "cut", "longer", "empty"])
def test_a_changed_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = write_sealed(tmp_path, TENSORS)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    changed = {"flipped": bytes(content), "cut": path.read_bytes()[:-1], "longer": path.read_bytes() + b"x"}
    path.write_bytes(changed.get(damage, b""))
    with pytest.raises(InputError, match="is damaged: its content is not what its name says"):
        open_sealed(path)


def test_a_file_that_is_no_file_of_tensors_is_refused_although_its_name_fits(tmp_path: Path) -> None:
    for content in (b"no tensors at all", (200).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]"):
        path = tmp_path / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        path.write_bytes(content)
        with pytest.raises(InputError, match="is no file of tensors"):
            open_sealed(path)


def test_each_operation_of_a_write_failed_once_leaves_nothing_or_a_whole_file(tmp_path: Path) -> None:
    number, failures = 0, 0
    while True:
        number += 1
        with replaced_operations(FailingOperations(number)) as disk:
            try:
                write_sealed(tmp_path, TENSORS)
            except StorageError:
                failures += 1
        for path in sealed_files(tmp_path):
            assert open_sealed(path)["rows"].shape == (3,)
            path.unlink()
        if not disk.failed:
            break
    assert failures == number - 1 > 4
