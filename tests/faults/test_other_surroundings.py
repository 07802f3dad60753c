"""K6, K7, K10: what surrounds a run (workers, folder, HOME, locale, time zone, hash seed) changes none of its bits."""

import locale
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_client import ROOT
from fault_runs import Stage, distill, environ, facts, memory_folder, sha256, student, write_data
from figures import note
from PIL import Image

PHOTOS = {
    "data.source": "photos",
    "data.pipeline": "stream",
    "data.image_size": 16,
    "data.crop_padding": 0,
    "data.flip": True,
    "training.batch_size": 8,
    "training.epochs": 2,
    "student.name": "resnet8",
    "method.name": "scratch",
    "runtime.threads": 1,
    "runtime.device": "cpu",
}


def write_photos(folder: Path) -> None:
    """Write 48 training and 12 test photos of 3 kinds, 20 x 24 pixels."""
    owned = np.random.default_rng(0)
    for split, each in (("train", 16), ("test", 4)):
        for kind in range(3):
            place = folder / "photos" / split / f"kind{kind}"
            place.mkdir(parents=True)
            for number in range(each):
                pixels = owned.integers(0, 128, (20, 24, 3)) + 60 * (np.arange(3) == kind)
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")


def photo_run(workers: int) -> list[str]:
    values = {**PHOTOS, "runtime.workers": workers}
    return ["distill", "--out", "run", *(word for key, value in values.items() for word in ("--set", f"{key}={value}"))]


@pytest.mark.parametrize("halves", [(0, 1), (1, 2), (2, 0)], ids=lambda halves: "-".join(map(str, halves)))
def test_workers_changed_between_the_halves_change_nothing(halves: tuple[int, int], stage: Stage) -> None:
    place = stage.place(bank=False)
    write_photos(place)
    undisturbed = stage.copy(place)
    assert stage.run(photo_run(0), undisturbed).status == 0
    killed = stage.run(photo_run(halves[0]), place, die_at="run saved 8")
    assert killed.status == -9, killed.output
    done = stage.run(photo_run(halves[1]), place)
    assert done.status == 0, done.output
    assert done.last("run student from") == 8
    assert student(place) == student(undisturbed)
    note("K6", tried=1)


def test_finished_run_asked_for_again_says_so_and_no_file_changes(stage: Stage) -> None:
    place = stage.place()
    assert stage.run(distill(), place).status == 0
    (place / "output.txt").unlink()
    before = {path: (path.stat().st_mtime_ns, sha256(path)) for path in place.rglob("*") if path.is_file()}
    again = stage.run(distill(), place)
    assert again.status == 0
    assert "already complete" in again.output
    assert {path: (path.stat().st_mtime_ns, sha256(path)) for path in before} == before
    assert {path for path in place.rglob("*") if path.is_file()} - before.keys() == {place / "output.txt"}
    note("K7", tried=1)


def test_same_run_twice_in_other_folders_homes_and_time_zones_has_the_same_bits(stage: Stage) -> None:
    wanted: Any = None
    for zone, home in (("UTC", "home"), ("Asia/Kathmandu", "größe 学"), ("America/St_Johns", "home")):
        place = stage.place()
        (place / home).mkdir()
        surroundings = {**environ(place), "TZ": zone, "HOME": str(place / home)}
        done = stage.server.run("compress_in_zone", place, surroundings, args=distill())
        assert done.status == 0, done.output
        wanted = wanted or facts(place)
        assert facts(place) == wanted
    note("K10", tried=3)


def test_new_process_with_another_locale_and_hash_seed_has_the_same_bits(stage: Stage) -> None:
    place = stage.place()
    assert stage.run(distill(), place).status == 0
    with memory_folder() as elsewhere:
        other = elsewhere / "Ein anderer Ort, 学 #1"
        other.mkdir()
        write_data(other)
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "plugins", ROOT / "zoo")))
        surroundings = {"PYTHONHASHSEED": "4711", "LC_ALL": some_locale(), "TZ": "Asia/Kathmandu", "PYTHONPATH": paths}
        # The teacher of the bank is trained here too, so that its bits are compared as well.
        done = subprocess.run(
            [sys.executable, "-m", "compressor", *distill()],
            cwd=other,
            env={**os.environ, **{key: value for key, value in environ(other).items() if value}, **surroundings},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert student(other) == student(place)
    note("K10", tried=1)


def some_locale() -> str:
    """Return a locale of another language where the machine has one."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        for name in ("tr_TR.UTF-8", "de_DE.UTF-8", "fr_FR.UTF-8", "ja_JP.UTF-8"):
            try:
                return locale.setlocale(locale.LC_ALL, name)
            except locale.Error:
                continue
    finally:
        locale.setlocale(locale.LC_ALL, before)
    return "C"
