"""Before the first write: one owner for a run folder, and a place that can hold what is to come."""

import errno
import fcntl
import json
import os
import weakref
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from compressor.errors import StorageError
from compressor.storage.failures import free_bytes, readable_bytes, storage_errors
from compressor.storage.files import append_line
from compressor.storage.folders import clear_beside, remove_stale
from compressor.storage.names import guard, require_regular, temporary_name, unguard
from compressor.storage.operations import operations

LOCK_FILE = "run.lock"
_held: "weakref.WeakSet[RunLock]" = weakref.WeakSet()


class RunLock:
    """The one owner of a run folder, as long as the process lives; the kernel frees it even after ``kill -9``.

    Use it as a context manager, or call `acquire` and `release`. While it is held, nothing below the folder is written
    through a link, and what dead writers left there has been removed.

    Args:
        folder: Must exist; may itself be a link, which is followed once.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._descriptor: int | None = None
        self._guarded: Path | None = None

    def acquire(self) -> Self:
        """Take the lock.

        Raises:
            StorageError: Another process has it (named with host and start), or the file system has no locks.
        """
        path = self.folder / LOCK_FILE
        with storage_errors("locking", path):
            descriptor = operations().open_append(path)
            try:
                require_regular(descriptor, path)
                self._lock(descriptor)
                self._check_place(descriptor)
                self._guarded = guard(self.folder)
            except BaseException:
                os.close(descriptor)
                raise
        self._descriptor = descriptor
        _leave_to_parent(self)
        try:
            self._sign(descriptor)
            remove_stale(self.folder, owner=True)
        except BaseException:
            self.release()
            raise
        return self

    def release(self) -> None:
        """Give the lock back; doing it twice is fine. The file stays: removing it would race with the next owner."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._guarded is not None:
            unguard(self._guarded)
            self._guarded = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise StorageError(
                f"{self.folder} is in use{_owner(descriptor)}", hint="wait for it, or choose another folder with --out"
            ) from cause
        except OSError as cause:
            if cause.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            raise StorageError(
                f"the file system of {self.folder} has no locks", hint="choose a local folder with --out"
            ) from cause

    def _check_place(self, descriptor: int) -> None:
        """Refuse a lock on a folder that another process set aside between our opening and our locking."""
        path = self.folder / LOCK_FILE
        if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise StorageError(
                f"{self.folder} was moved by another process just now", hint="run the same command again"
            )

    def _sign(self, descriptor: int) -> None:
        with storage_errors("signing", self.folder / LOCK_FILE):
            operations().truncate(descriptor, 0)
        owner = {"pid": os.getpid(), "host": os.uname().nodename, "started": datetime.now().isoformat(" ", "minutes")}
        append_line(self.folder / LOCK_FILE, json.dumps(owner, sort_keys=True))

    def _forget(self) -> None:
        # A forked child shares the lock: unless it closes its copy, the lock outlives a killed parent.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_in_use(folder: str | Path) -> bool:
    """Tell whether another process holds the lock of a folder at this moment; nothing is written."""
    path = Path(folder) / LOCK_FILE
    with storage_errors("reading", path):
        if not path.is_file() or path.is_symlink():
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def preflight(folder: str | Path, needed_bytes: int = 0, *, create_parents: bool = False) -> Path:
    """Check before any training that a run can be written to ``folder``; nothing is left behind.

    Args:
        folder: Of the run; need not exist.
        needed_bytes: What the run will write.
        create_parents: A missing parent is fine because the caller makes it.

    Returns:
        The folder with a link at its name followed once; show it when it differs.

    Raises:
        StorageError: A file in the way, a link to nowhere or in a circle, a missing parent, no permission, a read-only
            or full disk: each with its own line.
    """
    folder = Path(folder)
    with storage_errors("checking", folder):
        _check_way(folder)
        if not folder.parent.exists() and not create_parents:
            raise StorageError(f"the parent of {folder} does not exist", hint=f"mkdir -p '{folder.parent}'")
        root = folder.resolve()
        place = next(place for place in (root, *root.parents) if place.exists())
    _check_writable(place, folder)
    if (free := free_bytes(place)) < needed_bytes:
        raise StorageError(
            f"not enough space for {folder}: {readable_bytes(free)} free, need {readable_bytes(needed_bytes)}",
            hint="free space, or choose another folder with --out",
        )
    return root


def _check_way(folder: Path) -> None:
    for place in reversed((folder, *folder.parents)):
        try:
            place.stat()
        except FileNotFoundError:
            if place.is_symlink():
                raise StorageError(f"{place} is a link to nowhere ({place.readlink()})") from None
            return
        except OSError as cause:
            if cause.errno != errno.ELOOP:
                raise
            raise StorageError(f"{place} is a link that leads back to itself") from cause
        except ValueError as cause:
            raise StorageError(f"{str(place)!r} is not a usable folder name: {cause}") from cause
        if not place.is_dir():
            raise StorageError(f"{place} is a file; a folder is needed there", hint="choose another folder with --out")


def _check_writable(place: Path, folder: Path) -> None:
    probe = temporary_name(place / "probe")
    with storage_errors("trying to write below", folder):
        clear_beside(probe)
        descriptor = operations().create(probe)
        try:
            operations().write(descriptor, b"x")
        finally:
            operations().close(descriptor)
            operations().unlink(probe)


def _owner(descriptor: int) -> str:
    """Say who signed the lock file; an owner that has not signed yet is not named."""
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        started = datetime.fromisoformat(owner["started"])
        now = datetime.now()
        since = f"{started:%H:%M}" if started.date() == now.date() else f"{started:%Y-%m-%d %H:%M}"
        return f" by process {int(owner['pid'])} on {owner['host']} since {since}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return " by another process"


def _leave_to_parent(lock: RunLock) -> None:
    global _hooked
    if not _hooked:
        os.register_at_fork(after_in_child=_forget_all)
        _hooked = True
    _held.add(lock)


_hooked = False


def _forget_all() -> None:
    for lock in list(_held):
        lock._forget()
