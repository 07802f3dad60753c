"""``run.json`` and ``result.json`` as they are found, which may be damaged or a stranger's: right in shape, or refused.

A shape is a type, a table of shapes (a key with ``?`` may be missing or null), `NUMBER`, or `NUMBERS`: a table of them.
Keys that a shape does not name are let through: older and newer releases have others.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor.errors import InputError
from compressor.storage import join_inside, read_json

NUMBER, NUMBERS = "a number", "a table of numbers"
_LARGEST = 1e18
Shape = Any

_NETWORK: Shape = {"name": str, "parameters": NUMBER, "macs": NUMBER, "latency_ms?": NUMBERS}
RESULT: Shape = {
    "method": str,
    "seed": int,
    "student": {"folder": str, **_NETWORK, "latency_ms": NUMBERS},
    "teacher?": _NETWORK,
    "peer?": {"folder": str, "name": str, "top1": NUMBER},
    "metrics": {"top1": NUMBER},
    "cost": {"train_seconds": NUMBER, "views": NUMBER, "peak_bytes": NUMBER},
    "config_sha256": str,
}
SETTINGS: Shape = {
    "teacher": {"name": str},
    "student": {"name": str},
    "data": dict,
    "method": {"name": str, "settings": dict},
    "training": {"epochs": NUMBER, "batch_size": NUMBER, "select": str},
}
RUN: Shape = {
    "command?": str,
    "config": {"seed": int, **SETTINGS},
    "config_sha256": str,
    "data_sha256?": str,
    "teacher_sha256?": str,
    "began?": str,
    "host?": str,
    "environment?": dict,
}


def read_document(folder: Path, name: str, shape: Shape) -> Mapping[str, Any] | None:
    """Return a document of a run's folder, None where there is none.

    Raises:
        InputError: a link, no valid JSON, or not of the shape; the first wrong place is named.
    """
    file = join_inside(folder, name)
    if not file.is_file():
        return None
    value = read_json(file)
    fault = fault_in(value, shape)
    if fault is None and shape is RESULT:
        fault = fault_in(value["metrics"], NUMBERS, "metrics")
    if fault is not None:
        raise InputError(f"{file} is damaged: {fault}")
    found: Mapping[str, Any] = value
    return found


def fault_in(value: Any, shape: Shape, place: str = "") -> str | None:
    """Say what is wrong with a value that stands at ``place`` (dotted keys), None for nothing."""
    if isinstance(shape, dict):
        return _table_fault(value, shape, place)
    if shape == NUMBER:
        return None if _is_number(value) else f"{place} is no number"
    if shape == NUMBERS:
        right = isinstance(value, dict) and all(item is None or _is_number(item) for item in value.values())
        return None if right else f"{place} is no table of numbers"
    right = isinstance(value, shape) and not (shape is int and isinstance(value, bool))
    return None if right else f"{place} is no {shape.__name__}"


def _table_fault(value: Any, shape: Mapping[str, Shape], place: str) -> str | None:
    if not isinstance(value, dict):
        return f"{place or 'it'} is no table"
    for wanted, inner in shape.items():
        key = wanted.removesuffix("?")
        path = f"{place}.{key}".removeprefix(".")
        if value.get(key) is None:
            if key == wanted:
                return f"{path} is missing"
            continue
        if fault := fault_in(value[key], inner, path):
            return fault
    return None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST and math.isfinite(value)
