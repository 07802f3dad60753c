"""Files of tensors that are never changed, each named by the SHA-256 of its content and read where it lies.

The name is the checksum: a file is whole under its name or it is not there, two writers of the same content write the
same file, and nothing else must be kept in step with it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import InputError
from compressor.storage.failures import storage_errors
from compressor.storage.files import sha256_file, write_parts
from compressor.storage.names import require_file
from compressor.storage.tensors import encode_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

_SUFFIX = ".safetensors"
_DIGITS = 64


def write_sealed(folder: str | Path, tensors: Mapping[str, Tensor], *, what: str | None = None) -> Path:
    """Write tensors as one file whose name is its checksum; return its path. Errors as `write_tensors`."""
    parts = encode_tensors(tensors)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    path = Path(folder) / f"{digest.hexdigest()}{_SUFFIX}"
    write_parts(path, parts, what=what)
    return path


def sealed_files(folder: str | Path) -> list[Path]:
    """Return the sealed files of a folder, by name; none where there is no folder."""
    folder = Path(folder)
    if not folder.is_dir():
        return []
    with storage_errors("reading", folder):
        return sorted(path for path in folder.glob(f"*{_SUFFIX}") if len(path.stem) == _DIGITS)


@dataclass(frozen=True)
class MappedTensor:
    """A tensor of a sealed file, left on the disk: rows as plain bytes.

    Args:
        rows: (n, bytes of a row) uint8, read only. dtype: as safetensors names it, such as ``F32``.
        shape: (n, ...).
    """

    rows: np.ndarray[Any, Any]
    dtype: str
    shape: tuple[int, ...]


def open_sealed(path: str | Path) -> dict[str, MappedTensor]:
    """Map a sealed file into memory after a check of every byte; what is mapped stays readable if the file goes.

    Raises:
        InputError: it is missing, or not what was written. StorageError: it could not be read.
    """
    path = Path(path)
    require_file(path)
    if sha256_file(path) != path.stem:
        raise InputError(f"{path} is damaged: its content is not what its name says")
    import numpy as np

    with storage_errors("reading", path), path.open("rb") as file:
        content = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype=np.uint8)
    try:
        return _tensors(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
        raise InputError(f"{path} is no file of tensors: {cause}") from cause


def _tensors(content: np.ndarray[Any, Any]) -> dict[str, MappedTensor]:
    length = int.from_bytes(content[:8].tobytes(), "little")
    if len(content) < 8 + length:
        raise ValueError("its header is cut off")
    header = json.loads(content[8 : 8 + length].tobytes())
    body = content[8 + length :]
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            shape = tuple(int(side) for side in entry["shape"])
            found[name] = MappedTensor(body[first:last].reshape(shape[0], -1), str(entry["dtype"]), shape)
    return found
