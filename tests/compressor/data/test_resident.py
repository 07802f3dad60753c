"""Images in memory: pixels are those that Pillow makes of the same draws, whoever else is served."""

import pytest
import torch
from PIL import Image, ImageOps

from compressor.data.resident import ResidentSplit, padded_crop
from compressor.data.types import PLAIN, Augmentation, ViewSlot
from compressor.distiller import Rotations
from compressor.errors import UsageError
from compressor.streams import generator

VARIED = Augmentation(crop_padding=4, flip=True)
OF_ONE_CROP = (PLAIN, *(ViewSlot(Rotations(4, shared_crop=True), view) for view in (1, 2, 3)))
ROTATED = (PLAIN, *(ViewSlot(Rotations(), view) for view in (1, 2, 3)))


def pictures(count: int = 23, size: tuple[int, int] = (16, 16)) -> torch.Tensor:
    owned = torch.Generator().manual_seed(5)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=owned)


def split(count: int = 23) -> ResidentSplit:
    return ResidentSplit(pictures(count), torch.arange(count) % 5)


def by_pillow(image: torch.Tensor, mirrored: bool, turns: int, corner: list[int], padding: int) -> torch.Tensor:
    picture = Image.frombytes("RGB", (16, 16), bytes(image.permute(1, 2, 0).flatten().tolist()))
    if mirrored:
        picture = ImageOps.mirror(picture)
    picture = picture.rotate(90 * turns)  # Pillow turns counter-clockwise
    top, left = corner
    cut = ImageOps.expand(picture, padding).crop((left, top, left + 16, top + 16))
    return torch.tensor(list(cut.tobytes()), dtype=torch.uint8).reshape(16, 16, 3).permute(2, 0, 1)


def test_batched_augmentation_equals_pillow_picture_by_picture() -> None:
    seed, epoch, images = 11, 3, pictures()
    mirrored = torch.rand(23, generator=generator(seed, "flip", epoch)) < 0.5
    corners = [
        torch.randint(0, 9, (23, 2), generator=generator(seed, purpose, epoch))
        for purpose in ("crop/plain", "crop/Rotations-1", "crop/Rotations-2", "crop/Rotations-3")
    ]
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    for batch in split().batches(list(order.split(8)), slots=ROTATED, augmentation=VARIED, epoch=epoch, seed=seed):
        assert batch.images.shape[1:] == (4, 3, 16, 16)
        for row, position in enumerate(batch.index.tolist()):
            for turns in range(4):
                wanted = by_pillow(
                    images[position], bool(mirrored[position]), turns, corners[turns][position].tolist(), 4
                )
                assert torch.equal(batch.images[row, turns], wanted)
            assert batch.labels[row] == position % 5


def test_neither_grouping_nor_other_slots_change_a_pixel() -> None:
    whole = next(iter(split().batches([torch.arange(23)], slots=ROTATED, augmentation=VARIED, epoch=1, seed=2)))
    alone = ViewSlot(Rotations(), 2)
    for position in (22, 0, 7):
        single = next(
            split().batches([torch.tensor([position])], slots=(alone, PLAIN), augmentation=VARIED, epoch=1, seed=2)
        )
        assert torch.equal(single.images[0, 0], whole.images[position, 2])
        assert torch.equal(single.images[0, 1], whole.images[position, 0])


def test_views_that_share_a_crop_are_turned_after_it_and_leave_the_others_alone() -> None:
    slots = (*ROTATED, *OF_ONE_CROP[1:])
    [batch] = split().batches([torch.arange(23)], slots=slots, augmentation=VARIED, epoch=1, seed=2)
    [usual] = split().batches([torch.arange(23)], slots=ROTATED, augmentation=VARIED, epoch=1, seed=2)
    assert torch.equal(batch.images[:, :4], usual.images)
    for turns in (1, 2, 3):
        turned = torch.rot90(usual.images[:, 0], turns, dims=(-2, -1))
        assert torch.equal(batch.images[:, 3 + turns], turned)
        assert not torch.equal(usual.images[:, turns], turned)  # cropped each by itself


def test_views_that_share_a_crop_are_a_family_of_their_own() -> None:
    assert Rotations(4, shared_crop=True).family == "Rotations-of-one-crop"
    assert Rotations(4).family == "Rotations"


def test_two_epochs_in_turn_give_what_each_gives_alone() -> None:
    both = split()
    positions = [torch.arange(23)]

    def pixels(source: ResidentSplit, epoch: int, seed: int = 0) -> torch.Tensor:
        return next(source.batches(positions, augmentation=VARIED, epoch=epoch, seed=seed)).images

    first, second = pixels(both, 0), pixels(both, 1)
    assert not torch.equal(first, second)
    assert torch.equal(pixels(both, 0), first)
    assert torch.equal(pixels(split(), 1), second)
    assert not torch.equal(pixels(both, 0, seed=1), first)


def test_without_augmentation_pixels_are_the_images_and_views_are_still_made() -> None:
    batch = next(split().batches([torch.tensor([4, 2])], slots=ROTATED))
    assert torch.equal(batch.images[:, 0], pictures()[[4, 2]])
    assert torch.equal(batch.images[0, 1], torch.rot90(pictures()[4], 1, (1, 2)))


def test_a_subset_counts_its_own_positions_from_zero() -> None:
    part = split().subset(torch.tensor([9, 3, 20]))
    batch = next(part.batches([torch.tensor([1, 2])]))
    assert torch.equal(batch.images[:, 0], pictures()[[3, 20]])
    assert part.labels.tolist() == [4, 3, 0]
    assert batch.labels.tolist() == [3, 0]
    assert len(part) == 3
    assert torch.equal(part.subset(torch.tensor([2])).images, pictures()[[20]])


def test_about_half_of_the_images_are_mirrored() -> None:
    left_white = torch.zeros(2000, 1, 2, 2, dtype=torch.uint8)
    left_white[..., 0] = 255
    source = ResidentSplit(left_white, torch.zeros(2000, dtype=torch.int64))
    batch = next(source.batches([torch.arange(2000)], augmentation=Augmentation(flip=True)))
    assert 888 < int((batch.images[:, 0, 0, 0, 0] == 0).sum()) < 1112  # five standard deviations


def test_normalised_images_stay_floats_and_their_border_is_zero() -> None:
    ones = torch.ones(6, 3, 8, 8)
    source = ResidentSplit(ones, torch.arange(6))
    batch = next(source.batches([torch.arange(6)], augmentation=Augmentation(crop_padding=8)))
    assert source.normalised
    assert batch.images.dtype == torch.float32
    assert set(batch.images.unique().tolist()) == {0.0, 1.0}


def test_padded_crop_moves_a_single_pixel_where_it_should_go() -> None:
    image = torch.zeros(1, 1, 3, 5, dtype=torch.uint8)
    image[0, 0, 1, 2] = 9
    moved = padded_crop(image, torch.tensor([[0, 3]]), 2)  # border 2: top 0 moves down by 2, left 3 moves left by 1
    assert moved.sum() == 0  # row 1 + 2 lies outside
    moved = padded_crop(image, torch.tensor([[1, 3]]), 2)
    assert moved[0, 0, 2, 1] == 9
    assert moved.sum() == 9


def test_positions_outside_the_split_are_refused() -> None:
    for position in (-1, 23):
        with pytest.raises(IndexError, match=r"positions must be in \[0, 23\)"):
            next(split().batches([torch.tensor([position])]))


@pytest.mark.parametrize("slots", [ROTATED, OF_ONE_CROP])
def test_a_quarter_turn_of_oblong_images_is_refused(slots: tuple[ViewSlot, ...]) -> None:
    source = ResidentSplit(pictures(4, (8, 16)), torch.arange(4))
    with pytest.raises(UsageError, match="need square images"):
        next(source.batches([torch.arange(4)], slots=slots))


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    list(split().batches([torch.arange(23)], slots=ROTATED, augmentation=VARIED))
    assert torch.equal(before, torch.get_rng_state())
