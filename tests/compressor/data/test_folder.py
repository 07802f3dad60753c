"""Folders of images: everything that is wrong is said before anything is trained."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compressor.data.load import load_data
from compressor.errors import InputError, UsageError


def picture(path: Path, value: int, size: tuple[int, int] = (10, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, dtype=np.uint8)).save(path)


def make(root: Path, splits: tuple[str, ...] = ("train", "val"), each: int = 4) -> Path:
    for split in splits:
        for label, name in enumerate(("iris", "aster", "rose")):
            for number in range(each):
                picture(root / split / name / f"{number}.png", 40 * label + number)
    return root


def test_classes_are_sorted_and_one_evaluation_folder_is_the_test_set(tmp_path: Path) -> None:
    data = load_data(str(make(tmp_path)), val_split=0.25)
    assert data.class_names == ("aster", "iris", "rose")
    assert (len(data.train), len(data.test)) == (9, 12)
    assert data.val is not None
    assert torch.bincount(data.val.labels).tolist() == [1, 1, 1]
    assert data.image_size == (3, 10, 8)
    assert data.pipeline == "resident"
    batch = next(data.test.batches([torch.arange(12)]))
    assert batch.images[:, 0, 0, 0, 0].tolist() == [40, 41, 42, 43, 0, 1, 2, 3, 80, 81, 82, 83]
    assert batch.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_own_validation_and_test_folders_are_both_used(tmp_path: Path) -> None:
    root = make(tmp_path, ("train", "validation", "test"))
    picture(root / "test" / "iris" / "more.png", 9)
    data = load_data(str(root), val_split=0.5)
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (12, 12, 13)


def test_suffixes_in_capitals_and_nested_folders_count_and_hidden_and_other_files_do_not(tmp_path: Path) -> None:
    root = make(tmp_path)
    picture(root / "train" / "iris" / "deep" / "er" / "a.PNG", 1)
    (root / "train" / "iris" / "deep" / "up").symlink_to(root / "train" / "iris")  # leads back up
    (root / "train" / "iris" / ".DS_Store").write_bytes(b"x")
    (root / "train" / "iris" / ".hidden.png").write_bytes(b"x")
    (root / "train" / "iris" / "notes.txt").write_text("x", encoding="utf-8")
    (root / "train" / ".cache").mkdir()
    (root / "train" / "readme.md").write_text("x", encoding="utf-8")
    assert len(load_data(str(root), val_split=0).train) == 13


def damage(root: Path) -> set[str]:
    folder = root / "train" / "rose"
    Image.effect_noise((64, 64), 50).convert("RGB").save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:900])
    (folder / "zero.jpg").touch()
    (folder / "page.jpg").write_text("<html>", encoding="utf-8")
    (folder / "link.jpg").symlink_to("nowhere")
    (folder / "sub.jpg").mkdir()
    os.mkfifo(folder / "pipe.jpg")
    return {"cut.jpg", "zero.jpg", "page.jpg", "link.jpg", "sub.jpg", "pipe.jpg"}


def test_unreadable_images_stop_the_run_and_are_counted(tmp_path: Path) -> None:
    damage(make(tmp_path))
    with pytest.raises(
        InputError, match=r"^6 unreadable images, first: .*train/rose/link\.jpg \(broken link\)"
    ) as caught:
        load_data(str(tmp_path), image_size=8)
    assert caught.value.hint == "--skip-bad-images"
    assert caught.value.code == "data.bad_images"
    assert caught.value.exit_code == 3


def test_one_truncated_image_is_found_when_data_are_kept_in_memory(tmp_path: Path) -> None:
    root = make(tmp_path)
    noise = root / "val" / "iris" / "0412.jpg"
    Image.effect_noise((64, 64), 50).convert("RGB").save(noise)
    noise.write_bytes(noise.read_bytes()[:900])
    with pytest.raises(InputError, match=r"^1 unreadable image, first: .*val/iris/0412\.jpg \(truncated\)$"):
        load_data(str(root), image_size=8)


@pytest.mark.parametrize("workers", [0, 3])
def test_left_out_images_are_listed_and_gone_before_the_split(tmp_path: Path, workers: int) -> None:
    clean = load_data(str(make(tmp_path)), image_size=8, val_split=0.25)
    names = damage(tmp_path)
    data = load_data(str(tmp_path), image_size=8, val_split=0.25, skip_bad_images=True, workers=workers)
    assert {Path(line.rpartition(" (")[0]).name for line in data.unreadable} == names
    assert (data.sha256, data.mean) == (clean.sha256, clean.mean)
    assert clean.unreadable == ()


def test_a_class_whose_images_are_all_unreadable_is_named(tmp_path: Path) -> None:
    root = make(tmp_path)
    for path in (root / "train" / "rose").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match="no training image of 'rose'"):
        load_data(str(root), skip_bad_images=True)


def test_classes_of_one_side_only_are_named(tmp_path: Path) -> None:
    root = make(tmp_path)
    picture(root / "train" / "daisy" / "a.png", 1)
    with pytest.raises(InputError, match=r"1 class in train/ and not in val/: 'daisy'"):
        load_data(str(root))
    picture(root / "val" / "tulip" / "a.png", 1)
    picture(root / "val" / "daisy" / "a.png", 1)
    with pytest.raises(InputError, match=r"1 class in val/ and not in train/: 'tulip'"):
        load_data(str(root))


def test_empty_folders_single_classes_and_missing_parts_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    with pytest.raises(InputError, match=r"no folder .*train"):
        load_data(str(root))
    (root / "train").mkdir()
    with pytest.raises(InputError, match="no val/, validation/ or test/"):
        load_data(str(root))
    (root / "val").mkdir()
    with pytest.raises(InputError, match=r"no class folders in .*train"):
        load_data(str(root))
    picture(root / "train" / "iris" / "a.png", 1)
    with pytest.raises(InputError, match="has one class, 'iris'"):
        load_data(str(root))
    (root / "train" / "rose").mkdir()
    picture(root / "val" / "iris" / "a.png", 1)
    picture(root / "val" / "rose" / "a.png", 1)
    with pytest.raises(InputError, match=r"no images in .*train/rose"):
        load_data(str(root))
    (root / "validation").mkdir()
    with pytest.raises(InputError, match="both val/ and validation/"):
        load_data(str(root))


def test_images_that_differ_in_size_need_a_size(tmp_path: Path) -> None:
    root = make(tmp_path)
    picture(root / "train" / "iris" / "other.png", 5, (20, 20))
    with pytest.raises(UsageError, match="differ in size"):
        load_data(str(root))
    assert load_data(str(root), default_size=6).image_size == (3, 6, 6)
    assert load_data(str(root), default_size=6, image_size=(4, 5)).image_size == (3, 4, 5)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    root = make(tmp_path)
    monkeypatch.setattr("compressor.data.scan.os.scandir", refuse)
    with pytest.raises(InputError, match=r"cannot list .*train: Permission denied"):
        load_data(str(root))


def test_two_thousand_classes_are_no_trouble(tmp_path: Path) -> None:
    picture(tmp_path / "one.png", 3, (2, 2))
    for split in ("train", "test"):
        for label in range(2000):
            folder = tmp_path / split / f"c{label:04d}"
            folder.mkdir(parents=True)
            os.link(tmp_path / "one.png", folder / "a.png")
    data = load_data(str(tmp_path), val_split=0)
    assert data.num_classes == 2000
    assert data.train.labels.tolist() == list(range(2000))


def test_the_folder_s_hash_follows_pixels_and_names_of_classes(tmp_path: Path) -> None:
    first = load_data(str(make(tmp_path / "a")), val_split=0)
    assert load_data(str(make(tmp_path / "b")), val_split=0).sha256 == first.sha256
    picture(tmp_path / "b" / "val" / "iris" / "0.png", 200)
    assert load_data(str(tmp_path / "b"), val_split=0).sha256 != first.sha256
    for split in ("train", "val"):
        (tmp_path / "a" / split / "iris").rename(tmp_path / "a" / split / "iriss")
    assert load_data(str(tmp_path / "a"), val_split=0).sha256 != first.sha256
