"""JSON files: plain values and finite numbers only, the same bytes for equal values, strict when read."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor.errors import InputError, StorageError
from compressor.storage.files import read_text, write_bytes


def write_json(path: str | Path, value: Any, *, what: str | None = None) -> None:
    """Write ``value`` as JSON with sorted keys and a final newline; see `write_bytes`.

    Raises:
        StorageError: Not written; also when ``value`` holds NaN, an infinity, a key that is no string, or a type that
            JSON does not have.
    """
    write_bytes(path, encode_json(value, name=what or str(path)), what=what)


def encode_json(value: Any, *, name: str = "value") -> bytes:
    """Return the bytes that `write_json` writes; equal values give equal bytes."""
    _check_plain(value, name)
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8")


def read_json(path: str | Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        InputError: Missing, broken, too deep, not UTF-8, a key twice, or a number that is not finite.
        StorageError: It could not be read.
    """
    try:
        return json.loads(
            read_text(path),
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
            object_pairs_hook=_refuse_doubles,
        )
    except ValueError as cause:
        raise InputError(f"{path} is not valid JSON: {cause}") from cause
    except RecursionError as cause:
        raise InputError(f"{path} is not valid JSON: nested too deeply") from cause


def _check_plain(value: Any, name: str) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise StorageError(f"{name} cannot be saved as JSON: key {key!r} is not text")
            _check_plain(item, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{name}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise StorageError(f"{name} cannot be saved as JSON: {value} is not a finite number")
    elif value is not None and not isinstance(value, str | int | float):
        raise StorageError(f"{name} cannot be saved as JSON: {type(value).__name__} is not a JSON type")


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")


def _finite_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add
        raise ValueError(f"key {double!r} twice")
    return result
