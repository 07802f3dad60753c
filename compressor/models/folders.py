"""Folders that hold a trained network, perhaps a stranger's: looked at before timm reads them.

timm would take a pickle where safetensors are missing, follow links, and initialise anew what a description leaves
out. Here the description is data, the weights are safetensors, and what was built must hold exactly those weights.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressor.errors import InputError
from compressor.storage import join_inside, read_json, read_tensors

WEIGHTS, DESCRIPTION = "model.safetensors", "config.json"
_LARGEST_SIDE = 4096


@dataclass(frozen=True)
class SavedNetwork:
    """A folder that timm can read.

    Args:
        folder: with both files. label_names: of the classes, None where they are not told.
        mean, std: of pixels in [0, 1], one a channel; None where they are not told.
        requires: packages that make the architecture known to timm; nothing has been imported.
        model_args: of the architecture.
    """

    folder: Path
    label_names: tuple[str, ...] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    requires: tuple[str, ...]
    model_args: Mapping[str, Any]


def read_folder(path: Path) -> SavedNetwork:
    """Read the description of a finished run's student, or of a published folder.

    Raises:
        InputError: it holds none, the description is damaged, or a link is in the way.
    """
    folder = join_inside(path, "student") if (path / "student").is_dir() else path
    file = join_inside(folder, DESCRIPTION)
    if not file.is_file():
        raise InputError(f"{path} holds no finished student: no readable {file}")
    try:
        return _described(folder, read_json(file))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as cause:
        raise InputError(f"{file} is damaged: {cause}") from cause


def followed(path: Path) -> Path:
    """Return the absolute place of a folder that the user named; a link is followed, but not out of a run's folder.

    Raises:
        InputError: a link inside a run's folder, or one that leads back to itself.
    """
    if path.is_symlink() and os.path.lexists(path.parent / "run.json"):
        raise InputError(f"{path} is a link; links inside a run folder are not followed", hint="name what it points at")
    try:
        return path.resolve()
    except (OSError, RuntimeError) as cause:  # RuntimeError until Python 3.12
        raise InputError(f"{path} is a link that leads back to itself") from cause


def read_weights_of(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of a folder.

    Raises:
        InputError: no safetensors there, a link, a damaged file, or values that are NaN or infinite.
    """
    file = join_inside(folder, WEIGHTS)
    tensors = read_tensors(file)
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{file} cannot be used: {name} has values that are NaN or infinite")
    return tensors


def check_holds(module: nn.Module, tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Make sure that a network built from a folder has the folder's weights, all of them and no others.

    Raises:
        InputError: the first name that differs.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in own or name not in tensors or not torch.equal(own[name], tensors[name].to(own[name].dtype)):
            raise InputError(f"{folder / WEIGHTS} does not fit the network in {folder / DESCRIPTION}: {name} differs")


def check_readable(path: Path) -> None:
    """Refuse a folder from which timm would read a pickle, or follow a link out of a run's folder.

    Elsewhere links are fine: the hub's own cache is made of them.

    Raises:
        InputError: it has no ``model.safetensors``, or a link lies in a run.
    """
    folder = followed(path)
    if os.path.lexists(path.parent / "run.json"):
        for name in (WEIGHTS, DESCRIPTION):
            join_inside(path, name)
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"{folder} has no {WEIGHTS}; a folder of pickled weights is not read",
            hint=f"compress convert FILE '{folder / WEIGHTS}'",
        )


def _described(folder: Path, value: Any) -> SavedNetwork:
    own, prepared = _table(value, "compress"), _table(value, "pretrained_cfg")
    names = value.get("label_names") or prepared.get("label_names")
    told = "mean" in prepared and "std" in prepared
    mean, std = (_numbers(prepared, key) if told else None for key in ("mean", "std"))
    if mean is not None and std is not None and (len(mean) != len(std) or min(std) <= 0):
        raise ValueError(f"mean {mean} and std {std} make no sense")
    for side in prepared.get("input_size") or ():
        if type(side) is not int or not 1 <= side <= _LARGEST_SIDE:
            raise ValueError(f"input_size must be 1 to {_LARGEST_SIDE}, got {side!r}")
    if not isinstance(value.get("architecture", ""), str):
        raise TypeError("architecture is no text")
    return SavedNetwork(
        folder=folder,
        label_names=None if names is None else _texts(names, "label_names"),
        mean=mean,
        std=std,
        requires=_texts(own.get("requires", []), "requires"),
        model_args=_table(value, "model_args"),
    )


def _table(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key, {})
    if not isinstance(found, dict):
        raise TypeError(f"{key} is no table")
    return found


def _texts(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{key} is no list of texts")
    return tuple(value)


def _numbers(value: Mapping[str, Any], key: str) -> tuple[float, ...]:
    numbers = tuple(float(item) for item in value[key])
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{key} {value[key]!r} are no finite numbers")
    return numbers
