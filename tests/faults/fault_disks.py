"""Disks that play tricks, one operation at a time: they die, tear, refuse, count, or write down what was done."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
        from fault_server import say

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
        from fault_server import say

        say(f"{place} {self.count}")
        os.read(self._go, 1)


DISKS = {"count": CountingDisk, "die": DyingDisk, "refuse": RefusingDisk, "pause": PausingDisk}


def disk_of(kind: str, **given: Any) -> Any:
    """Make the disk an order asks for."""
    return DISKS[kind](**given)
