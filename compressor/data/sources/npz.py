"""A NumPy ``.npz`` file of uint8 images."""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.data.stores import ArrayImages, Part, RawData, check_labels
from compressor.errors import InputError
from compressor.storage import memory_bytes, readable_bytes

_NAMES = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels")),
    "val": (("x_val", "y_val"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}


def load(path: Path) -> RawData:
    """Read images (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, and labels (N,) or (N, 1) from 0.

    An array ``class_names`` names the classes; else they are called by their numbers. Nothing is unpickled.

    Raises:
        InputError: the file is missing or damaged, an array is missing or of another kind.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file")
    try:
        # numpy leaves a file it opened itself open when it turns out to be damaged.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            _refuse_bomb(path, archive)
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as cause:
        raise InputError(f"no file {path}") from cause
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError) as cause:
        raise InputError(f"cannot read {path}: {cause}", hint="save it with numpy.savez, without objects") from cause
    pairs = {split: _pair(arrays, names) for split, names in _NAMES.items()}
    train, val, test = pairs["train"], pairs["val"], pairs["test"]
    if train is None or (test is None and val is None):
        raise InputError(
            f"{path} holds {', '.join(sorted(arrays)) or 'nothing'}",
            hint="wanted: x_train, y_train, x_test, y_test or train_images, train_labels, test_images, test_labels",
        )
    class_names = _class_names(path, arrays, train[1])
    held_out = val if test is not None else None
    return RawData(
        class_names=class_names,
        train=_part(path, train, len(class_names), "train"),
        val=None if held_out is None else _part(path, held_out, len(class_names), "val"),
        test=_part(path, _either(test, val), len(class_names), "test"),
    )


def _refuse_bomb(path: Path, archive: Any) -> None:
    """Refuse what would not fit into memory unpacked; a small file may claim to hold any number of bytes."""
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise InputError(f"{path} is no .npz archive", hint="save it with numpy.savez")
    records = [] if archive.zip is None else archive.zip.infolist()
    claimed = sum(int(record.file_size) for record in records)
    present = memory_bytes()
    if present is not None and claimed > present:
        raise InputError(
            f"{path} holds {readable_bytes(claimed)}, this machine has {readable_bytes(present)} of memory"
        )


_Pair = tuple[NDArray[np.generic], NDArray[np.generic]]


def _pair(arrays: dict[str, NDArray[np.generic]], names: tuple[tuple[str, str], ...]) -> _Pair | None:
    for images, labels in names:
        if images in arrays and labels in arrays:
            return arrays[images], arrays[labels]
    return None


def _either(test: _Pair | None, val: _Pair | None) -> _Pair:
    pair = test if test is not None else val
    assert pair is not None, "checked by the caller"
    return pair


def _class_names(path: Path, arrays: dict[str, NDArray[np.generic]], labels: NDArray[np.generic]) -> tuple[str, ...]:
    if "class_names" in arrays:
        return tuple(str(name) for name in arrays["class_names"].ravel())
    checked = check_labels(labels, f"{path}, training")
    return tuple(str(label) for label in range(int(checked.max()) + 1 if len(checked) else 0))


def _part(path: Path, pair: _Pair, num_classes: int, split: str) -> Part:
    origin = f"{path}, {split}"
    images = image_array(pair[0], origin)
    labels = check_labels(pair[1], origin, num_classes)
    if len(images) != len(labels):
        raise InputError(f"{origin}: {len(images)} images and {len(labels)} labels")
    return Part(ArrayImages(images, origin), labels)


def image_array(array: NDArray[np.generic], origin: str) -> Tensor:
    """Return uint8 images as (N, C, H, W), C = 1 or 3, from any of the usual layouts; channels last goes first.

    Raises:
        InputError: the array is not uint8 or has another shape.
    """
    if array.dtype != np.uint8:
        raise InputError(f"images of {origin} are {array.dtype}", hint="save them as uint8, 0 to 255")
    pixels = torch.from_numpy(np.ascontiguousarray(array))
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        return pixels.permute(0, 3, 1, 2).contiguous()
    if pixels.ndim == 4 and pixels.shape[1] in (1, 3):
        return pixels
    raise InputError(
        f"images of {origin} have shape {tuple(pixels.shape)}", hint="(N, H, W), (N, H, W, C) or (N, C, H, W), C 1 or 3"
    )
