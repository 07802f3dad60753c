"""The augmentation pool: few draws an image, evenly taken, the same for every seed; and pictures known by number."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compressor.data.pool import chosen_draws, pictures_each
from compressor.data.resident import ResidentSplit, padded_crop
from compressor.data.sources.folder import load as load_folder
from compressor.data.stream import StreamSplit
from compressor.data.types import PLAIN, Augmentation, ImageBatch, Split, ViewSlot
from compressor.distiller import Rotations

COUNT = 40
SLOTS = (PLAIN, *(ViewSlot(Rotations(), view) for view in (1, 2, 3)))
POOL = Augmentation(crop_padding=2, flip=True, pool=3, pool_seed=7)


def pictures() -> torch.Tensor:
    owned = torch.Generator().manual_seed(5)
    return torch.randint(1, 256, (COUNT, 3, 8, 8), dtype=torch.uint8, generator=owned)


def resident() -> ResidentSplit:
    return ResidentSplit(pictures(), torch.arange(COUNT) % 5)


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> StreamSplit:
    folder = tmp_path_factory.mktemp("photos")
    owned = np.random.default_rng(0)
    for part in ("train", "test"):
        for number in range(6):
            path = folder / part / f"class{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(owned.integers(0, 256, (20, 24, 3)).astype(np.uint8)).save(path)
    train = load_folder(Path(folder)).train
    return StreamSplit(train.images, train.labels, size=(8, 8))


def whole(split: Split, augmentation: Augmentation, epoch: int, seed: int) -> ImageBatch:
    positions = [torch.arange(len(split))]
    return next(iter(split.batches(positions, slots=SLOTS, augmentation=augmentation, epoch=epoch, seed=seed)))


def test_every_image_takes_each_of_its_draws_once_a_cycle_in_an_order_of_its_own() -> None:
    cycles = [torch.stack([chosen_draws(1, epoch, COUNT, 5) for epoch in range(first, first + 5)]) for first in (0, 5)]
    for orders in cycles:
        assert torch.equal(orders.sort(dim=0).values, torch.arange(5)[:, None].expand(5, COUNT))
        assert len({tuple(order) for order in orders.T.tolist()}) > COUNT // 2
    assert not torch.equal(*cycles)
    assert not torch.equal(chosen_draws(2, 0, COUNT, 5), cycles[0][0])
    assert torch.equal(chosen_draws(1, 7, COUNT, 5), cycles[1][2])


@pytest.mark.parametrize("source", ["resident", "streamed"])
def test_equal_numbers_are_equal_pixels_in_every_epoch_and_for_every_seed(source: str, streamed: StreamSplit) -> None:
    split: Split = resident() if source == "resident" else streamed
    seen: dict[tuple[int, int], torch.Tensor] = {}
    for seed, epoch in ((0, 0), (0, 1), (0, 4), (1, 0), (9, 3)):
        batch = whole(split, POOL, epoch, seed)
        assert batch.draw is not None
        for row, numbers in enumerate(batch.draw.tolist()):
            assert set(numbers) == {numbers[0]}
            assert numbers[0] // 3 == row
            for slot, number in enumerate(numbers):
                assert torch.equal(seen.setdefault((slot, number), batch.images[row, slot]), batch.images[row, slot])
    assert len(seen) > 2 * len(SLOTS) * len(split)  # most draws of most images occurred


def test_draws_of_one_image_differ_and_so_do_those_of_another_pool() -> None:
    first, second, third = (whole(resident(), POOL, epoch, seed=0) for epoch in range(3))
    changed = (first.images != second.images).flatten(1).any(1) & (second.images != third.images).flatten(1).any(1)
    assert int(changed.sum()) == COUNT  # four views at 25 places each: none is drawn twice
    other = whole(resident(), Augmentation(crop_padding=2, flip=True, pool=3, pool_seed=8), 0, seed=0)
    assert not torch.equal(other.images, first.images)
    assert torch.equal(other.draw, first.draw) if first.draw is not None and other.draw is not None else False


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [0, 2])
def test_a_number_of_fresh_draws_tells_flip_and_corner_of_the_view(flip: bool, padding: int) -> None:
    fresh = Augmentation(crop_padding=padding, flip=flip)
    numbered = Augmentation(crop_padding=padding, flip=flip, numbered=True)
    batch, images, side = whole(resident(), numbered, 4, 1), pictures(), 2 * padding + 1
    assert torch.equal(batch.images, whole(resident(), fresh, 4, 1).images)
    assert pictures_each(numbered) == side**2 * (2 if flip else 1)
    assert batch.draw is not None
    for row, numbers in enumerate(batch.draw.tolist()):
        for turns, number in enumerate(numbers):
            position, which = divmod(number, pictures_each(numbered))
            mirrored, corner = divmod(which, side**2)
            assert position == row
            picture = images[row].flip(-1) if mirrored else images[row]
            turned = torch.rot90(picture, turns, dims=(-2, -1))[None]
            again = padded_crop(turned, torch.tensor([divmod(corner, side)]), padding)[0]
            assert torch.equal(again, batch.images[row, turns])


def test_views_of_one_crop_carry_its_number() -> None:
    slots = (PLAIN, ViewSlot(Rotations(4, shared_crop=True), 2))
    numbered = Augmentation(crop_padding=2, flip=True, numbered=True)
    batch = next(resident().batches([torch.arange(COUNT)], slots=slots, augmentation=numbered))
    assert batch.draw is not None
    assert torch.equal(batch.draw[:, 0], batch.draw[:, 1])


def test_neither_grouping_nor_other_slots_change_a_pooled_pixel(streamed: StreamSplit) -> None:
    for split in (resident(), streamed):
        usual = whole(split, POOL, 2, 3)
        single = list(split.batches(list(torch.arange(len(split)).split(4)), augmentation=POOL, epoch=2, seed=3))
        assert torch.equal(torch.cat([batch.images[:, 0] for batch in single]), usual.images[:, 0])


def test_pictures_go_unnumbered_where_nobody_asks(streamed: StreamSplit) -> None:
    for split in (resident(), streamed):
        assert whole(split, Augmentation(flip=True), 0, 0).draw is None
        assert next(iter(split.batches([torch.arange(2)]))).draw is None
    assert next(resident().batches([torch.arange(2)])).draw is None


def test_what_decides_the_pixels_is_described_and_no_more() -> None:
    plain = Augmentation(crop_padding=4, flip=True)
    assert plain.described() == {"crop_padding": 4, "flip": True, "crop_scale": 0.35}
    assert Augmentation(crop_padding=4, flip=True, numbered=True).described() == plain.described()
    assert POOL.described() == {"crop_padding": 2, "flip": True, "crop_scale": 0.35, "pool": 3, "pool_seed": 7}
    assert POOL.fresh() == Augmentation(crop_padding=2, flip=True)
