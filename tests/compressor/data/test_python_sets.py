"""Datasets of a Python program: images of every usual kind, labels checked, normalised ones left alone."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from compressor.data.load import load_data
from compressor.errors import InputError, UsageError

PIXELS = torch.randint(0, 256, (12, 3, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 3


class Items:
    """A map-style dataset of whatever ``make`` returns."""

    def __init__(self, make: Callable[[int], Any], count: int = 12, **attributes: Any) -> None:
        self._make = make
        self._count = count
        vars(self).update(attributes)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        if index >= self._count:
            raise IndexError(index)
        return self._make(index)


def pil(index: int) -> Image.Image:
    return Image.fromarray(PIXELS[index].permute(1, 2, 0).numpy())


def labelled(index: int) -> tuple[Any, int]:
    return pil(index), int(LABELS[index])


def seen(train: Any, test: Any, **choice: Any) -> torch.Tensor:
    data = load_data((train, test), val_split=0, **choice)
    assert data.train.labels.tolist() == LABELS.tolist()
    return next(data.train.batches([torch.arange(12)])).images[:, 0]


@pytest.mark.parametrize(
    "make",
    [
        pil,
        lambda index: PIXELS[index],
        lambda index: PIXELS[index].permute(1, 2, 0).numpy(),
    ],
    ids=["pillow", "tensor", "array"],
)
@pytest.mark.parametrize("pipeline", ["resident", "stream"])
def test_images_of_every_kind_come_out_alike(make: Callable[[int], Any], pipeline: str) -> None:
    items = Items(lambda index: (make(index), LABELS[index]))
    assert torch.equal(seen(items, items, pipeline=pipeline), PIXELS)


def test_grey_arrays_are_repeated() -> None:
    items = Items(lambda index: (PIXELS[index, 0].numpy(), np.int64(LABELS[index])))
    assert torch.equal(seen(items, items), PIXELS[:, :1].expand(-1, 3, -1, -1))


def test_float_tensors_are_taken_as_normalised() -> None:
    floats = PIXELS.double() / 50 - 2
    items = TensorDataset(floats, LABELS)
    data = load_data((items, items), val_split=0)
    assert data.train.normalised
    assert (data.mean, data.std) == ((0, 0, 0), (1, 1, 1))
    batch = next(data.train.batches([torch.arange(12)]))
    assert batch.images.dtype == torch.float32
    assert torch.equal(batch.images[:, 0], floats.float())
    streamed = load_data((items, items), val_split=0, pipeline="stream")
    assert torch.equal(next(streamed.train.batches([torch.arange(12)])).images, batch.images)
    assert streamed.mean == (0, 0, 0)


def test_three_datasets_bring_their_own_validation_part() -> None:
    data = load_data((Items(labelled), Items(labelled, 6), Items(labelled, 3)))
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (12, 6, 3)
    assert data.name == "python"


def test_class_names_come_from_the_dataset_and_must_agree() -> None:
    named = Items(labelled, classes=["a", "b", "c"])
    assert load_data((named, Items(labelled)), val_split=0).class_names == ("a", "b", "c")
    assert load_data((Items(labelled), named), val_split=0).class_names == ("a", "b", "c")
    assert load_data((Items(labelled), Items(labelled)), val_split=0).class_names == ("0", "1", "2")
    assert load_data(
        (Items(labelled, classes=[("cat", "puss"), ("dog",), ("cow",)]), Items(labelled)), val_split=0
    ).class_names == (
        "cat",
        "dog",
        "cow",
    )
    other = Items(labelled, classes=["a", "c", "b"])
    with pytest.raises(InputError, match="class order differs: index 1 is 'b' in training, 'c' in the test set"):
        load_data((named, other))
    with pytest.raises(InputError, match="training has 3 classes, the test set 4"):
        load_data((named, Items(labelled, classes=["a", "b", "c", "d"])))


def test_labels_are_read_from_targets_and_compared_with_items() -> None:
    asked: list[int] = []

    def counted(index: int) -> tuple[Any, int]:
        asked.append(index)
        return PIXELS[index % 12], index % 3

    items = Items(counted, 600, targets=[index % 3 for index in range(600)])
    load_data((items, items), image_size=6, pipeline="stream")
    assert len(set(asked)) < 600
    wrong = Items(labelled, targets=[0] * 12)
    with pytest.raises(InputError, match=r"says 0 in targets\[1\] and 1 in item 1"):
        load_data((wrong, wrong))
    with pytest.raises(InputError, match="has 12 items and 3 targets"):
        load_data((Items(labelled, targets=[0, 1, 2]), Items(labelled)))
    changed = Items(labelled, targets=[0] * 12, target_transform=int)
    assert load_data((changed, changed), val_split=0).train.labels.tolist() == LABELS.tolist()


def test_an_unreadable_item_is_counted_and_can_be_left_out() -> None:
    def torn(index: int) -> tuple[Any, int]:
        if index == 7:
            raise OSError("image file is truncated (3 bytes not processed)")
        return labelled(index)

    items = Items(torn, targets=LABELS)
    with pytest.raises(InputError, match=r"1 unreadable image, first: training dataset, image 7 \(truncated\)"):
        load_data((items, Items(labelled)))
    data = load_data((items, Items(labelled)), skip_bad_images=True, val_split=0)
    assert len(data.train) == 11
    assert data.unreadable == ("training dataset, image 7 (truncated)",)
    with pytest.raises(InputError, match=r"cannot read training dataset, image 7 \(truncated\)"):
        load_data((Items(torn), Items(labelled)))


def test_an_odd_image_among_many_is_unreadable() -> None:
    def odd(index: int) -> tuple[Any, int]:
        return (PIXELS[0, :, :4, :5] if index == 100 else PIXELS[index % 12]), index % 3

    items = Items(odd, 500, targets=[index % 3 for index in range(500)])
    with pytest.raises(InputError, match=r"image 100 \(4 x 5 pixels, unlike those looked at first\)"):
        load_data((items, Items(labelled)))


class Endless(IterableDataset[Any]):
    """A dataset that can only be iterated."""

    def __iter__(self) -> Iterator[Any]:
        return iter([labelled(0)])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Endless(), "the training dataset is a Endless without length or index"),
        (Items(labelled, 0), "the training dataset is empty"),
        (Items(pil), "item 0 of the training dataset is a Image"),
        (Items(lambda index: (pil(index), 0.5)), "label of item 0 of the training dataset is 0.5"),
        (Items(lambda index: (pil(index), True)), "label of item 0 of the training dataset is True"),
        (Items(lambda index: ("a.png", 0)), "training dataset, image 0 is str; images must be"),
        (Items(lambda index: (np.zeros((4, 4)), 0)), "image 0 is an array of float64; arrays must be uint8"),
        (Items(lambda index: (PIXELS[index].long(), 0)), "image 0 is a tensor of torch.int64"),
        (Items(lambda index: (pil(index), index - 1)), "label -1 of training dataset, image 0"),
        (Items(lambda index: (pil(index), 0)), "python has one class, '0'"),
        (Items(lambda index: (pil(index), 2 * (index % 2))), "no training image of '1'"),
        (Items(lambda index: (PIXELS[index] * (1.0 if index else 1), 0)), "both uint8 and floating-point"),
    ],
)
def test_what_is_not_a_dataset_of_images_and_labels_is_refused(dataset: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_data((dataset, Items(labelled, 1)))


def test_one_dataset_or_four_are_refused() -> None:
    with pytest.raises(UsageError, match="1 datasets were given"):
        load_data((Items(labelled),))


def test_normalised_training_images_need_normalised_test_images() -> None:
    with pytest.raises(InputError, match="normalised"):
        load_data((TensorDataset(PIXELS.float(), LABELS), Items(labelled)))
