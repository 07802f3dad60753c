"""Where teachers' answers are kept between runs: a folder for all that decides them, one process that writes there."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compressor.cache import cache_folder
from compressor.data.types import ViewSlot
from compressor.engine.names import safe
from compressor.engine.replay_keys import key_of, names_of_more, parts_name, slot_name, wanted_by
from compressor.engine.replay_table import AnswerTable, Layout, Numbers
from compressor.engine.runtime import Runtime
from compressor.errors import StorageError
from compressor.models.taps import Wanted
from compressor.storage import RunLock, ensure_folder, free_bytes, write_json

_RECORD = "answers.json"


def answers_folder() -> Path:
    """Return where answers are kept; it need not exist."""
    return cache_folder() / "answers"


def kept_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder that can be seen; 0 where there is none."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # another process may have removed it
                total += (Path(place) / name).stat().st_size
    return total


@dataclass(frozen=True)
class SlotAnswers:
    """What is kept of the answers to one view.

    Args:
        own: holds exactly what is wanted; new rows go there. others: hold more, and are only read.
        folder: of all views, for messages.
    """

    own: AnswerTable
    others: Sequence[AnswerTable]
    folder: Path

    def __len__(self) -> int:
        return max(map(len, (self.own, *self.others)))

    def has(self, rows: Numbers) -> npt.NDArray[np.bool_]:
        """Say of each number (n,) whether its answer is kept."""
        found = self.own.has(rows)
        for table in self.others:
            found = found | table.has(rows)
        return found

    def read(self, rows: Numbers) -> dict[str, Tensor]:
        """Return the parts (n, ...) of answers that are kept, on the CPU."""
        left = np.ones(len(rows), dtype=np.bool_)
        values: dict[str, Tensor] = {}
        for table in (self.own, *self.others):
            mine = np.flatnonzero(left & table.has(rows))
            if len(mine) == len(rows):
                return table.read(rows, self.own.layout.parts)
            if len(mine) == 0:
                continue
            left[mine] = False
            for name, part in table.read(rows[mine], self.own.layout.parts).items():
                values.setdefault(name, part.new_empty((len(rows), *part.shape[1:])))[torch.from_numpy(mine)] = part
        return values


class Replay:
    """The kept answers that one session reads and adds to.

    Only the first process to come writes to a folder; others read what is there. A context manager: on the way out the
    folders are given free.

    Args:
        limit: most bytes that all kept answers may take on the disk; None for half of what is free.
        looking: nothing is written, not even a lock.
    """

    def __init__(self, runtime: Runtime, limit: int | None = None, *, looking: bool = False) -> None:
        self._runtime = runtime
        self._limit = limit
        self.looking = looking
        self._locks: dict[Path, RunLock | None] = {}
        self._tables: dict[Path, AnswerTable] = {}
        self.refusal = ""

    def __enter__(self) -> "Replay":
        return self

    def __exit__(self, *_: object) -> None:
        for lock in self._locks.values():
            if lock is not None:
                lock.release()
        self._locks, self._tables = {}, {}

    def open(self, description: Mapping[str, Any], name: str) -> tuple[Path, bool]:
        """Return the folder of these answers and whether this run may write there; why not is in ``refusal``."""
        folder = answers_folder() / f"{safe(name)}-{key_of(description)[:16]}"
        if folder not in self._locks:
            may = self._runtime.is_main and not self.looking
            self._locks[folder] = self._lock(folder, description) if may else None
        return folder, self._runtime.any_of(self._locks[folder] is not None)

    def slot(
        self,
        folder: Path,
        slot: ViewSlot,
        wanted: Wanted,
        layout_of: Callable[[Wanted], Layout],
        count: int,
        *,
        writing: bool,
    ) -> SlotAnswers:
        """Open what is kept of a view, every byte of it checked; ``count`` pictures there can be."""
        place = folder / slot_name(slot)
        own = self._table(place / parts_name(wanted), count, layout_of(wanted), writing=writing)
        more = [name for name in names_of_more(wanted) if (place / name).is_dir()]
        others = [self._table(place / name, count, layout_of(wanted_by(name)), writing=writing) for name in more]
        return SlotAnswers(own, others, folder)

    def room(self) -> int:
        """Return the bytes that may still be written, by the limit and what is free."""
        free = free_bytes(answers_folder())
        if self._limit is None:
            return free // 2
        return min(self._limit - kept_bytes(answers_folder()), free * 9 // 10)

    def flush(self) -> None:
        """Seal what waits in memory.

        Raises:
            StorageError: the disk refused some of it, which is given up.
        """
        refusal: StorageError | None = None
        for table in self._tables.values():
            try:
                table.flush()
            except StorageError as error:
                refusal = error
        if refusal is not None:
            raise refusal

    def refresh(self) -> None:
        """Take in what others have written since."""
        for table in self._tables.values():
            table.refresh()

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory at most of the open tables; mapped files are left out, they give way to others."""
        return sum(table.memory_bytes for table in self._tables.values())

    @property
    def damaged(self) -> int:
        """Files found damaged so far."""
        return sum(table.damaged for table in self._tables.values())

    def _table(self, place: Path, count: int, layout: Layout, *, writing: bool) -> AnswerTable:
        if place not in self._tables:
            self._tables[place] = AnswerTable(place, count, layout, writing=writing)
        return self._tables[place]

    def _lock(self, folder: Path, description: Mapping[str, Any]) -> RunLock | None:
        try:
            lock = RunLock(ensure_folder(folder)).acquire()
            if not (folder / _RECORD).is_file():
                write_json(folder / _RECORD, dict(description))
        except StorageError as refusal:
            self.refusal = refusal.message
            return None
        return lock
