"""Single files: written whole or not at all, read with our own errors.

A write goes to a temporary file in the same folder, is flushed and synced, then takes the final name in one step,
then the folder is synced. Whoever opens the final name sees the old content whole or the new content whole. The file
gets the mode of the umask. A link at the final name is replaced, never written through.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from compressor.errors import InputError, StorageError, UsageError
from compressor.storage.failures import storage_error, storage_errors
from compressor.storage.names import is_temporary, refuse_links, require_file, require_regular, temporary_name
from compressor.storage.operations import operations

_BLOCK = 1 << 20


def write_bytes(path: str | Path, data: bytes, *, what: str | None = None) -> None:
    """Write ``data`` as the whole content of ``path``, or leave what was there.

    Args:
        path: The final name; its folder must exist.
        data: The content.
        what: How messages name it, such as ``step 120``; the file's name by default.

    Raises:
        StorageError: Full disk, no permission, a link on the way inside a locked run folder, any other OSError.
    """
    write_parts(path, [data], what=what)


def write_text(path: str | Path, text: str, *, what: str | None = None) -> None:
    """Write ``text`` as UTF-8, line ends as they are; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), what=what)


def write_parts(path: str | Path, parts: Sequence[bytes | memoryview], *, what: str | None = None) -> None:
    """Write the concatenation of ``parts`` without joining them in memory; see `write_bytes`."""
    path = Path(path)
    needed = sum(len(part) for part in parts)
    disk = operations()
    with _saving(path, what, needed):
        temporary = temporary_name(path)
        try:
            descriptor = disk.create(temporary)
            try:
                for part in parts:
                    disk.write(descriptor, part)
                disk.sync(descriptor)
            finally:
                disk.close(descriptor)
            disk.rename(temporary, path)
        except BaseException:
            # A temporary file that cannot be removed now is removed when the folder is opened next.
            with suppress(OSError):
                disk.unlink(temporary)
            raise
        disk.sync_folder(path.parent)


def copy_file(source: str | Path, target: str | Path) -> None:
    """Copy the content of one file, whole or not at all, with the mode of the umask; memory: the file once.

    Raises:
        InputError: ``source`` is missing or no regular file.
        StorageError: It could not be read or written.
    """
    write_bytes(target, read_bytes(source))


def append_line(path: str | Path, text: str, *, sync: bool = False) -> None:
    """Append one line; the part of a line that a dead writer left at the end is cut off first.

    Args:
        path: Made when missing; a link there is refused.
        text: Without line breaks; encoded as UTF-8.
        sync: Force it to the disk before returning; without it the line survives the process, not the machine.

    Raises:
        UsageError: ``text`` holds a line break.
        StorageError: It could not be written.
    """
    if "\n" in text or "\r" in text:
        raise UsageError("a line to append must not hold a line break")
    path, line = Path(path), text.encode("utf-8") + b"\n"
    disk = operations()
    with _saving(path, None, len(line)):
        descriptor = disk.open_append(path)
        try:
            require_regular(descriptor, path)
            size = os.fstat(descriptor).st_size
            whole = _length_of_whole_lines(descriptor, size)
            if whole != size:
                disk.truncate(descriptor, whole)
            disk.write(descriptor, line)
            if sync:
                disk.sync(descriptor)
        finally:
            disk.close(descriptor)


def read_lines(path: str | Path) -> list[str]:
    """Return the whole lines of a file that `append_line` wrote; a torn last line is left out, no file gives none.

    Raises:
        InputError: Not UTF-8, or not a regular file.
        StorageError: It could not be read.
    """
    path = Path(path)
    if not path.exists():
        return []
    data = read_bytes(path)
    try:
        return data[: data.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as cause:
        raise InputError(f"{path} is not UTF-8 text") from cause


def read_bytes(path: str | Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        InputError: Missing, or not a regular file (a folder, a pipe, a device).
        StorageError: It could not be read.
    """
    path = Path(path)
    require_file(path)
    with storage_errors("reading", path):
        return path.read_bytes()


def read_text(path: str | Path) -> str:
    """Return the content as UTF-8 text; errors as `read_bytes`, and InputError when it is not UTF-8."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as cause:
        raise InputError(f"{path} is not UTF-8 text") from cause


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's content, 64 hex digits; errors as `read_bytes`."""
    path = Path(path)
    require_file(path)
    with storage_errors("reading", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _saving(path: Path, what: str | None, needed: int) -> Iterator[None]:
    doing = f"saving {what or path.name} to"
    try:
        refuse_links(path)
        yield
    except OSError as cause:
        raise storage_error(cause, doing, _outside_temporary(path.parent), needed) from cause
    except ValueError as cause:  # a NUL byte or a lone surrogate in the name
        raise StorageError(f"{str(path)!r} is not a usable file name: {cause}") from cause


def _outside_temporary(folder: Path) -> Path:
    """Return where a folder that is being filled will lie: its temporary name means nothing to the user."""
    inner = [place for place in (folder, *folder.parents) if is_temporary(place.name)]
    return inner[-1].parent if inner else folder


def _length_of_whole_lines(descriptor: int, size: int) -> int:
    end = size
    while end > 0:
        start = max(0, end - _BLOCK)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
