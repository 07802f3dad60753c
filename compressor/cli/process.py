"""What is set for the whole process before anything computes: the one place for it."""

import os

from compressor.memory import keep_freed_memory


def prepare_process(threads: int, *, plain: bool = False) -> None:
    """Set the number of CPU threads, and keep freed memory unless ``plain``; imports torch.

    Args:
        threads: 0 takes the physical cores that this process may run on.
    """
    import torch

    if not plain:
        keep_freed_memory()
    torch.set_num_threads(threads or physical_cores())


def physical_cores() -> int:
    """Count the physical cores that this process may use; logical ones where the system does not tell."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(number) for number in allowed}
    return max(1, len(cores))


def _siblings(number: int) -> str:
    """Name a core by the hardware threads on it."""
    try:
        with open(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list", encoding="ascii") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return str(number)
