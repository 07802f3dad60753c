"""Tests of the tests: plants faults one by one in a copy of the project, and shows that a row turns red for each.

``python tests/faults/planted.py`` takes some minutes and prints a table; it fails when a fault goes unnoticed, or when
the code it would change is no longer there.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).absolute().parents[2]
COPIED = ("compressor", "plugins", "zoo", "tests", "pyproject.toml")


@dataclass(frozen=True)
class Planted:
    """A fault: in which file what becomes what, and the tests (with an expression for ``-k``) that must notice."""

    name: str
    row: str
    file: str
    old: str
    new: str
    tests: str
    chosen: str = ""


FAULTS = (
    Planted(
        "a file takes its name without being synced",
        "K3",
        "storage/files.py",
        "                disk.sync(descriptor)\n            finally:\n                disk.close(descriptor)\n",
        "                pass\n            finally:\n                disk.close(descriptor)\n",
        "test_power_loss.py",
        "distill",
    ),
    Planted(
        "a new folder's name is not synced",
        "K3",
        "storage/folders.py",
        "            operations().sync_folder(place.parent)  # or",
        "            pass  # or",
        "test_power_loss.py",
        "distill",
    ),
    Planted(
        "a manifest is believed unread",
        "D1",
        "storage/manifests.py",
        "    for name, entry in manifest.files.items():\n        file = join_inside(path, name)\n",
        "    for name, entry in ():\n        file = join_inside(path, name)\n",
        "test_damaged_checkpoints.py",
    ),
    Planted(
        "permission denied is swallowed",
        "S2",
        "storage/files.py",
        "    except OSError as cause:\n        raise storage_error(cause, doing",
        "    except OSError as cause:\n        if cause.errno == 13:\n            return\n"
        "        raise storage_error(cause, doing",
        "test_refusing_disks.py",
        "publish",
    ),
    Planted(
        "the order of an epoch comes from the global generator",
        "K5",
        "engine/batching.py",
        "torch.randperm(self.count, generator=generator(self.seed, self.purpose, number))",
        "torch.randperm(self.count)",
        "test_kills.py",
        "again_and_again",
    ),
    Planted(
        "the old checkpoints go before the new one is there",
        "K1",
        "engine/checkpoint.py",
        "        extra = {",
        "        for before in self._places():\n            remove_tree(self._folder / before.folder_name)\n"
        "        extra = {",
        "test_dying_disks.py",
        "distill-0",
    ),
    Planted(
        "the newest checkpoint is that of the latest date",
        "G3",
        "engine/checkpoint.py",
        "        return sorted(found)",
        "        return sorted(found, key=lambda place: (self._folder / place.folder_name).stat().st_mtime)",
        "test_clocks.py",
        "highest_step",
    ),
    Planted(
        "pickles are loaded whole",
        "D3",
        "weights.py",
        'torch.load(path, map_location="cpu", weights_only=True)',
        'torch.load(path, map_location="cpu", weights_only=False)',
        "test_malicious_pickles.py",
    ),
    Planted(
        "the lock is not taken",
        "S4",
        "storage/guards.py",
        "            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)\n        except BlockingIOError as cause:",
        "            pass\n        except BlockingIOError as cause:",
        "test_storage_places.py",
        "in_use",
    ),
    Planted(
        "answers that are not finite may be the best",
        "N1",
        "engine/epochs.py",
        '    lane.check_finite({"held-out loss": seen.loss})',
        "    pass",
        "test_numbers_under_faults.py",
        "rate_that_is_too_high",
    ),
    Planted(
        "a full disk is called done",
        "S1",
        "errors.py",
        "    exit_code = 4\n",
        "    exit_code = 0\n",
        "test_small_disks.py",
        "at_any_moment",
    ),
    Planted(
        "files are for their owner alone",
        "S5",
        "storage/operations.py",
        "os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)",
        "os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)",
        "test_storage_places.py",
        "umask",
    ),
    Planted(
        "the moments of the optimiser are forgotten",
        "K4",
        "engine/snapshots.py",
        '    lane.optimizer.load_state_dict({"state": state, ',
        '    lane.optimizer.load_state_dict({"state": {}, ',
        "test_kills.py",
        "nothing",
    ),
    Planted(
        "a terminal that has closed ends the run",
        "G2",
        "cli/live.py",
        "Patient(output.stderr)",
        "output.stderr",
        "test_signals.py",
        "terminal",
    ),
)


def copy_project(target: Path) -> None:
    """Copy what the tests need; the records of the authors' code are not among it."""
    unwanted = shutil.ignore_patterns("__pycache__", "oracles")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=unwanted)
        else:
            shutil.copy(source, target / name)


def plant(fault: Planted, project: Path) -> None:
    """Change the copy; the code that is changed must be there exactly once."""
    file = project / "compressor" / fault.file
    text = file.read_text()
    if text.count(fault.old) != 1:
        sys.exit(f"{fault.name}: {fault.file} no longer holds what would be changed, or holds it more than once")
    file.write_text(text.replace(fault.old, fault.new))


def red(fault: Planted, project: Path) -> tuple[bool, str]:
    """Run the fault's tests in the copy; tells whether one failed, and which was the first."""
    paths = os.pathsep.join(str(project / name) for name in (".", "plugins", "zoo"))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-m",
        "not nightly",
        str(project / "tests" / "faults" / fault.tests),
    ]
    done = subprocess.run(
        [*command, *(["-k", fault.chosen] if fault.chosen else [])],
        cwd=project,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = re.search(r"^(?:FAILED|ERROR) \S+::(\S+)", done.stdout, re.MULTILINE)
    if failed is None or done.returncode != 1:
        return False, (done.stdout.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    return True, failed[1]


def main(wanted: list[str]) -> int:
    """Plant every fault whose name holds one of the words; all without words."""
    unnoticed = 0
    for number, fault in enumerate(FAULTS, 1):
        if wanted and not any(word in fault.name for word in wanted):
            continue
        began = time.monotonic()
        with TemporaryDirectory() as place:
            project = Path(place)
            copy_project(project)
            plant(fault, project)
            noticed, by = red(fault, project)
        unnoticed += not noticed
        colour = "red" if noticed else "GREEN"
        print(
            f"{number:2}  {colour:5}  {fault.row:3} {time.monotonic() - began:4.0f} s  {fault.name}  [{by}]", flush=True
        )
    print(f"{unnoticed} went unnoticed")
    return min(unnoticed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
