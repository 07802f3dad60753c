"""Folders: made, removed, set aside, and put in place whole."""

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from compressor.errors import StorageError
from compressor.storage.failures import storage_error, storage_errors
from compressor.storage.names import is_stale, is_temporary, refuse_links, temporary_name
from compressor.storage.operations import operations


def ensure_folder(path: str | Path) -> Path:
    """Make a folder and its missing parents with the mode of the umask, names synced; return it as a Path.

    Raises:
        StorageError: A file or a dangling link is in the way, or the system refuses.
    """
    path = Path(path)
    refuse_links(path)
    missing = [place for place in (path, *path.parents) if not place.is_dir()]
    for place in reversed(missing):
        with storage_errors("making the folder", place):
            try:
                operations().make_folder(place)
            except FileExistsError as cause:
                if not place.is_dir():  # else another process made it in between
                    raise StorageError(_in_the_way(place)) from cause
            operations().sync_folder(place.parent)  # or all that is written into it may be lost with its name
    return path


def remove_tree(path: str | Path) -> None:
    """Remove a folder with all it holds, or a file; links are removed, not followed; nothing there is fine.

    The name is given up first, in one step, so that nobody meets half a folder.

    Raises:
        StorageError: The system refuses.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    refuse_links(path)
    with storage_errors("removing", path):
        doomed = temporary_name(path)
        operations().rename(path, doomed)
        operations().sync_folder(path.parent)
        _remove(doomed)


def set_aside(path: str | Path) -> Path:
    """Rename a file or folder to the first free of ``<name>.old-1``, ``<name>.old-2`` ... and return the new path.

    Raises:
        StorageError: It is not there, or the system refuses.
    """
    path = Path(path)
    refuse_links(path)
    if not os.path.lexists(path):
        raise StorageError(f"{path} is not there, so it cannot be set aside")
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.old-{number}")):
        number += 1
    with storage_errors("setting aside", path):
        operations().rename(path, aside)
        operations().sync_folder(path.parent)
    return aside


def remove_stale(folder: str | Path, *, owner: bool = False) -> int:
    """Remove what dead writers left below ``folder`` and return how many files and folders that were.

    Args:
        folder: Searched with its sub-folders; links are not followed.
        owner: This process holds the lock of the folder: what any other process left there is stale.

    Raises:
        StorageError: The system refuses.
    """
    removed = 0
    with storage_errors("clearing up", Path(folder)):
        for place, folders, files in os.walk(folder):
            stale = [name for name in (*folders, *files) if is_stale(name, owner=owner)]
            for name in stale:
                _remove(Path(place) / name)
            folders[:] = [name for name in folders if not is_temporary(name)]
            removed += len(stale)
    return removed


def clear_beside(path: Path) -> None:
    """Remove what dead processes of this machine left in the folder of ``path`` itself, as far as the system lets us.

    Nobody's lock covers such a folder, the user's own or the cache, so only what is surely dead goes.
    """
    with suppress(OSError):  # it may not be readable, or another process clears up as well
        for left in path.parent.iterdir():
            if is_stale(left.name, owner=False):
                _remove(left)


def replace_folder(
    path: str | Path, fill: Callable[[Path], None], *, replace: bool = False, what: str | None = None
) -> None:
    """Commit a folder without a manifest of ours, such as a published one; otherwise as `write_folder`.

    Whatever ``fill`` raises passes through after the temporary folder is removed; OSError becomes StorageError.
    """
    path = Path(path)
    refuse_links(path)
    if os.path.lexists(path) and not replace:
        raise StorageError(f"{path} is already there", hint="choose another name, or set it aside")
    clear_beside(path)
    temporary = temporary_name(path)
    try:
        operations().make_folder(temporary)
        fill(temporary)
        sync_tree(temporary)
        _take_name(temporary, path)
    except BaseException as error:
        # What cannot be removed now is removed when the folder is opened next.
        with suppress(OSError):
            _remove(temporary)
        if isinstance(error, OSError):
            raise storage_error(error, f"saving {what or path.name} to", path.parent) from error
        raise


def sync_tree(folder: Path) -> None:
    """Force every file and every name below a folder to the disk; OSError (ELOOP) for a link."""
    for name in names_in(folder):
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            operations().sync(descriptor)
        finally:
            os.close(descriptor)
    for place, _, _ in os.walk(folder):
        operations().sync_folder(Path(place))


def names_in(folder: Path) -> list[str]:
    """List the files below a folder, relative, sorted, without temporary ones; OSError (ELOOP) for a link."""
    names = []
    for place, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            path = Path(place) / name
            if path.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        names += [(Path(place) / name).relative_to(folder).as_posix() for name in files if not is_temporary(name)]
    return sorted(names)


def _raise(error: OSError) -> None:
    raise error


def _take_name(temporary: Path, path: Path) -> None:
    # A folder that is not empty cannot be replaced in one step: the old one steps aside under a name that nobody clears
    # up, so that a crash in between loses neither.
    aside = set_aside(path) if os.path.lexists(path) else None
    try:
        operations().rename(temporary, path)
    except OSError:
        if aside is not None:
            operations().rename(aside, path)
        raise
    operations().sync_folder(path.parent)
    if aside is not None:
        remove_tree(aside)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        operations().unlink(path)
        return
    for entry in sorted(path.iterdir()):
        _remove(entry)
    operations().remove_folder(path)


def _in_the_way(path: Path) -> str:
    if path.is_symlink():
        return f"{path} is a link to nowhere ({path.readlink()})"
    return f"{path} is a file; a folder is needed there"
