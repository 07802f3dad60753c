"""Streamed images: who decodes, and in which company, never changes a pixel."""

import math
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from compressor.data.load import load_data
from compressor.data.sources.folder import load as load_folder
from compressor.data.stores import ArrayImages
from compressor.data.stream import StreamSplit
from compressor.data.types import PLAIN, Augmentation, ViewSlot
from compressor.distiller import Rotations
from compressor.errors import InputError, TrainingError, UsageError
from compressor.streams import generator

VARIED = Augmentation(flip=True, crop_scale=0.35)
SLOTS = (PLAIN, *(ViewSlot(Rotations(), view) for view in (1, 2, 3)))
COUNT = 12


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    owned = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(COUNT):
            path = folder / split / f"class{number % 2}" / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = owned.integers(20, 50, 2)
            Image.fromarray(owned.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(path)
    return folder


def split(root: Path, workers: int = 0) -> StreamSplit:
    part = load_folder(root).train
    return StreamSplit(part.images, part.labels, size=(16, 16), crop_pct=0.8, workers=workers)


def pixels(
    source: StreamSplit, positions: torch.Tensor, group: int, augmentation: Augmentation | None = VARIED
) -> torch.Tensor:
    groups = list(positions.split(group))
    batches = list(source.batches(groups, slots=SLOTS, augmentation=augmentation, epoch=2, seed=9))
    assert [batch.index.tolist() for batch in batches] == [each.tolist() for each in groups]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), source.labels[positions])
    return torch.cat([batch.images for batch in batches])


def by_pillow(path: Path, position: int, turns: int, epoch: int, seed: int) -> torch.Tensor:
    """Follow the description of a random resized crop with Pillow's own tools."""
    picture = Image.open(path)
    if float(torch.rand(1, generator=generator(seed, "flip", epoch, position))) < 0.5:
        picture = ImageOps.mirror(picture)
    picture = picture.rotate(90 * turns, expand=True)
    key = "crop/plain" if turns == 0 else f"crop/Rotations-{turns}"
    tries = torch.rand((10, 4), generator=generator(seed, key, epoch, position), dtype=torch.float64).tolist()
    for share, shape, down, right in tries:
        area = (0.35 + 0.65 * share) * picture.width * picture.height
        ratio = 0.75 * (16 / 9) ** shape
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if width <= picture.width and height <= picture.height:
            top, left = int(down * (picture.height - height + 1)), int(right * (picture.width - width + 1))
            picture = picture.crop((left, top, left + width, top + height))
            small = picture.resize((16, 16), Image.Resampling.BICUBIC)
            return torch.from_numpy(np.array(small)).permute(2, 0, 1)
    raise AssertionError("no try fits: choose another seed for this test")


def test_training_pixels_equal_pillows(root: Path) -> None:
    source = split(root)
    made = pixels(source, torch.arange(COUNT), 5)
    assert made.dtype == torch.uint8
    images = load_folder(root).train.images
    for position in range(COUNT):
        for turns in range(4):
            wanted = by_pillow(Path(images.name(position)), position, turns, epoch=2, seed=9)
            assert torch.equal(made[position, turns], wanted)


def test_evaluation_pixels_are_a_resize_and_the_centre(root: Path) -> None:
    made = pixels(split(root), torch.arange(COUNT), 5, augmentation=None)
    images = load_folder(root).train.images
    for position in range(COUNT):
        picture = Image.open(images.name(position))
        scale = 20 / min(picture.size)
        width, height = round(picture.width * scale), round(picture.height * scale)
        left, top = (width - 16) // 2, (height - 16) // 2
        small = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + 16, top + 16))
        assert torch.equal(made[position, 0], torch.from_numpy(np.array(small)).permute(2, 0, 1))
        assert torch.equal(made[position, 3], torch.rot90(made[position, 0], 3, (1, 2)))


def test_neither_workers_nor_grouping_change_a_pixel(root: Path) -> None:
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    alone = pixels(split(root), order, COUNT)
    for workers, group in ((0, 1), (1, 5), (2, 3), (2, 12)):
        assert torch.equal(pixels(split(root, workers), order, group), alone)
    assert multiprocessing.active_children() == []


def test_other_slots_do_not_change_a_view(root: Path) -> None:
    whole = pixels(split(root), torch.arange(COUNT), COUNT)
    single = next(split(root).batches([torch.arange(COUNT)], slots=(SLOTS[2],), augmentation=VARIED, epoch=2, seed=9))
    assert torch.equal(single.images[:, 0], whole[:, 2])


def test_views_that_share_a_crop_are_turned_after_it_and_leave_the_others_alone(root: Path) -> None:
    shared = [ViewSlot(Rotations(4, shared_crop=True), view) for view in (1, 2, 3)]
    whole = pixels(split(root), torch.arange(COUNT), COUNT)
    for slots in ((*SLOTS, *shared), (*shared, SLOTS[2])):  # with and without the plain view beside them
        [batch] = split(root).batches([torch.arange(COUNT)], slots=slots, augmentation=VARIED, epoch=2, seed=9)
        for column, slot in enumerate(slots):
            usual = whole[:, SLOTS.index(slot)] if slot in SLOTS else torch.rot90(whole[:, 0], slot.view, dims=(-2, -1))
            assert torch.equal(batch.images[:, column], usual)


@pytest.mark.parametrize(("views", "augmentation"), [(Rotations(4, shared_crop=True), VARIED), (Rotations(4), None)])
def test_a_quarter_turn_of_oblong_pictures_is_refused(
    root: Path, views: Rotations, augmentation: Augmentation | None
) -> None:
    part = load_folder(root).train
    source = StreamSplit(part.images, part.labels, size=(8, 16), workers=2)
    with pytest.raises(UsageError, match="need square images"):
        next(source.batches([torch.arange(4)], slots=(PLAIN, ViewSlot(views, 1)), augmentation=augmentation))


def test_epochs_differ_and_subsets_count_from_zero(root: Path) -> None:
    source = split(root)
    first, second = (
        next(source.batches([torch.arange(4)], augmentation=VARIED, epoch=epoch)).images for epoch in (0, 1)
    )
    assert not torch.equal(first, second)
    part = source.subset(torch.tensor([7, 2]))
    assert part.labels.tolist() == source.labels[[7, 2]].tolist()
    left = next(part.batches([torch.tensor([1])])).images
    assert torch.equal(left, next(source.batches([torch.tensor([2])])).images)
    assert len(part) == 2
    assert not part.normalised


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_vanishes_is_named(root: Path, tmp_path: Path, workers: int) -> None:
    source, victim = copied(root, tmp_path, workers)
    victim.unlink()
    with pytest.raises(InputError, match=r"cannot read .*class0/04\.png \(gone\)") as caught:
        pixels(source, torch.arange(COUNT), 3)
    assert caught.value.code == "data.bad_images"
    assert multiprocessing.active_children() == []


def test_an_image_that_changes_or_is_cut_is_named(root: Path, tmp_path: Path) -> None:
    source, victim = copied(root, tmp_path, 0)
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot read .*04\.png \(truncated\)"):
        pixels(source, torch.arange(COUNT), 3)
    Image.new("RGB", (9, 9)).save(victim)
    with pytest.raises(InputError, match=r"cannot read .*04\.png \(changed since it was scanned\)"):
        pixels(source, torch.arange(COUNT), 3)


def copied(root: Path, target: Path, workers: int) -> tuple[StreamSplit, Path]:
    for path in root.rglob("*.png"):
        copy = target / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    return split(target, workers), target / "train" / "class0" / "04.png"


def test_workers_end_when_the_batches_are_not_read_to_the_end(root: Path) -> None:
    batches = split(root, workers=2).batches([torch.tensor([number]) for number in range(COUNT)])
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert multiprocessing.active_children() == []


def test_a_program_that_fails_amid_the_batches_ends_at_once(root: Path) -> None:
    program = (
        "import sys, torch\n"
        "from compressor.data.load import load_data\n"
        "data = load_data(sys.argv[1], pipeline='stream', image_size=16, val_split=0, workers=2)\n"
        "batches = data.train.batches([torch.tensor([number]) for number in range(12)])\n"
        "next(batches)\n"
        "raise SystemExit(3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(root)], timeout=60, check=False)
    assert ended.returncode == 3


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", TrainingError),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", TrainingError),
        ("Caught RuntimeError in DataLoader worker process 0.", RuntimeError),
    ],
)
def test_a_killed_worker_is_an_error_of_the_training_and_a_bug_stays_a_bug(
    root: Path, monkeypatch: pytest.MonkeyPatch, message: str, error: type[Exception]
) -> None:
    # A real kill raises in a signal handler, at a moment that nobody can choose: so the loader is a made-up one.
    class Dying:
        num_workers = 1

        def __init__(self, *_: object, **__: object) -> None: ...

        def __iter__(self) -> Iterator[torch.Tensor]:
            raise RuntimeError(message)
            yield torch.zeros(1)

    monkeypatch.setattr("compressor.data.stream.DataLoader", Dying)
    with pytest.raises(error) as caught:
        next(split(root, workers=1).batches([torch.tensor([0])]))
    assert message in str(caught.value)
    assert type(caught.value) is error


def test_workers_ignore_the_signals_that_stop_the_main_process(root: Path) -> None:
    # Ignored signals are set in a mask of the process: bit number - 1, as the kernel shows it.
    batches = split(root, workers=1).batches([torch.tensor([number]) for number in range(COUNT)])
    next(batches)
    status = Path(f"/proc/{multiprocessing.active_children()[0].pid}/status").read_text(encoding="utf-8")
    ignored = int(next(line for line in status.splitlines() if line.startswith("SigIgn")).split()[1], 16)
    assert ignored & (1 << (2 - 1))  # SIGINT
    assert ignored & (1 << (15 - 1))  # SIGTERM


def test_positions_outside_the_split_are_refused(root: Path) -> None:
    with pytest.raises(IndexError, match=r"positions must be in \[0, 12\)"):
        next(split(root).batches([torch.tensor([12])]))


def test_no_batches_are_no_trouble(root: Path) -> None:
    assert list(split(root, workers=2).batches([])) == []


def test_normalised_images_are_cropped_as_floats() -> None:
    images = ArrayImages(torch.randn(4, 3, 20, 20, generator=torch.Generator().manual_seed(0)), "x")
    source = StreamSplit(images, torch.arange(4), size=(16, 16))
    batch = next(source.batches([torch.arange(4)], augmentation=VARIED))
    assert source.normalised
    assert batch.images.dtype == torch.float32
    assert float(batch.images.min()) < -1


def test_the_global_generator_is_left_alone(root: Path) -> None:
    before = torch.get_rng_state()
    pixels(split(root, workers=1), torch.arange(COUNT), 4)
    assert torch.equal(before, torch.get_rng_state())


def test_a_streamed_folder_is_told_by_names_and_sizes_of_its_files(root: Path, tmp_path: Path) -> None:
    copied(root, tmp_path, 0)

    def loaded() -> tuple[str, str]:
        data = load_data(str(tmp_path), image_size=16, pipeline="stream", val_split=0.25)
        return data.sha256, data.teacher_sha256

    first = loaded()
    assert loaded() == first
    (tmp_path / "test" / "class0" / "04.png").rename(tmp_path / "test" / "class0" / "05.png")
    assert loaded()[0] != first[0]


def test_a_truncated_image_at_the_start_of_a_stream_is_named(root: Path, tmp_path: Path) -> None:
    _, victim = copied(root, tmp_path, 0)
    victim.write_bytes(victim.read_bytes()[:300])
    with pytest.raises(InputError, match=r"cannot read .*04\.png \(truncated\)"):
        load_data(str(tmp_path), image_size=16, pipeline="stream", val_split=0)
