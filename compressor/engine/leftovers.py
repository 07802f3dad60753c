"""What killed processes leave beside a folder of the cache: half-written neighbours, and work no more needed."""

from contextlib import suppress
from pathlib import Path

from compressor.errors import StorageError
from compressor.storage import RunLock, remove_stale, remove_tree


def work_folder(folder: Path) -> Path:
    """Return where the training behind a folder of the cache keeps its checkpoints."""
    return folder.with_name(f"{folder.name}.work")


def clear_leftovers(folder: Path) -> None:
    """Clear up around a complete folder of the cache; what living processes write stays.

    Raises:
        StorageError: the system refuses.
    """
    remove_stale(folder.parent)
    work = work_folder(folder)
    if work.is_dir():
        lock = RunLock(work)
        with suppress(StorageError):  # somebody is just finishing there, and clears up himself
            lock.acquire()
            remove_tree(work)
        lock.release()
