"""CIFAR-10 and CIFAR-100 from their official Python files, without torchvision, whose import takes seconds."""

import hashlib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compressor.data.stores import ArrayImages, Part, RawData, check_labels
from compressor.errors import InputError


@dataclass(frozen=True)
class CifarFiles:
    """What one of the two sets consists of.

    Args:
        folder: as the official archive unpacks. train, test: files in order. meta: file of the class names.
        labels, names: keys of the labels and of the class names in those files.
        md5: of every file, as published with the archives.
    """

    folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    meta: str
    labels: str
    names: str
    md5: dict[str, str]


SETS = {
    "cifar10": CifarFiles(
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test=("test_batch",),
        meta="batches.meta",
        labels="labels",
        names="label_names",
        md5={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
    "cifar100": CifarFiles(
        folder="cifar-100-python",
        train=("train",),
        test=("test",),
        meta="meta",
        labels="fine_labels",
        names="fine_label_names",
        md5={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
}


def load(name: str, directory: Path) -> RawData:
    """Read ``cifar10`` or ``cifar100``.

    The files are pickles. One is opened only when its md5 is the published one, so only what the authors wrote is.

    Raises:
        InputError: a file is missing or is not the official one.

    Source: Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images".
    """
    files = SETS[name]
    folder = directory / files.folder
    if not folder.is_dir():
        folder = directory if directory.name == files.folder else folder
    meta = _official(folder, files.meta, files, name, directory)
    class_names = tuple(str(word) for word in meta[files.names])
    return RawData(
        class_names=class_names,
        train=_part(folder, files.train, files, name, directory, len(class_names)),
        test=_part(folder, files.test, files, name, directory, len(class_names)),
    )


def _part(
    folder: Path, wanted: tuple[str, ...], files: CifarFiles, name: str, directory: Path, num_classes: int
) -> Part:
    batches = [_official(folder, file, files, name, directory) for file in wanted]
    pixels = np.concatenate([np.asarray(batch["data"], dtype=np.uint8) for batch in batches]).reshape(-1, 3, 32, 32)
    labels = check_labels([label for batch in batches for label in batch[files.labels]], name, num_classes)
    return Part(ArrayImages(torch.from_numpy(pixels), f"{name}, {wanted[0]}"), labels)


def _official(folder: Path, file: str, files: CifarFiles, name: str, directory: Path) -> dict[str, Any]:
    path = folder / file
    try:
        content = path.read_bytes()
    except OSError as cause:
        raise missing(name, name.upper(), directory, f"no file {path}") from cause
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != files.md5[file]:
        raise InputError(
            f"{path} is not the official file (its md5 differs): refused, it is a pickle and could run code",
            hint=f"remove {folder} and download the set again",
        )
    loaded: dict[str, Any] = pickle.loads(content, encoding="latin1")
    return loaded


def missing(name: str, set_class: str, directory: Path, what: str) -> InputError:
    """Make the error for a torchvision set whose files are not there; nothing is ever downloaded unasked."""
    fetch = f"from torchvision.datasets import {set_class} as D; D({str(directory)!r}, download=True)"
    return InputError(
        f"torch/{name} is not in {directory}: {what}",
        hint=f'--data-dir FOLDER, or download it: python -c "{fetch}"',
        code="data.missing",
    )
