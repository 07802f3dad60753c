"""A disk that fails on purpose: for tests that show what a save leaves behind."""

import errno
import os
from pathlib import Path

from compressor.storage.operations import Operations


class FailingOperations(Operations):
    """The real disk, but the operation with one number raises OSError; a write that fails is torn in the middle.

    Args:
        number: Of the operation that fails, counted from 1; 0 for none.
        code: The errno it fails with.
        for_ever: All operations after it fail too.
    """

    def __init__(self, number: int, code: int = errno.ENOSPC, *, for_ever: bool = False) -> None:
        self.number, self.code, self.for_ever = number, code, for_ever
        self.count = 0
        self.failed = False

    def create(self, path: Path) -> int:
        """Count, then create or fail."""
        self._step()
        return super().create(path)

    def open_append(self, path: Path) -> int:
        """Count, then open or fail."""
        self._step()
        return super().open_append(path)

    def write(self, descriptor: int, data: bytes | memoryview) -> None:
        """Count, then write all, or half and fail."""
        try:
            self._step()
        except OSError:
            super().write(descriptor, bytes(data)[: len(data) // 2])
            raise
        super().write(descriptor, data)

    def truncate(self, descriptor: int, length: int) -> None:
        """Count, then truncate or fail."""
        self._step()
        super().truncate(descriptor, length)

    def sync(self, descriptor: int) -> None:
        """Count, then sync or fail."""
        self._step()
        super().sync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close in any case, as the system does, then count and perhaps fail."""
        super().close(descriptor)
        self._step()

    def rename(self, source: Path, target: Path) -> None:
        """Count, then rename or fail."""
        self._step()
        super().rename(source, target)

    def sync_folder(self, path: Path) -> None:
        """Count, then sync or fail."""
        self._step()
        super().sync_folder(path)

    def make_folder(self, path: Path) -> None:
        """Count, then make it or fail."""
        self._step()
        super().make_folder(path)

    def unlink(self, path: Path) -> None:
        """Count, then remove or fail."""
        self._step()
        super().unlink(path)

    def remove_folder(self, path: Path) -> None:
        """Count, then remove or fail."""
        self._step()
        super().remove_folder(path)

    def _step(self) -> None:
        self.count += 1
        if self.count == self.number or (self.for_ever and self.failed):
            self.failed = True
            raise OSError(self.code, os.strerror(self.code))
