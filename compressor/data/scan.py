"""Look at every image file of a folder before anything is trained: what cannot be read is known at the start."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from compressor.data.images import SUFFIXES, Size, UnreadableImage, probe_file, quiet_decoder
from compressor.data.stores import FileImages, Part
from compressor.errors import InputError

_THREADS = 8  # waiting for the disk, not computing


@dataclass(frozen=True)
class ScannedPart:
    """The readable images of one split, and what else was found as ``PATH (reason)``."""

    part: Part
    unreadable: tuple[str, ...]


def class_folders(split: Path) -> tuple[str, ...]:
    """Return the names of the class folders in ``split``, sorted; hidden ones do not count.

    Raises:
        InputError: there is none, or the folder cannot be listed.
    """
    names = tuple(sorted(entry.name for entry in _entries(split) if not _hidden(entry) and entry.is_dir()))
    if not names:
        raise InputError(f"no class folders in {split}", hint=f"put images into {split}/CLASS/, one folder a class")
    return names


def scan_split(root: Path, split: str, class_names: tuple[str, ...]) -> ScannedPart:
    """Decode the header of every image file under ``root/split/CLASS``, at any depth, in sorted order.

    Files count by their suffix; a link, pipe or folder with such a name is unreadable, other files are not looked at.

    Raises:
        InputError: a class has no image file at all.
    """
    found: list[tuple[str, int]] = []
    for label, name in enumerate(class_names):
        folder = root / split / name
        files = list(_image_files(folder, set()))
        if not files:
            raise InputError(f"no images in {folder}", hint=f"remove the folder, or add {', '.join(sorted(SUFFIXES))}")
        found += [(path.relative_to(root).as_posix(), label) for path in files]
    with quiet_decoder(), ThreadPoolExecutor(_THREADS) as pool:
        probed = list(pool.map(lambda item: _probe(root / item[0]), found))
    good = [
        (path, label, *seen) for (path, label), seen in zip(found, probed, strict=True) if not isinstance(seen, str)
    ]
    images = FileImages(
        root,
        tuple(path for path, _, _, _ in good),
        tuple(size for _, _, size, _ in good),
        tuple(length for _, _, _, length in good),
    )
    unreadable = tuple(
        f"{root / path} ({seen})" for (path, _), seen in zip(found, probed, strict=True) if isinstance(seen, str)
    )
    return ScannedPart(Part(images, torch.tensor([label for _, label, _, _ in good], dtype=torch.int64)), unreadable)


def _image_files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    real = folder.resolve()
    if real in seen:  # a link that leads back up
        return
    seen.add(real)
    for entry in sorted(_entries(folder), key=lambda each: each.name):
        if _hidden(entry):
            continue
        if Path(entry.name).suffix.lower() in SUFFIXES:
            yield Path(entry.path)
        elif entry.is_dir():
            yield from _image_files(Path(entry.path), seen)


def _entries(folder: Path) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as cause:
        raise InputError(f"cannot list {folder}: {cause.strerror}") from cause


def _hidden(entry: "os.DirEntry[str]") -> bool:
    return entry.name.startswith(".")


def _probe(path: Path) -> tuple[Size, int] | str:
    try:
        return probe_file(path)
    except UnreadableImage as cause:
        return str(cause)
