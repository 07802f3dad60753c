"""Disks that play tricks, one operation at a time: they die, tear, refuse, count, or write down what was done."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_server import said, say

from compressor.storage.faults import FailingOperations

DIED = 137


class CountingDisk(FailingOperations):
    """The real disk; says how many operations there were, and which of them were writes."""

    def __init__(self, number: int = 0, **more: Any) -> None:
        super().__init__(number, **more)
        self.writes: list[int] = []

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        self.writes.append(self.count + 1)
        super().write(descriptor, data)

    def close_books(self) -> None:
        """Tell the test what it must know, at the end of the command."""
        say(f"operations {self.count}")
        say(f"writes {' '.join(map(str, self.writes))}")


class DyingDisk(CountingDisk):
    """The process dies at one operation, before it is done; with ``torn``, half of the write is done."""

    def __init__(self, number: int, torn: bool = False) -> None:
        super().__init__(number)
        self.torn = torn

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        if self.torn and self.count + 1 == self.number:
            os.write(descriptor, bytes(data)[: len(data) // 2])
        super().write(descriptor, data)

    def _step(self) -> None:
        self.count += 1
        if self.count == self.number:
            os._exit(DIED)


class RefusingDisk(CountingDisk):
    """One operation fails with an errno, and all after it where ``for_ever``."""


class KnockingDisk(CountingDisk):
    """Says ``knock`` when it comes to one operation, and does it."""

    def _step(self) -> None:
        self.count += 1
        if self.count == self.number:
            say("knock")


class PausingDisk(CountingDisk):
    """Waits before each operation that would find the disk otherwise than the one before, and in the middle of writes.

    What lies there while it waits is what a process leaves that dies at this moment. It says ``before N`` or ``within
    N`` and goes on when somebody writes a byte into the pipe ``go``.
    """

    def __init__(self, go: str) -> None:
        super().__init__()
        self._go = os.open(go, os.O_RDWR)
        self._changed = True

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        self._step()
        half = len(data) // 2
        os.write(descriptor, bytes(data)[:half])
        self._wait("within")
        self.count -= 1
        self._changed = False
        super().write(descriptor, bytes(data)[half:])

    def sync(self, descriptor: int) -> None:
        self._unchanging(lambda: super(PausingDisk, self).sync(descriptor))

    def sync_folder(self, path: Path) -> None:
        self._unchanging(lambda: super(PausingDisk, self).sync_folder(path))

    def close(self, descriptor: int) -> None:
        self._unchanging(lambda: super(PausingDisk, self).close(descriptor))

    def _unchanging(self, action: Callable[[], None]) -> None:
        action()
        self._changed = False

    def _step(self) -> None:
        self.count += 1
        if self._changed:
            self._wait("before")
        self._changed = True

    def _wait(self, place: str) -> None:
        say(f"{place} {self.count}")
        os.read(self._go, 1)


class RecordingDisk(CountingDisk):
    """The real disk; writes down every operation, with what was told before it, for `fault_power.Story`.

    Files are known by number, for names change: a new number for each file that is made.
    """

    def __init__(self, book: str) -> None:
        super().__init__()
        self._book = Path(book)
        self._blob = self._book.with_suffix(".blob").open("wb")
        self._lines: list[dict[str, Any]] = []
        self._files: dict[int, int] = {}
        self._numbers = itertools.count()

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        number = self._files[os.fstat(descriptor).st_ino] = next(self._numbers)
        self._note("create", path=path, file=number)
        return descriptor

    def open_append(self, path: Path) -> int:
        descriptor = super().open_append(path)
        node = os.fstat(descriptor)
        if node.st_ino not in self._files or node.st_size == 0:
            self._files[node.st_ino] = next(self._numbers)
        self._note("open", path=path, file=self._files[node.st_ino])
        return descriptor

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        super().write(descriptor, data)
        at = self._blob.tell()
        self._blob.write(data)
        self._note("write", file=self._file(descriptor), at=at, length=len(data))

    def truncate(self, descriptor: int, length: int) -> None:
        super().truncate(descriptor, length)
        self._note("truncate", file=self._file(descriptor), length=length)

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self._note("sync", file=self._file(descriptor))

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        self._note("rename", path=source, target=target)

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        self._note("sync_folder", path=path)

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self._note("make_folder", path=path)

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._note("remove", path=path)

    def remove_folder(self, path: Path) -> None:
        super().remove_folder(path)
        self._note("remove", path=path)

    def close_books(self) -> None:
        super().close_books()
        self._blob.close()
        self._book.write_text("\n".join(map(json.dumps, self._lines)))

    def _file(self, descriptor: int) -> int | None:
        return self._files.get(os.fstat(descriptor).st_ino)

    def _note(self, what: str, **more: Any) -> None:
        paths = {key: str(value.absolute()) if isinstance(value, Path) else value for key, value in more.items()}
        self._lines.append({"what": what, "said": len(said()), **paths})


DISKS = {
    "count": CountingDisk,
    "die": DyingDisk,
    "refuse": RefusingDisk,
    "pause": PausingDisk,
    "record": RecordingDisk,
    "knock": KnockingDisk,
}


def disk_of(kind: str, **given: Any) -> Any:
    """Make the disk an order asks for."""
    return DISKS[kind](**given)
