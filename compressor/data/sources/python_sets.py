"""Datasets that a Python program hands over: map-style, each item an image and its label."""

from collections.abc import Sequence
from typing import Any

from compressor.data.identity import spaced
from compressor.data.images import Size, UnreadableImage, quiet_decoder, reason_of
from compressor.data.stores import ObjectImages, Part, RawData, check_labels, to_pixels, unreadable_error
from compressor.errors import InputError, UsageError

_LOOKED_AT = 64


def load(datasets: tuple[Any, ...]) -> RawData:
    """Take (train, test) or (train, val, test).

    Images are Pillow images, uint8 arrays (H, W[, C]), uint8 tensors (C, H, W), or floating-point tensors that are
    normalised already and are not normalised again. Labels are whole numbers from 0. They are read from ``targets``
    where a dataset has that and no ``target_transform``, else by asking for every item once. Names of classes come
    from ``classes``, of whichever dataset has it.

    Raises:
        UsageError: the tuple has another length. InputError: a dataset is not map-style, or an item is something else.
    """
    if len(datasets) not in (2, 3):
        raise UsageError(f"{len(datasets)} datasets were given", hint="(train, test) or (train, val, test)")
    names = ("training", "test") if len(datasets) == 2 else ("training", "validation", "test")
    parts = [part_of(dataset, f"{name} dataset") for dataset, name in zip(datasets, names, strict=True)]
    named = next((dataset for dataset in datasets if _names(dataset) is not None), datasets[0])
    class_names = class_names_of(named, parts[0])
    for dataset, part, name in zip(datasets, parts, names, strict=True):
        check_labels(part.labels.numpy(), f"{name} dataset", len(class_names))
        _check_names(dataset, class_names, name)
        if part.images.normalised != parts[0].images.normalised:
            raise InputError(f"the {name} dataset is normalised and the training one is not, or the reverse")
    return RawData(class_names=class_names, train=parts[0], test=parts[-1], val=parts[1] if len(parts) == 3 else None)


def part_of(dataset: Any, origin: str, labels: Sequence[Any] | None = None) -> Part:
    """Look at a map-style dataset: its labels, and whether its images are normalised and of one size.

    Args:
        dataset: whose items are images with labels. origin: names it in messages.
        labels: of all items, where they are known; they are compared with up to 64 items.

    Raises:
        InputError: it is not map-style, is empty, or an item is not an image with a label.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError(f"the {origin} is a {type(dataset).__name__} without length or index", hint="map-style only")
    count = len(dataset)
    if count == 0:
        raise InputError(f"the {origin} is empty")
    with quiet_decoder():
        labels = _given_labels(dataset, count, origin) if labels is None else labels
        sizes, kinds = set(), set()
        for index in spaced(count, _LOOKED_AT):
            try:
                image, label = _item(dataset, index, origin)
            except OSError:
                continue  # an unreadable image is counted, and refused or left out, when all are read
            if labels is not None and int(label) != int(labels[index]):
                raise InputError(f"the {origin} says {labels[index]} in targets[{index}] and {label} in item {index}")
            size, normalised = _look(image, f"{origin}, image {index}")
            sizes.add(size)
            kinds.add(normalised)
        if not kinds:
            raise InputError(f"the {origin} has no readable image among {min(count, _LOOKED_AT)} of {count}")
        if len(kinds) == 2:
            raise InputError(f"the {origin} returns both uint8 and floating-point images")
        if labels is None:
            labels = [_label(dataset, index, origin) for index in range(count)]
    images = ObjectImages(
        get=_Getter(dataset),
        indices=tuple(range(count)),
        normalised=kinds.pop(),
        size=sizes.pop() if len(sizes) == 1 else None,
        origin=origin,
    )
    return Part(images, check_labels([int(label) for label in labels], origin))


def class_names_of(dataset: Any, part: Part) -> tuple[str, ...]:
    """Return the dataset's own names of its classes, or numbers as words where it has none."""
    own = _names(dataset)
    return own if own is not None else tuple(str(label) for label in range(int(part.labels.max()) + 1))


class _Getter:
    """Returns the image of an item; a class, because worker processes may have to unpickle it."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(self, index: int) -> Any:
        return self._dataset[index][0]


def _names(dataset: Any) -> tuple[str, ...] | None:
    own = getattr(dataset, "classes", None)
    if not isinstance(own, (list, tuple)) or not own:
        return None
    return tuple(str(name[0] if isinstance(name, tuple) else name) for name in own)  # ImageNet's are tuples of synonyms


def _check_names(dataset: Any, class_names: tuple[str, ...], name: str) -> None:
    own = _names(dataset)
    if own is None or own == class_names:
        return
    for label, (ours, theirs) in enumerate(zip(class_names, own, strict=False)):
        if ours != theirs:
            raise InputError(
                f"class order differs: index {label} is {ours!r} in training, {theirs!r} in the {name} set"
            )
    raise InputError(f"training has {len(class_names)} classes, the {name} set {len(own)}")


def _given_labels(dataset: Any, count: int, origin: str) -> Sequence[Any] | None:
    targets = getattr(dataset, "targets", None)
    if targets is None or getattr(dataset, "target_transform", None) is not None:
        return None
    listed = targets.tolist() if hasattr(targets, "tolist") else list(targets)
    if len(listed) != count:
        raise InputError(f"the {origin} has {count} items and {len(listed)} targets")
    return listed


def _item(dataset: Any, index: int, origin: str) -> tuple[Any, Any]:
    item = dataset[index]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise InputError(f"item {index} of the {origin} is a {type(item).__name__}", hint="wanted: (image, label)")
    label = item[1]
    if isinstance(label, bool) or not hasattr(label, "__index__"):
        raise InputError(f"label of item {index} of the {origin} is {label!r}", hint="wanted: a whole number from 0")
    return item[0], label


def _label(dataset: Any, index: int, origin: str) -> Any:
    try:
        return _item(dataset, index, origin)[1]
    except OSError as cause:
        raise unreadable_error(f"{origin}, image {index}", reason_of(cause)) from cause


def _look(image: object, name: str) -> tuple[Size, bool]:
    try:
        pixels = to_pixels(image)
    except UnreadableImage as cause:
        raise InputError(f"{name} is {cause}") from cause
    return (int(pixels.shape[1]), int(pixels.shape[2])), pixels.is_floating_point()
