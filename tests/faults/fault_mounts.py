"""Children with disks of their own: small ones, read-only ones, and a limit on the size of a file.

Mounts are made in a mount namespace of the child, so that nobody else sees them and nothing is left of them.
"""

import ctypes
import os
import resource
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import fault_server
from fault_children import compress
from fault_server import say

from compressor.engine.checkpoint import Checkpoints
from compressor.storage import read_json, sha256_file

CANNOT = 77
_NEW_MOUNTS, _NEW_USERS = 0x00020000, 0x10000000
_PUBLISHED = "student/model.safetensors"


def small_disk(args: Sequence[str], run: str, kilobytes: int, full_at: str | None) -> int:
    """Run a command in a folder on a disk of its own; fill it at some words; free it and run the command again.

    Says ``first CODE``, ``saved STEP`` (of the newest whole checkpoint between the two), ``second CODE``, ``sha HEX``.

    Args:
        run: folder of the run below the disk, which is mounted at ``small``.
        full_at: when nothing more fits; ``start`` is before the command, None is never.
    """
    if not mounted(f"size={kilobytes}k"):
        return CANNOT
    ballast = Path("small/ballast")
    if full_at == "start":
        fill(ballast)
    code = apart(lambda: _filling(args, ballast, full_at))
    say(f"first {code}")
    say(f"saved {_newest(Path('small') / run)}")
    ballast.unlink(missing_ok=True)
    if code == 0:
        return 0
    again = apart(lambda: compress(args), ["mount", "-o", "remount,size=64m", "small"])
    say(f"second {again}")
    published = Path("small") / run / _PUBLISHED
    say(f"sha {sha256_file(published) if published.is_file() else 'none'}")
    return 0


def read_only_disk(args: Sequence[str]) -> int:
    """Run a command whose folder is on a disk that nobody may write to, mounted at ``small``."""
    if not mounted("size=1m") or subprocess.run(["mount", "-o", "remount,ro", "small"], check=False).returncode:
        return CANNOT
    return compress(args)


def other_disk(args: Sequence[str], run: str) -> int:
    """Run a command whose folder is on another disk than the rest, mounted at ``small``, and say the ``sha``."""
    if not mounted("size=64m"):
        return CANNOT
    code = apart(lambda: compress(args))
    say(f"sha {sha256_file(Path('small') / run / _PUBLISHED)}")
    return code


def limited_files(args: Sequence[str], limit: int) -> int:
    """Run a command that may write no file of more than so many bytes, as ``ulimit -f`` makes it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return compress(args)


def masked(args: Sequence[str], mask: int) -> int:
    """Run a command under a umask."""
    os.umask(mask)
    return compress(args)


def mounted(options: str) -> bool:
    """Mount a disk in memory at ``small``; false where this is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    me, group = os.getuid(), os.getgid()
    if libc.unshare(_NEW_MOUNTS if me == 0 else _NEW_MOUNTS | _NEW_USERS):
        return False
    if me:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {me} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    Path("small").mkdir()
    private = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "faults", "small"], capture_output=True, check=False)
    return private.returncode == made.returncode == 0


def fill(ballast: Path) -> None:
    """Write until nothing more fits."""
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 16, 1 << 12, 1):
        try:
            while True:
                os.write(descriptor, bytes(size))
        except OSError:
            continue
    os.close(descriptor)


def apart(action: Callable[[], int], before: Sequence[str] = ()) -> int:
    """Do something in a process of its own, and return its exit code."""
    if before:
        subprocess.run(before, check=True)
    number = os.fork()
    if number == 0:
        code = 98
        try:
            code = action()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def _filling(args: Sequence[str], ballast: Path, full_at: str | None) -> int:
    fault_server.listeners.append(lambda words: fill(ballast) if words == full_at else None)
    return compress(args)


def _newest(folder: Path) -> int:
    described = folder / "run.json"
    if not described.is_file():
        return 0
    places, faults = Checkpoints(folder, read_json(described)["config_sha256"]).whole()
    assert not faults
    return places[-1].step if places else 0
