"""Tensors in safetensors files: no pickle, the same bytes for equal content, our own errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.errors import InputError, StorageError
from compressor.storage.failures import storage_errors
from compressor.storage.files import read_bytes, write_parts
from compressor.storage.names import require_file

if TYPE_CHECKING:  # torch takes seconds to import and most commands never save a tensor
    from collections.abc import Mapping

    import torch
    from torch import Tensor

_LARGEST_HEADER = 100_000_000  # bytes, the limit of the format


def write_tensors(
    path: str | Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    what: str | None = None,
) -> None:
    """Write tensors as safetensors, whole or not at all.

    Args:
        path: The final name; its folder must exist.
        tensors: Any shapes, any device, dense; written from the CPU, contiguous. Tensors that share memory are
            written apart. No gradient is kept.
        metadata: Text by text; ``format=pt`` is added because readers ask for it.
        what: How messages name it; the file's name by default.

    Raises:
        StorageError: Not written; also for a tensor that the format has no type for.
    """
    write_parts(path, encode_tensors(tensors, metadata), what=what)


def encode_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> list[memoryview]:
    """Return the header and the body of the file that `write_tensors` writes."""
    from safetensors import SafetensorError
    from safetensors.torch import save

    try:
        blob = memoryview(save(_plain(tensors), metadata={"format": "pt", **(metadata or {})}))
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError) as cause:
        raise StorageError(f"these tensors cannot be saved as safetensors: {cause}") from cause
    # The library writes metadata in the order of a hash table, another one in each process: sort it.
    length = int.from_bytes(blob[:8], "little")
    header = json.loads(bytes(blob[8 : 8 + length]))
    header["__metadata__"] = dict(sorted(header.pop("__metadata__").items()))
    names = sorted(header.keys() - {"__metadata__"}, key=lambda name: (header[name]["data_offsets"], name))
    text = json.dumps({name: header[name] for name in ("__metadata__", *names)}, separators=(",", ":"))
    encoded = text.encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)
    return [memoryview(len(encoded).to_bytes(8, "little") + encoded), blob[8 + length :]]


def read_tensors(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Return the tensors of a safetensors file; nothing stays mapped to the file.

    Raises:
        InputError: Missing, no regular file, or not valid safetensors (bad header, cut, too long, overlapping tensors).
        StorageError: It could not be read.
    """
    return decode_tensors(read_bytes(path), path, device)


def decode_tensors(data: bytes, path: str | Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Return the tensors of the bytes of a safetensors file; ``path`` is only named in errors."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # The library forgives a name that occurs twice in the header and takes one of the two.
        _header(data, path)
        tensors = load(data)
    except (SafetensorError, ValueError, RuntimeError, TypeError, KeyError, OverflowError) as cause:
        raise InputError(f"{path} is not a valid safetensors file: {_first_line(cause)}") from cause
    return {name: tensor.to(device) for name, tensor in sorted(tensors.items())}


def read_tensor_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of a safetensors file from its header alone; errors as `read_tensors`."""
    path = Path(path)
    require_file(path)
    with storage_errors("reading", path), path.open("rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        data = head + file.read(min(length, _LARGEST_HEADER))
    try:
        metadata = _header(data, path).get("__metadata__", {})
    except ValueError as cause:
        raise InputError(f"{path} is not a valid safetensors file: {_first_line(cause)}") from cause
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InputError(f"{path} is not a valid safetensors file: its metadata is not text")
    return metadata


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result, seen = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        storage = plain.untyped_storage().data_ptr()
        result[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    return result


def _header(data: bytes, path: str | Path) -> dict[str, object]:
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > _LARGEST_HEADER or len(data) < 8 + length:
        raise ValueError("its header is cut off or too large")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"), object_pairs_hook=_refuse_doubles)
    except RecursionError as cause:
        raise ValueError("its header is nested too deeply") from cause
    if not isinstance(header, dict):
        raise ValueError("its header is not a table")
    return header


def _refuse_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name occurs twice in its header")
    return dict(pairs)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
