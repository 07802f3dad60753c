"""Image datasets of the Hugging Face hub, through the ``datasets`` package."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from compressor.data.sources.python_sets import part_of
from compressor.data.stores import Part, RawData, check_labels
from compressor.errors import InputError

_IMAGE_COLUMNS = ("image", "img", "images")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_VALIDATION = ("validation", "val", "valid")


def load(name: str, directory: str | None) -> RawData:
    """Load a dataset through the hub's own cache; ``HF_HOME`` and ``HF_HUB_OFFLINE`` hold.

    The image column is the one of type Image, the label column the one of type ClassLabel; among several, those with
    the usual names.

    Args:
        name: ``org/name``. directory: of the cache; None is the hub's own.

    Raises:
        InputError: ``datasets`` is not installed, the set cannot be had, is not map-style, or lacks a column or split.
    """
    try:
        datasets = import_module("datasets")
    except ModuleNotFoundError as cause:
        if cause.name != "datasets":
            raise
        raise InputError(
            f"hfds/{name} needs the package datasets", hint="pip install 'compress-kd[hfds]'", code="data.missing"
        ) from cause
    try:
        splits = datasets.load_dataset(name, cache_dir=directory)
    except (OSError, ValueError, RuntimeError) as cause:
        first = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise InputError(
            f"cannot load hfds/{name}: {first}",
            hint="offline, or where HF_HUB_OFFLINE is set, only what HF_HOME holds can be loaded",
            code="data.missing",
        ) from cause
    if not isinstance(splits, Mapping) or "train" not in splits:
        raise InputError(f"hfds/{name} has no split 'train'")
    val = next((word for word in _VALIDATION if word in splits), None)
    if val is None and "test" not in splits:
        raise InputError(f"hfds/{name} has the splits {', '.join(splits)}: neither test nor validation")
    return _raw(name, splits, val)


def _raw(name: str, splits: Mapping[str, Any], val: str | None) -> RawData:
    features = splits["train"].features
    image = _column(name, features, "Image", _IMAGE_COLUMNS)
    label = _column(name, features, "ClassLabel", _LABEL_COLUMNS)
    class_names = tuple(str(word) for word in features[label].names)

    def part(split: str) -> Part:
        made = part_of(_Pairs(splits[split], image, label), f"hfds/{name}, {split}", splits[split][label])
        check_labels(made.labels.numpy(), f"hfds/{name}, {split}", len(class_names))
        return made

    test = "test" if "test" in splits else val
    assert test is not None, "checked by the caller"
    return RawData(
        class_names=class_names,
        train=part("train"),
        val=part(val) if val is not None and val != test else None,
        test=part(test),
    )


def _column(name: str, features: Mapping[str, Any], kind: str, usual: tuple[str, ...]) -> str:
    found = [column for column, feature in features.items() if type(feature).__name__ == kind]
    if len(found) == 1:
        return found[0]
    named = [column for column in usual if column in found]
    if named:
        return named[0]
    raise InputError(
        f"hfds/{name} has {len(found)} columns of type {kind}: its columns are {', '.join(features)}",
        hint=f"one column of type {kind} is needed, or several of which one is called {usual[0]}",
    )


class _Pairs:
    """A hub dataset as one of (image, label); a class, because worker processes may have to unpickle it."""

    def __init__(self, dataset: Any, image: str, label: str) -> None:
        self._dataset = dataset
        self._image = image
        self._label = label

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self._dataset[index]
        return row[self._image], row[self._label]
