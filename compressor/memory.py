"""Memory that the process frees is kept for the next step instead of being given back to the kernel."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1  # numbers of glibc's malloc.h
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1

_kept = False  # a fact about the process, which nobody can take back


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep large blocks; whether it listens.

    By default each activation of a few megabytes is mapped afresh, zeroed by the kernel page by page, and unmapped,
    in every step. This is a decision for a whole process, so a program may take it and a library may not. It changes
    no result.
    """
    global _kept
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    _kept = bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
    return _kept


def give_back_freed_memory() -> None:
    """Give the kernel what this process keeps and nothing lies in; for moments after which other sizes are needed."""
    if _kept:
        ctypes.CDLL(None).malloc_trim(0)


def keeps_freed_memory() -> bool:
    """Say whether `keep_freed_memory` was called in this process, and heard."""
    return _kept
