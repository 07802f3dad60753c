"""A published folder as it is found, which may be damaged or a stranger's: nothing of it runs before it is checked."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from compressor import storage
from compressor.errors import InputError
from compressor.publishing.files import CARD, CONFIG, LICENSES, ONNX, RECORD, SCHEMA, WEIGHTS, factory_arguments
from compressor.publishing.loading import Loading

REQUIRED = (WEIGHTS, CONFIG, RECORD, CARD, LICENSES)
_HUB_FILE = ".gitattributes"  # every repository of the hub has one
_KNOWN = (*REQUIRED, ONNX, _HUB_FILE)


@dataclass(frozen=True)
class Source:
    """A folder that holds what its record says.

    Args:
        folder: Where. names: of its files. record: content of ``compress.json``.
        loading: How it is loaded; None for a network that has no importable name.
    """

    folder: Path
    names: tuple[str, ...]
    record: Mapping[str, Any]
    loading: Loading | None


def read_published(folder: Path) -> Source:
    """Check a published folder: all files there, no links, nothing else, and the recorded ones unchanged.

    Nothing is imported for it, except the factory of a network of the user's own (see `_factory`).

    Raises:
        InputError: It is no published folder, is damaged, or names code that may not be ours.
        StorageError: A file could not be read.
    """
    names = _names(folder)
    record = _table(folder / RECORD)
    if record.get("schema") != SCHEMA:
        raise InputError(f"{folder / RECORD} has schema {record.get('schema')!r}, this program reads {SCHEMA}")
    _check_files(folder, names, record.get("files"))
    return Source(folder, names, record, _loading(folder, _table(folder / CONFIG)))


def _names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", hint="a run's folder, or a published student's")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as cause:
        raise InputError(f"{folder} cannot be read: {cause.strerror}") from cause
    for entry in entries:
        if entry.is_symlink():
            raise InputError(f"{entry.path} is a link; links are not published", hint="put the file itself there")
        if entry.name not in _KNOWN or not entry.is_file(follow_symlinks=False):
            raise InputError(f"{entry.path} does not belong to a published student", hint="move it elsewhere")
    names = tuple(entry.name for entry in entries)
    if missing := [name for name in REQUIRED if name not in names]:
        raise InputError(f"{folder} is not a published student: {missing[0]} is missing")
    return names


def _check_files(folder: Path, names: tuple[str, ...], recorded: Any) -> None:
    """Compare the recorded files byte by byte; what timm reads must be recorded."""
    if not isinstance(recorded, dict) or not {WEIGHTS, CONFIG} <= recorded.keys():
        raise InputError(f"{folder / RECORD} does not record {WEIGHTS} and {CONFIG}")
    if ONNX in names and ONNX not in recorded:
        raise InputError(f"{folder / ONNX} is not in {RECORD}", hint="remove it; --onnx makes it anew")
    for name, sha256 in recorded.items():
        file = storage.join_inside(folder, name)
        if name not in names:
            raise InputError(f"{folder} is damaged: {name} is missing")
        if storage.sha256_file(file) != sha256:
            raise InputError(f"{folder} is damaged: the content of {name} has changed")


def _loading(folder: Path, config: Mapping[str, Any]) -> Loading | None:
    try:
        own, prepared = config["compress"], config["pretrained_cfg"]
        channels, height, width = (int(value) for value in prepared["input_size"])
        mean, std = (tuple(float(value) for value in prepared[key]) for key in ("mean", "std"))
        classes, requires = int(config["num_classes"]), tuple(str(name) for name in own["requires"])
        arguments = dict(config.get("model_args", {}))
        known, factory = config.get("architecture"), own.get("factory")
    except (KeyError, TypeError, ValueError, AttributeError) as cause:
        raise InputError(f"{folder / CONFIG} is damaged: {type(cause).__name__}: {cause}") from cause
    numbers = (channels, height, width, classes, *std)
    if min(numbers) <= 0 or len(mean) != channels or len(std) != channels or prepared.get("custom_load"):
        raise InputError(f"{folder / CONFIG} is damaged: sizes, means or deviations make no sense")
    if known is None and factory is None:
        return None
    return Loading(
        input_size=(channels, height, width),
        mean=mean,
        std=std,
        num_classes=classes,
        requires=requires,
        factory=None if known is not None else str(factory),
        arguments={} if known is not None else _factory(folder, str(factory), classes, (*arguments, *requires)),
    )


def _factory(folder: Path, factory: str, num_classes: int, further: tuple[str, ...]) -> dict[str, Any]:
    """Return the factory's arguments, if it may be called at all.

    A folder that anybody sent could name any function of this machine and its arguments. So the run beside the folder
    must have been made with that very factory, nothing but the class count is given to it, and Python's own modules
    are no networks. A run can be forged too: what is called must take ``num_classes``, or be a class of networks.
    """
    described = folder.parent / "run.json"
    run = _table(described) if described.is_file() and not described.is_symlink() else {}
    named = run.get("config")
    student = named.get("student") if isinstance(named, dict) else None
    ours = isinstance(student, dict) and student.get("name") == factory
    words = factory.partition(":")[0].split(".")
    if not ours or further or words[0] in sys.stdlib_module_names or "__main__" in words:
        raise InputError(
            f"{folder} would be loaded by calling {factory}, and no run beside it says that this is your own code",
            hint="publish it from its run: compress publish RUN",
        )
    arguments = factory_arguments(factory, {}, num_classes)
    if "num_classes" not in arguments and not _is_network(factory):
        raise InputError(
            f"{folder} would be loaded by calling {factory}, which takes no num_classes, as what makes networks does",
            hint="let it take num_classes, or copy the folder as it is",
        )
    return arguments


def _is_network(factory: str) -> bool:
    place, _, attribute = factory.partition(":")
    made = getattr(import_module(place), attribute)
    return isinstance(made, type) and issubclass(made, nn.Module)


def _table(file: Path) -> dict[str, Any]:
    value = storage.read_json(file)
    if not isinstance(value, dict):
        raise InputError(f"{file} is damaged: it holds no table")
    return value
