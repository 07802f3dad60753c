"""Classification datasets of torchvision, from files that are already there."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressor.data.sources import cifar
from compressor.data.sources.npz import image_array
from compressor.data.sources.python_sets import class_names_of, part_of
from compressor.data.stores import ArrayImages, Part, RawData, check_labels
from compressor.errors import InputError, UsageError, suggestion


@dataclass(frozen=True)
class _Set:
    """A class of ``torchvision.datasets`` and what its splits are called: words for ``split=``, or ``train=``."""

    name: str
    train: str | bool = "train"
    test: str | bool = "test"
    val: str | None = None


SETS = {
    "country211": _Set("Country211", val="valid"),
    "dtd": _Set("DTD", val="val"),
    "fashion_mnist": _Set("FashionMNIST", True, False),
    "fgvc_aircraft": _Set("FGVCAircraft", val="val"),
    "flowers102": _Set("Flowers102", val="val"),
    "food101": _Set("Food101"),
    "gtsrb": _Set("GTSRB"),
    "imagenet": _Set("ImageNet", test="val"),
    "imagenette": _Set("Imagenette", test="val"),
    "kmnist": _Set("KMNIST", True, False),
    "mnist": _Set("MNIST", True, False),
    "oxford_iiit_pet": _Set("OxfordIIITPet", train="trainval"),
    "pcam": _Set("PCAM", val="val"),
    "rendered_sst2": _Set("RenderedSST2", val="val"),
    "stanford_cars": _Set("StanfordCars"),
    "stl10": _Set("STL10"),
    "svhn": _Set("SVHN"),
    "usps": _Set("USPS", True, False),
}


def load(name: str, directory: Path) -> RawData:
    """Open a set by its lower-case name; where the set has its own validation part, that is used.

    Raises:
        UsageError: there is no such set. InputError: its files are not in ``directory``; says how to get them.
    """
    if name in cifar.SETS:
        return cifar.load(name, directory)
    if name not in SETS:
        known = [*SETS, *cifar.SETS]
        hint = suggestion(name, known) or f"known: {', '.join(sorted(known))}"
        raise UsageError(f"no torchvision classification set {name!r}", hint=hint)
    entry = SETS[name]
    train = _open(name, entry, entry.train, directory)
    test = _open(name, entry, entry.test, directory)
    val = None if entry.val is None else _open(name, entry, entry.val, directory)
    parts = [_part(each, f"torch/{name}") for each in (train, test, val) if each is not None]
    class_names = class_names_of(train, parts[0])
    for part in parts:
        check_labels(part.labels.numpy(), f"torch/{name}", len(class_names))
    return RawData(class_names=class_names, train=parts[0], test=parts[1], val=parts[2] if len(parts) == 3 else None)


def _open(name: str, entry: _Set, split: str | bool, directory: Path) -> Any:
    from torchvision import datasets

    words = {"train": split} if isinstance(split, bool) else {"split": split}
    try:
        return getattr(datasets, entry.name)(str(directory), **words)
    except ModuleNotFoundError as cause:
        raise InputError(f"torch/{name} needs {cause.name}", hint=f"pip install {cause.name}") from cause
    except (OSError, RuntimeError) as cause:
        raise cifar.missing(name, entry.name, directory, str(cause).split(". ")[0]) from cause


def _part(dataset: Any, origin: str) -> Part:
    labels = _labels(dataset)
    data = getattr(dataset, "data", None)
    if data is not None and labels is not None and hasattr(data, "__array__"):
        array = np.asarray(data)
        if array.dtype == np.uint8 and array.ndim in (3, 4) and len(array) == len(labels) == len(dataset):
            return Part(ArrayImages(image_array(array, origin), origin), check_labels(labels, origin))
    return part_of(dataset, origin, labels if labels is not None and len(labels) == len(dataset) else None)


def _labels(dataset: Any) -> Sequence[Any] | None:
    """Return the labels of all items where the set keeps them apart, under whichever name."""
    for name in ("targets", "labels", "_labels"):
        labels = getattr(dataset, name, None)
        if labels is not None:
            return labels.tolist() if hasattr(labels, "tolist") else list(labels)
    return None
