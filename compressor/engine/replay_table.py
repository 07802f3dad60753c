"""A table of a teacher's answers: each row written once, found by its number, kept in sealed files."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from compressor.errors import InputError, StorageError
from compressor.storage import MappedTensor, ensure_folder, open_sealed, remove_tree, sealed_files, write_sealed

Numbers = npt.NDArray[np.int64]
SEALED_BYTES = 32_000_000
"""Of one file, and so of what waits in memory for the next one."""
_ROWS = "rows"
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_WORDS = {kind: word for word, kind in _TYPES.items()}


@dataclass(frozen=True)
class Layout:
    """What a row holds: for each part its type, as safetensors names it, and its shape without the rows."""

    parts: Mapping[str, tuple[str, tuple[int, ...]]]

    @staticmethod
    def of(values: Mapping[str, Tensor]) -> "Layout":
        """Return the layout of tensors (n, ...).

        Raises:
            InputError: a type that is not kept.
        """
        strange = [str(value.dtype) for value in values.values() if value.dtype not in _WORDS]
        if strange:
            raise InputError(f"answers of type {strange[0]} are not kept")
        return Layout({name: (_WORDS[value.dtype], tuple(value.shape[1:])) for name, value in values.items()})

    @property
    def row_bytes(self) -> int:
        """Bytes of all parts of a row."""
        return sum(self.part_bytes(name) for name in self.parts)

    def part_bytes(self, name: str) -> int:
        """Bytes of one part of a row."""
        word, shape = self.parts[name]
        return _TYPES[word].itemsize * int(np.prod(shape, dtype=np.int64))

    def tensor(self, name: str, rows: npt.NDArray[np.uint8]) -> Tensor:
        """Return (n, ...) of bytes (n, `part_bytes`)."""
        word, shape = self.parts[name]
        return torch.from_numpy(rows).view(_TYPES[word]).view(len(rows), *shape)


class AnswerTable:
    """Rows of tensors under numbers from 0 to ``count - 1``, each kept once.

    Rows live in sealed files and, until there are enough for one, in memory. A row that several files hold is read
    from the first. A file that is damaged is as good as absent.

    Args:
        folder: need not exist. layout: what each row holds. writing: whether this process may change the folder.

    Attributes:
        damaged: files found damaged so far; a writer removes them.
    """

    def __init__(self, folder: Path, count: int, layout: Layout, *, writing: bool) -> None:
        self.folder = folder
        self.layout = layout
        self.writing = writing
        self.damaged = 0
        self._place: npt.NDArray[np.int32] = np.full(count, -1, dtype=np.int32)
        self._files: list[Mapping[str, MappedTensor]] = []
        self._starts: list[int] = []
        self._known: set[str] = set()
        self._sealed = 0
        self._waiting: list[Numbers] = []
        self._buffers: dict[str, npt.NDArray[np.uint8]] = {}
        self._used = 0
        self.refresh()

    def __len__(self) -> int:
        return int((self._place >= 0).sum())

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory at most; the mapped files are left out, as they give way to whoever needs room."""
        return self._place.nbytes + min(SEALED_BYTES, len(self._place) * self.layout.row_bytes)

    def refresh(self) -> None:
        """Take in the files that were not known yet, every byte checked; not as long as rows wait in memory."""
        if self._used:  # they have the next places
            return
        for path in sealed_files(self.folder):
            if path.name in self._known:
                continue
            self._known.add(path.name)
            try:
                self._take(path)
            except (InputError, StorageError):
                self.damaged += 1
                if self.writing:
                    with suppress(StorageError):  # it is left out in any case
                        remove_tree(path)

    def has(self, rows: Numbers) -> npt.NDArray[np.bool_]:
        """Say of each number (n,) whether its row is there."""
        found: npt.NDArray[np.bool_] = self._place[rows] >= 0
        return found

    def read(self, rows: Numbers, parts: Iterable[str]) -> dict[str, Tensor]:
        """Return some parts (n, ...) of rows that are there, on the CPU."""
        places = self._place[rows]
        sealed = places < self._sealed
        source = np.where(sealed, np.searchsorted(self._starts, places, side="right") - 1, len(self._files))
        taken = {name: np.empty((len(rows), self.layout.part_bytes(name)), np.uint8) for name in parts}
        for number in np.unique(source):
            mine = source == number
            for name, out in taken.items():
                if number == len(self._files):
                    out[mine] = self._buffers[name][places[mine] - self._sealed]
                else:
                    out[mine] = self._files[number][name].rows[places[mine] - self._starts[number]]
        return {name: self.layout.tensor(name, out) for name, out in taken.items()}

    def add(self, rows: Numbers, values: Mapping[str, Tensor]) -> None:
        """Keep rows (n,) that are not there yet; parts (n, ...) of the table's layout.

        Raises:
            StorageError: a file could not be written; the rows it should hold are given up.
        """
        if Layout.of(values) != self.layout:
            raise InputError(f"answers of {Layout.of(values).parts} do not fit {self.folder}")
        rows, first = np.unique(rows, return_index=True)
        fresh = ~self.has(rows)
        rows, first = rows[fresh], first[fresh]
        capacity = min(len(self._place), max(1, SEALED_BYTES // max(1, self.layout.row_bytes)))
        while len(rows):
            room = capacity - self._used
            self._append(rows[:room], {name: value[first[:room]] for name, value in values.items()}, capacity)
            rows, first = rows[room:], first[room:]
            if self._used == capacity:
                self.flush()

    def flush(self) -> None:
        """Seal what waits in memory into a file.

        Raises:
            StorageError: it could not be written; its rows are given up, they can be computed again.
        """
        if self._used == 0:
            return
        rows, used = np.concatenate(self._waiting), self._used
        self._waiting, self._used = [], 0
        self._place[rows] = -1  # until the file is there
        tensors = {name: self.layout.tensor(name, buffer[:used]) for name, buffer in self._buffers.items()}
        path = write_sealed(ensure_folder(self.folder), {_ROWS: torch.from_numpy(rows), **tensors}, what="answers")
        try:
            self._take(path)
        except InputError as damage:
            raise StorageError(f"{path} is not read back as it was written") from damage

    def _append(self, rows: Numbers, values: Mapping[str, Tensor], capacity: int) -> None:
        last = self._used + len(rows)
        for name, value in values.items():
            if name not in self._buffers:
                self._buffers[name] = np.empty((capacity, self.layout.part_bytes(name)), np.uint8)
            plain = value.detach().cpu().contiguous().view(len(rows), -1).view(torch.uint8)
            self._buffers[name][self._used : last] = plain.numpy()
        self._place[rows] = np.arange(self._sealed + self._used, self._sealed + last, dtype=np.int32)
        self._waiting.append(rows)
        self._used = last

    def _take(self, path: Path) -> None:
        found = dict(open_sealed(path))
        numbers = found.pop(_ROWS, None)
        if numbers is None or {name: (part.dtype, part.shape[1:]) for name, part in found.items()} != self.layout.parts:
            raise InputError(f"{path} holds other answers")
        rows = np.ascontiguousarray(numbers.rows).view(np.int64).ravel()
        if any(len(part.rows) != len(rows) for part in found.values()) or not _within(rows, len(self._place)):
            raise InputError(f"{path} holds rows that cannot be")
        places = np.arange(self._sealed, self._sealed + len(rows), dtype=np.int32)
        fresh = self._place[rows] < 0
        self._place[rows[fresh]] = places[fresh]
        self._files.append(found)
        self._starts.append(self._sealed)
        self._sealed += len(rows)
        self._known.add(path.name)


def _within(rows: Numbers, count: int) -> bool:
    return len(rows) > 0 and 0 <= int(rows.min()) <= int(rows.max()) < count
