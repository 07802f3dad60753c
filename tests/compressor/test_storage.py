"""Single files, JSON, lines, tensors: whole or not at all, strict when read."""

# ruff: noqa: PTH208  # the bare names are what these tests compare

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch

from compressor import storage
from compressor.errors import InputError, StorageError, UsageError
from compressor.storage.faults import FailingOperations


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if storage.is_temporary(name)]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES])
def test_each_operation_of_a_save_failed_once_leaves_the_old_content_or_the_new_whole(tmp_path: Path, code: int):
    path = tmp_path / "model.bin"
    for number in range(1, 100):
        path.write_bytes(b"old content")
        with storage.replaced_operations(FailingOperations(number, code)) as disk:
            if number > 6:
                storage.write_bytes(path, b"new")
                break
            with pytest.raises(StorageError) as caught:
                storage.write_bytes(path, b"new")
        assert disk.failed
        assert caught.value.exit_code == 4
        assert "saving model.bin" in caught.value.message
        assert "\n" not in caught.value.message
        # Only the sync of the folder comes after the new name is given.
        assert path.read_bytes() == (b"new" if number == 6 else b"old content")
        assert leftovers(tmp_path) == []
    assert not disk.failed
    assert disk.count == 6  # create, write, sync, close, rename, sync of the folder
    assert path.read_bytes() == b"new"


def test_a_disk_that_fails_for_ever_leaves_the_old_content_and_what_remains_is_cleared_later(tmp_path: Path):
    (tmp_path / "a.json").write_text("1")
    with (
        storage.replaced_operations(FailingOperations(2, for_ever=True)),
        pytest.raises(StorageError, match="disk full"),
    ):
        storage.write_json(tmp_path / "a.json", 2)
    assert storage.read_json(tmp_path / "a.json") == 1
    (left,) = leftovers(tmp_path)
    host, _, rest = left.removeprefix(".tmp-").partition("-")
    (tmp_path / left).rename(tmp_path / f".tmp-{host}-999999999-{rest.partition('-')[2]}")
    assert storage.remove_stale(tmp_path) == 1
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_told_in_one_line_with_what_is_free_and_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 0})())
    with storage.replaced_operations(FailingOperations(2)), pytest.raises(StorageError) as caught:
        storage.write_bytes(tmp_path / "m", bytes(41_000_000), what="step 120")
    assert caught.value.message == f"disk full while saving step 120 to {tmp_path} (0 B free, need 41 MB)"
    assert caught.value.hint == "free space, then run the same command"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (41_000_000, "41 MB"),
        (999_600_000, "1.0 GB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_readable_bytes_equals_values_worked_by_hand(count: int, text: str):
    assert storage.readable_bytes(count) == text


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o000, 0o666)])
def test_files_get_the_mode_of_the_umask(tmp_path: Path, mask: int, mode: int):
    before = os.umask(mask)
    try:
        storage.write_text(tmp_path / "a", "x")
        storage.append_line(tmp_path / "b", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode
    assert (tmp_path / "b").stat().st_mode & 0o777 == mode


def test_a_link_at_the_name_is_replaced_and_its_target_is_untouched(tmp_path: Path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "name").symlink_to("target")
    storage.write_text(tmp_path / "name", "new")
    assert (tmp_path / "target").read_text() == "precious"
    assert not (tmp_path / "name").is_symlink()
    (tmp_path / "events").symlink_to("target")
    with pytest.raises(StorageError, match="a link is in the way"):
        storage.append_line(tmp_path / "events", "x")
    assert (tmp_path / "target").read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "words"),
    [("none/a", "the folder does not exist"), ("file/a", "a file is in the way"), ("x" * 300, "the name is too long")],
)
def test_a_place_that_cannot_be_written_is_named_with_its_reason(tmp_path: Path, name: str, words: str):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=words):
        storage.write_text(tmp_path / name, "x")
    with pytest.raises(StorageError, match="not a usable file name"):
        storage.write_text(tmp_path / "a\0b", "x")


def test_unicode_spaces_and_hash_work_in_names(tmp_path: Path):
    path = storage.ensure_folder(tmp_path / "größe #1 ?@ 学") / "é e\u0301 🎓.json"
    storage.write_json(path, {"ü": 1})
    assert storage.read_json(path) == {"ü": 1}


def test_equal_json_values_give_equal_bytes_that_other_readers_understand(tmp_path: Path):
    storage.write_json(tmp_path / "a", {"b": 1, "a": [1.5, None, True, "é"]})
    storage.write_json(tmp_path / "b", {"a": (1.5, None, True, "é"), "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text("utf-8")) == {"b": 1, "a": [1.5, None, True, "é"]}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": {"b": [0.0, float("nan")]}}, r"a\.b\[1\].*nan is not a finite number"),
        ([float("inf")], "inf is not a finite"),
        ({1: 2}, "key 1 is not text"),
        ({"a": Path("x")}, "PosixPath is not a JSON type"),
        ({"a": np.float32(1)}, "float32 is not a JSON type"),
    ],
)
def test_json_refuses_what_it_cannot_keep(tmp_path: Path, value: object, words: str):
    with pytest.raises(StorageError, match=words):
        storage.write_json(tmp_path / "x.json", value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": 1', "not valid JSON"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": 1e999}', "not a finite number"),
        (b'{"a": 1, "a": 2}', "key 'a' twice"),
        (b"\xff", "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b"9" * 10_000, "not valid JSON"),
    ],
)
def test_broken_json_is_bad_input_naming_the_file(tmp_path: Path, data: bytes, words: str):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        storage.read_json(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in caught.value.message


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, words in [
        ("pipe", "not a regular"),
        (".", "not a regular"),
        ("no", "not exist"),
        ("dangling", "nowhere"),
    ]:
        for read in (storage.read_bytes, storage.sha256_file, storage.read_tensor_metadata):
            with pytest.raises(InputError, match=words):
                read(tmp_path / name)


def test_sha256_of_a_file_equals_that_of_its_bytes(tmp_path: Path):
    data = os.urandom(3_000_001)
    storage.write_bytes(tmp_path / "a", data)
    storage.copy_file(tmp_path / "a", tmp_path / "b")
    assert storage.sha256_file(tmp_path / "b") == hashlib.sha256(data).hexdigest()


def test_a_torn_last_line_is_left_out_and_cut_off_by_the_next_append(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    assert storage.read_lines(path) == []
    storage.append_line(path, "première")
    with path.open("ab") as file:
        file.write(b'{"step": 1')
    assert storage.read_lines(path) == ["première"]
    storage.append_line(path, "second", sync=True)
    assert path.read_bytes().decode() == "première\nsecond\n"
    with pytest.raises(UsageError, match="line break"):
        storage.append_line(path, "a\nb")


def test_a_torn_line_longer_than_the_block_of_the_search_is_cut_off(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"whole\n" + b"x" * 2_500_000)
    storage.append_line(path, "next")
    assert storage.read_lines(path) == ["whole", "next"]
    path.write_bytes(b"x" * 2_500_000)
    storage.append_line(path, "first")
    assert storage.read_lines(path) == ["first"]


def test_an_append_that_the_disk_tears_does_not_harm_the_next(tmp_path: Path):
    storage.append_line(tmp_path / "e", "one")
    with storage.replaced_operations(FailingOperations(2)), pytest.raises(StorageError, match="disk full"):
        storage.append_line(tmp_path / "e", "torn in the middle")
    storage.append_line(tmp_path / "e", "two")
    assert storage.read_lines(tmp_path / "e") == ["one", "two"]


def some_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    dtypes = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8]
    tensors = {f"t.{i}": (torch.randn(3, i, generator=generator) * 9).to(t) for i, t in enumerate(dtypes)}
    return {**tensors, "flag": torch.tensor([True, False]), "scalar": torch.tensor(3), "turned": torch.randn(4, 5).T}


def test_tensors_come_back_bit_for_bit_and_the_library_reads_the_file(tmp_path: Path):
    tensors = some_tensors()
    storage.write_tensors(tmp_path / "a.safetensors", tensors, {"seed": "0", "däta": "é"})
    back = storage.read_tensors(tmp_path / "a.safetensors")
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype
        assert torch.equal(back[name], tensor)
    with safetensors.safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt", "seed": "0", "däta": "é"}
        assert torch.equal(file.get_tensor("turned"), tensors["turned"])
    assert storage.read_tensor_metadata(tmp_path / "a.safetensors") == {"format": "pt", "seed": "0", "däta": "é"}


def test_tensors_that_share_memory_are_written_apart(tmp_path: Path):
    base = torch.arange(6.0)
    storage.write_tensors(tmp_path / "a", {"all": base, "view": base[2:4], "again": base})
    assert safetensors.numpy.load_file(tmp_path / "a")["view"].tolist() == [2, 3]


def test_equal_tensors_give_equal_bytes_in_another_process(tmp_path: Path):
    script = (
        "import sys, torch; from compressor import storage;"
        "storage.write_tensors(sys.argv[1], {n: torch.arange(4.) for n in sys.argv[3:]},"
        "{k: k for k in sys.argv[2]})"
    )
    for name, keys, order in [("a", "abcdefgh", "xyz"), ("b", "hgfedcba", "zyx")]:
        subprocess.run([sys.executable, "-c", script, str(tmp_path / name), keys, *order], check=True, timeout=120)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_importing_storage_does_not_import_torch():
    script = "import sys, compressor.storage; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def with_header(header: bytes, body: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + body


ENTRY = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"\xff" * 8,
        with_header(b"{}")[:9],
        with_header(b"[]"),
        with_header(b"{"),
        with_header(b"\xff\xff"),
        with_header(b"[" * 100_000),
        with_header(f'{{"a":{ENTRY}}}'.encode()),
        with_header(f'{{"a":{ENTRY}}}'.encode(), bytes(5)),
        with_header(f'{{"a":{ENTRY},"a":{ENTRY}}}'.encode(), bytes(4)),
        with_header(f'{{"a":{ENTRY},"b":{ENTRY}}}'.encode(), bytes(4)),
        with_header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', bytes(4)),
        with_header(b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        with_header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', bytes(4)),
        with_header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', bytes(4)),
        with_header(b'{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,4]}}', bytes(4)),
        with_header(b'{"__metadata__":{"a":1}}'),
    ],
)
def test_every_bad_header_is_bad_input_naming_the_file(tmp_path: Path, data: bytes):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises(InputError, match=r"x\.safetensors is not a valid safetensors file") as caught:
        storage.read_tensors(tmp_path / "x.safetensors")
    assert "\n" not in caught.value.message


def test_every_cut_of_a_tensor_file_is_bad_input(tmp_path: Path):
    storage.write_tensors(tmp_path / "whole", {"a": torch.arange(3.0)})
    data = (tmp_path / "whole").read_bytes()
    for length in range(len(data)):
        (tmp_path / "cut").write_bytes(data[:length])
        with pytest.raises(InputError, match="cut is not a valid"):
            storage.read_tensors(tmp_path / "cut")


def test_tensors_without_a_type_in_the_format_are_refused(tmp_path: Path):
    with pytest.raises(StorageError, match="cannot be saved as safetensors"):
        storage.write_tensors(tmp_path / "a", {"a": torch.eye(2).to_sparse()})
