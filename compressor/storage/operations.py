"""The primitive file operations: everything that changes the disk is one of these methods.

They sit in one replaceable object so that a fault suite can fail, tear or record the n-th operation of a save
(see `replaced_operations`). No other module of the package changes the disk.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Some network and FUSE file systems do not offer fsync of a folder; they answer with one of these.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


class Operations:
    """The real disk. Every method raises OSError as the system does; none follows a link at the last name of a path."""

    def create(self, path: Path) -> int:
        """Make a new file with the mode of the umask and return its descriptor; FileExistsError when it is there."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def open_append(self, path: Path) -> int:
        """Open for reading and appending, made when missing; a link at ``path`` is refused (ELOOP)."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Write all of ``data``; the system may take it in parts."""
        rest = memoryview(data)
        while len(rest):
            rest = rest[os.write(descriptor, rest) :]

    def truncate(self, descriptor: int, length: int) -> None:
        """Cut the open file to ``length`` bytes."""
        os.ftruncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        """Force the content of the open file to the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close the descriptor."""
        os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Give ``source`` the name ``target`` in one step, in place of a file or a link of that name."""
        source.replace(target)

    def sync_folder(self, path: Path) -> None:
        """Force the names in a folder to the disk, where the file system offers it."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise
        finally:
            os.close(descriptor)

    def make_folder(self, path: Path) -> None:
        """Make one folder with the mode of the umask; FileExistsError when something is there."""
        path.mkdir()

    def unlink(self, path: Path) -> None:
        """Remove a file, or a link but not what it points at."""
        path.unlink()

    def remove_folder(self, path: Path) -> None:
        """Remove an empty folder."""
        path.rmdir()


_current = Operations()


def operations() -> Operations:
    """Return the operations in use: the real disk unless a test replaced them."""
    return _current


@contextmanager
def replaced_operations(substitute: Operations) -> Iterator[Operations]:
    """Route every change of the disk through ``substitute`` until the block ends; for fault injection."""
    global _current
    before, _current = _current, substitute
    try:
        yield substitute
    finally:
        _current = before
