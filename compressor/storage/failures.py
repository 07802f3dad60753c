"""How the system's errors become ours: one line that says what was being saved, where, and what was missing."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compressor.errors import StorageError

_UNITS = ("B", "kB", "MB", "GB", "TB")
_REASONS = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "read-only file system",
    errno.EIO: "input/output error of the device",
    errno.EFBIG: "larger than the file size limit (ulimit -f)",
    errno.ENOENT: "the folder does not exist",
    errno.ENOTDIR: "a file is in the way where a folder is needed",
    errno.EISDIR: "a folder is in the way where a file is needed",
    errno.ELOOP: "a link is in the way; links are never written through",
    errno.ENAMETOOLONG: "the name is too long",
}


def readable_bytes(count: int) -> str:
    """Write a byte count as people do: ``0 B``, ``950 B``, ``41 MB``, ``1.2 GB`` (powers of 1000)."""
    size = float(count)
    for unit in _UNITS:
        if size < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.1f} {unit}" if unit != "B" and size < 9.95 else f"{size:.0f} {unit}"


def nearest_existing(path: Path) -> Path:
    """Return ``path``, or the closest of its parents that exists."""
    path = path.absolute()
    return next((place for place in (path, *path.parents) if place.exists()), Path(path.anchor))


def free_bytes(path: str | Path) -> int:
    """Return the bytes a user may still write on the file system that holds ``path`` (which need not exist yet)."""
    with storage_errors("reading the free space of", Path(path)):
        return shutil.disk_usage(nearest_existing(Path(path))).free


def memory_bytes() -> int | None:
    """Return the bytes of main memory that this machine has, None where it does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


@contextmanager
def storage_errors(doing: str, path: Path, needed: int | None = None) -> Iterator[None]:
    """Turn any OSError of the block into a StorageError.

    Args:
        doing: What was tried, as a participle with its object, such as ``saving step 120 to``.
        path: Where; named in the message.
        needed: Bytes the block had to write, if known; named when the disk is full.

    Raises:
        StorageError: The block raised OSError; the cause is kept.
    """
    try:
        yield
    except OSError as cause:
        raise storage_error(cause, doing, path, needed) from cause


def storage_error(cause: OSError, doing: str, path: Path, needed: int | None = None) -> StorageError:
    """Return the StorageError that says in one line what ``cause`` means for the user."""
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        kind = "disk full" if cause.errno == errno.ENOSPC else "disk quota used up"
        need = "" if needed is None else f", need {readable_bytes(needed)}"
        return StorageError(
            f"{kind} while {doing} {path} ({_free_text(path)}{need})", hint="free space, then run the same command"
        )
    reason = _REASONS.get(cause.errno or 0, cause.strerror or type(cause).__name__)
    hint = "choose another place with --out" if cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else None
    return StorageError(f"{reason} while {doing} {path}", hint=hint)


def _free_text(path: Path) -> str:
    try:
        return f"{readable_bytes(shutil.disk_usage(nearest_existing(path)).free)} free"
    except OSError:
        return "free space unknown"
