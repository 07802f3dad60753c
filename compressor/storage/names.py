"""Names on the disk: temporary ones, those that must not be links, those read from a file and not trusted."""

import itertools
import os
import stat
import zlib
from functools import cache
from pathlib import Path, PurePosixPath

from compressor.errors import InputError, StorageError

TEMPORARY_PREFIX = ".tmp-"
_LONGEST_NAME = 255  # bytes, of the usual file systems
_counter = itertools.count()
_guarded: dict[Path, int] = {}  # run folders in use by this process, each with the number of its holders


def require_file(path: Path) -> None:
    """Raise InputError unless ``path`` is a regular file, or a link to one; a pipe is never opened."""
    try:
        if path.is_file():
            return
        reason = "is not a regular file" if path.exists() else "does not exist"
    except (OSError, ValueError) as cause:
        raise InputError(f"{str(path)!r} cannot be read: {cause}") from cause
    if path.is_symlink() and reason == "does not exist":
        reason = f"is a link to nowhere ({path.readlink()})"
    raise InputError(f"{path} {reason}")


def require_regular(descriptor: int, path: Path) -> None:
    """Raise StorageError unless an open file is a regular one: a pipe has no reader, and waits for it."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise StorageError(f"{path} is not a regular file, so nothing can be kept in it", hint="remove it")


def temporary_name(path: Path) -> Path:
    """Return a fresh name beside ``path`` that tells which process on which machine writes there."""
    return path.parent / f"{TEMPORARY_PREFIX}{_host_tag()}-{os.getpid()}-{next(_counter)}"


def is_temporary(name: str) -> bool:
    """Tell whether a name was made by `temporary_name`."""
    return name.startswith(TEMPORARY_PREFIX)


def is_stale(name: str, *, owner: bool) -> bool:
    """Tell whether the writer of a temporary name is gone.

    Args:
        name: Of the file or folder.
        owner: This process holds the lock of the folder, so whatever another process left there is stale.
    """
    host, _, rest = name.removeprefix(TEMPORARY_PREFIX).partition("-")
    number = rest.partition("-")[0]
    if not is_temporary(name) or not number.isdecimal() or (host, number) == (_host_tag(), str(os.getpid())):
        return False
    return owner or (host == _host_tag() and not _is_alive(int(number)))


def guard(root: Path) -> Path:
    """Refuse from now on to write below ``root`` through a link (``root`` may be one); return what `unguard` takes."""
    key = _absolute(root)
    _guarded[key] = _guarded.get(key, 0) + 1
    return key


def unguard(key: Path) -> None:
    """End one `guard`."""
    _guarded[key] -= 1
    if not _guarded[key]:
        del _guarded[key]


def refuse_links(path: Path) -> None:
    """Raise StorageError when a folder between a guarded root and ``path`` is a link; the last name may be one."""
    place = _absolute(path)
    for root in _guarded:
        if root in place.parents:
            between = (folder for folder in place.parents if root in folder.parents)
            if link := next((folder for folder in between if folder.is_symlink()), None):
                raise StorageError(
                    f"{link} is a link; nothing inside a run folder is written through a link",
                    hint="remove the link, or make the run folder itself a link",
                )


def join_inside(folder: str | Path, name: str) -> Path:
    """Return ``folder / name`` for a name that was read from a file and may be hostile.

    Args:
        folder: Trusted.
        name: Relative, parts joined by ``/``; no ``..``, no drive, no backslash, no control character, no link.

    Raises:
        InputError: The name leaves the folder or cannot be a file name.
    """
    parts = name.split("/")
    bad = any(
        part in ("", ".", "..") or len(part.encode("utf-8", "surrogatepass")) > _LONGEST_NAME for part in parts
    ) or any(character in "\\:" or ord(character) < 32 or 0xD800 <= ord(character) < 0xE000 for character in name)
    if bad or PurePosixPath(name).is_absolute():
        raise InputError(f"{name!r} is not a name inside {folder}")
    path = Path(folder)
    for part in parts:
        path /= part
        if path.is_symlink():
            raise InputError(f"{path} is a link; links inside {folder} are not followed")
    return path


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@cache
def _host_tag() -> str:
    """Name the machine, and the set of process numbers on it: containers may share a name and a disk but not those."""
    try:
        numbers = os.readlink("/proc/self/ns/pid")  # noqa: PTH115  # it leads to no path
    except OSError:
        numbers = ""
    return f"{zlib.crc32(f'{os.uname().nodename}{numbers}'.encode()):08x}"


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow the very links that matter
