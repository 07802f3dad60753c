"""Folders: committed whole, checked byte by byte, owned by one process, placed where they fit."""

# ruff: noqa: PTH208  # the bare names are what these tests compare

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from compressor import storage
from compressor.errors import InputError, StorageError
from compressor.storage.faults import FailingOperations


def fill(folder: Path) -> None:
    storage.write_text(folder / "a.txt", "alpha")
    storage.write_bytes(storage.ensure_folder(folder / "sub") / "b.bin", bytes(1000))


def fill_new(folder: Path) -> None:
    storage.write_text(folder / "a.txt", "ALPHA")


def test_a_committed_folder_lists_what_it_holds_and_is_verified(tmp_path: Path):
    written = storage.write_folder(tmp_path / "step-1", fill, config_sha256="c" * 64, extra={"step": 1})
    manifest = storage.verify_folder(tmp_path / "step-1")
    assert manifest == written
    assert manifest.extra == {"step": 1}
    assert manifest.config_sha256 == "c" * 64
    assert set(manifest.files) == {"a.txt", "sub/b.bin"}
    assert manifest.files["sub/b.bin"].size == 1000
    # SHA-256 of "alpha", from `printf alpha | sha256sum`
    assert manifest.files["a.txt"].sha256 == "8ed3f6ad685b959ead7022518e1af76cd816f8e8ec7ccdda1ed4018e8f2223f8"
    assert os.listdir(tmp_path) == ["step-1"]


def test_each_operation_of_a_commit_failed_once_leaves_the_old_folder_or_the_new_whole(tmp_path: Path):
    number, outcomes = 0, []
    while True:
        number += 1
        storage.remove_tree(tmp_path / "f")
        storage.write_folder(tmp_path / "f", fill)
        with storage.replaced_operations(FailingOperations(number)) as disk:
            try:
                storage.write_folder(tmp_path / "f", fill_new, replace=True)
            except StorageError as error:
                outcomes.append(error.message)
        if not disk.failed:
            break
        place = tmp_path / "f"
        if not place.exists():  # the rename back failed too: the old one is whole under the other name
            place = tmp_path / "f.old-1"
        manifest = storage.verify_folder(place)
        assert set(manifest.files) in ({"a.txt", "sub/b.bin"}, {"a.txt"})
        storage.remove_tree(tmp_path / "f.old-1")
    assert len(outcomes) == number - 1 > 15  # each failure was told
    assert [message for message in outcomes if message.startswith(f"disk full while saving a.txt to {tmp_path} (")]
    assert (tmp_path / "f/a.txt").read_text() == "ALPHA"
    assert not (tmp_path / "f.old-1").exists()


def test_a_name_that_is_taken_is_not_replaced_unasked(tmp_path: Path):
    storage.write_folder(tmp_path / "f", fill)
    with pytest.raises(StorageError, match="already there"):
        storage.write_folder(tmp_path / "f", fill_new)
    assert (tmp_path / "f/a.txt").read_text() == "alpha"


def test_a_writer_that_fails_or_makes_a_link_leaves_nothing(tmp_path: Path):
    def broken(folder: Path) -> None:
        fill(folder)
        raise ZeroDivisionError

    def linking(folder: Path) -> None:
        (folder / "link").symlink_to("/etc/hosts")

    with pytest.raises(ZeroDivisionError):
        storage.write_folder(tmp_path / "f", broken)
    with pytest.raises(StorageError, match="a link is in the way"):
        storage.write_folder(tmp_path / "f", linking)
    assert os.listdir(tmp_path) == []


def damage_flip(folder: Path) -> None:
    data = bytearray((folder / "sub/b.bin").read_bytes())
    data[500] ^= 1
    (folder / "sub/b.bin").write_bytes(data)


def edit_manifest(old: str, new: str):
    def edit(folder: Path) -> None:
        text = (folder / "manifest.json").read_text()
        assert old in text
        (folder / "manifest.json").write_text(text.replace(old, new))

    return edit


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_flip, "content of sub/b.bin has changed"),
        (lambda f: os.truncate(f / "a.txt", 4), "a.txt has 4 bytes, not 5"),
        (lambda f: (f / "a.txt").unlink(), "a.txt is missing"),
        (lambda f: (f / "c").write_text(""), "c does not belong"),
        (lambda f: (f / "c").symlink_to("a.txt"), "is a link"),
        (lambda f: ((f / "a.txt").rename(f.parent / "a.txt"), (f / "a.txt").symlink_to("../a.txt")), "is a link"),
        (lambda f: (f / "manifest.json").unlink(), "not complete"),
        (lambda f: (f / "manifest.json").write_text("[]"), "is damaged"),
        (lambda f: (f / "manifest.json").write_text("{"), "not valid JSON"),
        (edit_manifest('"step": 1', '"step": 2'), "own checksum"),
        (edit_manifest('"format_version": 1', '"format_version": 2'), "format version 2, this program reads 1"),
        (edit_manifest("a.txt", "../a.txt"), "own checksum"),
    ],
)
def test_any_change_of_a_committed_folder_is_found(tmp_path: Path, damage, words: str):
    storage.write_folder(tmp_path / "f", fill, extra={"step": 1})
    damage(tmp_path / "f")
    with pytest.raises(InputError, match=words):
        storage.verify_folder(tmp_path / "f")


@pytest.mark.parametrize(
    "name", ["../x", "/x", "", "a//b", "a/..", ".", "C:x", "a\\b", "a\0", "a\nb", "x" * 256, "link/x", "\ud800"]
)
def test_hostile_names_do_not_leave_the_folder(tmp_path: Path, name: str):
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(InputError):
        storage.join_inside(tmp_path, name)
    assert storage.join_inside(tmp_path, "sub/größe 1.bin") == tmp_path / "sub" / "größe 1.bin"


def test_set_aside_counts_up_and_deletes_nothing(tmp_path: Path):
    for number in (1, 2, 3):
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / str(number)).write_text("")
        assert storage.set_aside(tmp_path / "x") == tmp_path / f"x.old-{number}"
    assert sorted(os.listdir(tmp_path)) == ["x.old-1", "x.old-2", "x.old-3"]
    assert os.listdir(tmp_path / "x.old-2") == ["2"]
    with pytest.raises(StorageError, match="is not there"):
        storage.set_aside(tmp_path / "x")


def test_remove_tree_removes_links_but_not_what_they_point_at(tmp_path: Path):
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep/a").write_text("")
    (tmp_path / "x").mkdir()
    (tmp_path / "x/link").symlink_to(tmp_path / "keep")
    (tmp_path / "y").symlink_to(tmp_path / "keep")
    storage.remove_tree(tmp_path / "x")
    storage.remove_tree(tmp_path / "y")
    storage.remove_tree(tmp_path / "never")
    assert os.listdir(tmp_path) == ["keep"]
    assert os.listdir(tmp_path / "keep") == ["a"]


def test_ensure_folder_tells_a_file_from_a_link_to_nowhere(tmp_path: Path):
    assert storage.ensure_folder(tmp_path / "a/b/c").is_dir()
    storage.ensure_folder(tmp_path / "a/b/c")
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("none")
    with pytest.raises(StorageError, match="is a file; a folder is needed"):
        storage.ensure_folder(tmp_path / "file")
    with pytest.raises(StorageError, match=r"is a link to nowhere \(none\)"):
        storage.ensure_folder(tmp_path / "dangling")


HOLD = (
    "import sys; from compressor.storage import RunLock; RunLock(sys.argv[1]).acquire();"
    "print('held', flush=True); sys.stdin.read()"
)


def test_a_folder_in_use_is_refused_naming_the_owner_and_free_after_kill_9(tmp_path: Path):
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(StorageError) as caught, storage.RunLock(tmp_path):
            pass
        start = f"{tmp_path} is in use by process {child.pid} on {os.uname().nodename} since "
        assert caught.value.message.startswith(start)
        assert len(caught.value.message) == len(start) + len("14:02")
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()
    with storage.RunLock(tmp_path):
        assert f'"pid": {os.getpid()}' in (tmp_path / "run.lock").read_text()


def test_a_lock_is_refused_twice_in_one_process_and_released_with_the_block(tmp_path: Path):
    with storage.RunLock(tmp_path) as lock, pytest.raises(StorageError, match="is in use by process"):
        storage.RunLock(tmp_path).acquire()
    lock.release()
    with storage.RunLock(tmp_path):
        pass


def test_a_folder_is_in_use_as_long_as_its_lock_is_held(tmp_path: Path):
    assert not storage.is_in_use(tmp_path)
    with storage.RunLock(tmp_path):
        assert storage.is_in_use(tmp_path)
    assert not storage.is_in_use(tmp_path)


def test_a_lock_on_a_folder_that_was_moved_meanwhile_is_refused(tmp_path: Path):
    (tmp_path / "run").mkdir()

    class Moving(storage.Operations):
        def open_append(self, path: Path) -> int:
            descriptor = super().open_append(path)
            (tmp_path / "run").rename(tmp_path / "run.old-1")
            return descriptor

    with storage.replaced_operations(Moving()), pytest.raises(StorageError, match="was moved by another process"):
        storage.RunLock(tmp_path / "run").acquire()


def test_a_lock_taken_by_a_relative_path_is_released_from_another_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    lock = storage.RunLock("run").acquire()
    monkeypatch.chdir("/")
    lock.release()
    with storage.RunLock(tmp_path / "run"):
        pass


def test_a_file_size_limit_of_the_system_is_a_storage_error_and_the_old_file_stays(tmp_path: Path):
    script = (
        "import resource, sys; from compressor import storage; from compressor.errors import StorageError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: storage.write_bytes(sys.argv[1], bytes(5000))\n"
        "except StorageError as error: print(error.message); sys.exit(error.exit_code)"
    )
    (tmp_path / "a").write_text("old")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 4
    assert "larger than the file size limit" in done.stdout
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of Python >= 3.12, about forking with threads
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path):
    lock = storage.RunLock(tmp_path).acquire()
    ready, wait = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(ready[1], b"x")
        os.read(wait[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        lock.release()
        with storage.RunLock(tmp_path):
            pass
    finally:
        os.write(wait[1], b"x")
        os.waitpid(child, 0)
        for descriptor in (*ready, *wait):
            os.close(descriptor)


def test_the_owner_clears_up_what_dead_writers_left_at_any_depth(tmp_path: Path):
    (tmp_path / "checkpoints/.tmp-00000000-1-0/sub").mkdir(parents=True)
    (tmp_path / "checkpoints/.tmp-00000000-1-0/sub/x").write_text("")
    (tmp_path / ".tmp-00000000-1-1").write_text("")
    (tmp_path / ".tmp-notes.txt").write_text("the user's own")
    assert storage.remove_stale(tmp_path) == 0  # another machine's: only the owner knows that they are dead
    with storage.RunLock(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [".tmp-notes.txt", "checkpoints", "run.lock"]
        assert os.listdir(tmp_path / "checkpoints") == []


def test_nothing_inside_a_locked_folder_is_written_through_a_link(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to("real")  # the root itself may be a link
    (tmp_path / "real/checkpoints").symlink_to(tmp_path / "outside")
    with storage.RunLock(tmp_path / "run"):
        storage.write_text(tmp_path / "run/fine", "x")
        for write in (
            lambda path: storage.write_text(path / "a", "x"),
            lambda path: storage.append_line(path / "a", "x"),
            lambda path: storage.ensure_folder(path / "a"),
            lambda path: storage.write_folder(path / "a", fill),
        ):
            with pytest.raises(StorageError, match="written through a link"):
                write(tmp_path / "run/checkpoints")
    assert os.listdir(tmp_path / "outside") == []


def test_preflight_returns_the_place_and_leaves_nothing(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "runs").symlink_to("data")
    assert storage.preflight(tmp_path / "runs", 1000) == tmp_path / "data"
    assert storage.preflight(tmp_path / "runs/x", 1000) == tmp_path / "data/x"
    assert storage.preflight(tmp_path / "a/b/c", create_parents=True) == tmp_path / "a/b/c"
    assert sorted(os.listdir(tmp_path)) == ["data", "runs"]
    assert os.listdir(tmp_path / "data") == []


def test_preflight_tells_apart_what_is_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("none")
    (tmp_path / "circle").symlink_to("circle")
    for name, words in [
        ("file", "is a file; a folder is needed"),
        ("file/x", "file is a file; a folder is needed"),
        ("dangling", r"dangling is a link to nowhere \(none\)"),
        ("dangling/x", r"dangling is a link to nowhere \(none\)"),
        ("circle", "leads back to itself"),
        ("none/x", "the parent of .* does not exist"),
        ("a\0b", "not a usable folder name"),
    ]:
        with pytest.raises(StorageError, match=words):
            storage.preflight(tmp_path / name)
    monkeypatch.setattr("compressor.storage.guards.free_bytes", lambda _: 10**9)
    with pytest.raises(StorageError, match=r"not enough space for .*, need 1\.0 TB"):
        storage.preflight(tmp_path, 10**12)


@pytest.mark.parametrize(
    ("code", "words"), [(errno.EROFS, "read-only file system"), (errno.EACCES, "permission denied")]
)
def test_preflight_finds_a_place_that_refuses_writing(tmp_path: Path, code: int, words: str):
    with storage.replaced_operations(FailingOperations(1, code)), pytest.raises(StorageError, match=words) as caught:
        storage.preflight(tmp_path / "x")
    assert caught.value.hint == "choose another place with --out"
