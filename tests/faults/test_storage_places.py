"""S3, S4, S5: odd places for a run's folder, a folder in use, and the modes of files."""

import os
import re
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_mounts import CANNOT
from fault_runs import DATA, Stage, distill, environ, publish, student
from figures import note


def a_file(place: Path) -> None:
    (place / "run").write_text("mine")


def a_file_above(place: Path) -> None:
    (place / "run").write_text("mine")


def dangling(place: Path) -> None:
    (place / "run").symlink_to("nowhere")


def loop(place: Path) -> None:
    (place / "run").symlink_to("run")


def a_pipe(place: Path) -> None:
    os.mkfifo(place / "run")


REFUSED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "file": (a_file, "run", "is a file; a folder is needed"),
    "file-above": (a_file_above, "run/below", "is a file; a folder is needed"),
    "dangling": (dangling, "run", "is a link to nowhere"),
    "dangling-above": (dangling, "run/below", "is a link to nowhere"),
    "loop": (loop, "run", "leads back to itself"),
    "pipe": (a_pipe, "run", "is a file; a folder is needed"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_place_that_cannot_be_is_refused_before_any_training(kind: str, stage: Stage) -> None:
    make, out, words = REFUSED[kind]
    place = stage.place()
    make(place)
    began = time.monotonic()
    child = stage.run(distill(out=out), place)
    assert child.status == 4, child.output
    assert words in child.output
    assert time.monotonic() - began < 5
    assert child.said == []
    note("S3", tried=1, exits=[4])


def test_read_only_disk_is_refused_before_any_training(stage: Stage) -> None:
    place = stage.place()
    given = {"args": distill(out="small/run")}
    child = stage.server.run("fault_mounts:read_only_disk", place, environ(place), **given)
    if child.status == CANNOT:
        pytest.skip("this user may not mount a disk in memory")
    assert child.status == 4, child.output
    assert "read-only file system" in child.output
    assert "hint:  choose another place with --out" in child.output
    assert child.said == []
    note("S3", tried=1, exits=[4])


@pytest.mark.skipif(os.geteuid() == 0, reason="for root modes are no obstacle; the read-only disk stands for it")
def test_folder_without_permission_is_refused_before_any_training(stage: Stage) -> None:
    place = stage.place()
    (place / "closed").mkdir(mode=0o555)
    child = stage.run(distill(out="closed/run"), place)
    assert child.status == 4, child.output
    assert "permission denied" in child.output
    assert child.said == []
    note("S3", tried=1, exits=[4])


def test_missing_parents_are_made_and_another_disk_gives_the_same_bits(stage: Stage) -> None:
    place = stage.place()
    assert stage.run(distill(out="a/b/run"), place).status == 0
    other = stage.place()
    given = {"args": distill(out="small/run"), "run": "run"}
    child = stage.server.run("fault_mounts:other_disk", other, environ(other), **given)
    if child.status == CANNOT:
        pytest.skip("this user may not mount a disk in memory")
    assert child.status == 0, child.output
    assert child.said[-1] == f"sha {student(place, 'a/b/run')}"
    note("S3", tried=2, exits=[0, 0])


def test_link_as_the_runs_folder_is_followed_once_and_links_inside_it_never(stage: Stage) -> None:
    place = stage.place()
    (place / "real").mkdir()
    (place / "outside").mkdir()
    (place / "run").symlink_to("real")
    assert stage.run(distill(), place, die_at="run saved 4").status == -9
    (place / "real" / "checkpoints").rename(place / "checkpoints before")
    (place / "real" / "checkpoints").symlink_to(place / "outside")
    refused = stage.run(distill(), place)
    assert refused.status in (3, 4), refused.output
    assert "is a link" in refused.output
    assert list((place / "outside").iterdir()) == []
    (place / "real" / "checkpoints").unlink()
    (place / "checkpoints before").rename(place / "real" / "checkpoints")
    assert stage.run(distill(), place).status == 0
    assert (place / "run").is_symlink()
    assert (place / "real" / "result.json").is_file()
    note("S3", tried=1, exits=[refused.status])


def test_folder_in_use_is_refused_naming_process_and_host_and_the_owner_is_unharmed(stage: Stage) -> None:
    place, undisturbed = stage.place(), stage.place()
    assert stage.run(distill(), undisturbed).status == 0
    first = stage.start(distill(), place, hold_at="run saved 4")
    assert first.hear("run saved 4")
    second = stage.run(distill(), place)
    assert second.status == 4, second.output
    named = re.search(r"is in use by process (\d+) on (\S+) since", second.output)
    assert named is not None, second.output
    assert named.groups() == (str(first.pid), os.uname().nodename)
    fresh = stage.run([*distill(), "--fresh"], place)
    assert fresh.status == 4, fresh.output
    first.release()
    assert first.wait() == 0, first.output
    assert student(place) == student(undisturbed)
    note("S4", tried=2, exits=[4, 4])


def test_folder_is_free_after_kill_9_of_its_owner(stage: Stage) -> None:
    place = stage.place()
    first = stage.start(distill(), place, hold_at="run saved 4")
    assert first.hear("run saved 4")
    assert stage.run(distill(), place).status == 4
    first.signal(signal.SIGKILL)
    first.wait()
    assert stage.run(distill(), place).status == 0
    note("S4", tried=1, exits=[0])


@pytest.mark.parametrize("mask", [0o077, 0o022, 0o000], ids=["077", "022", "000"])
def test_all_that_a_run_writes_has_the_mode_of_the_umask(mask: int, stage: Stage) -> None:
    place = stage.place(bank=False)
    own = {place / DATA, place / "output.txt"}
    for args in (distill("sskd", training__epochs=1), publish()):
        child = stage.server.run("fault_mounts:masked", place, environ(place), args=args, mask=mask)
        assert child.status == 0, child.output
    seen = [path for path in place.rglob("*") if path not in own]
    assert {path.name for path in seen} >= {
        "lane.safetensors",
        "result.json",
        "teacher.json",
        "events.jsonl",
        "run.lock",
    }
    for path in seen:
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    note("S5", tried=len(seen))
