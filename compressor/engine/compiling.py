"""Functions of tensors compiled for one shape and this machine, by torch's own compiler, and kept as programs."""

import hashlib
import inspect
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressor.cache import cache_folder
from compressor.errors import InputError
from compressor.storage import copy_file, ensure_folder, verify_folder, write_folder

Kernel = Callable[..., Tensor]

_FILE = "kernel.pt2"
_OPTIONS = {  # all of a function is one loop, however often a number is read
    "realize_reads_threshold": 10_000,
    "realize_acc_reads_threshold": 10_000,
    "realize_opcount_threshold": 10_000,
    "compile_threads": 1,  # no worker processes that would outlive a signal
}
_SCRATCH = "TORCHINDUCTOR_CACHE_DIR"
_REFUSALS = (AssertionError, AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)


UNTRIED = "not tried on this machine yet: a run tries it first, and may then be faster than is told here"


class CannotCompile(Exception):
    """Why a function cannot be compiled here, in a line."""


class Compiler:
    """Compiles functions for the CPU, once for a machine; what was compiled lies in the user's cache folder.

    A program there whose bytes are not those that were written is not run, but compiled anew.

    Args:
        machine: all that a program hangs on beside function and shapes, as plain JSON values.
        looking: take what is kept, and compile nothing.
    """

    def __init__(self, machine: Mapping[str, Any], *, looking: bool = False) -> None:
        self.looking = looking
        self._machine = machine
        self._loaded: dict[str, Kernel] = {}

    def __call__(self, kernel: Kernel, examples: Sequence[Tensor]) -> Kernel:
        """Return the function, compiled for tensors like ``examples``; what it changes in them it may change now.

        Raises:
            CannotCompile: there is no C++ compiler, or it or torch refuses, or it would only be looked.
            StorageError: what was compiled could not be kept.
        """
        key = self._key(kernel, examples)
        if key not in self._loaded:
            folder = cache_folder() / "programs" / f"{kernel.__name__.replace('_', '-')}-{key[:16]}"
            if not _is_whole(folder):
                if self.looking:
                    raise CannotCompile(UNTRIED)
                _compile(folder, kernel, examples, key)
            self._loaded[key] = _loaded(folder)
        return self._loaded[key]

    def _key(self, kernel: Kernel, examples: Sequence[Tensor]) -> str:
        """Hash what decides the program: the text of the function's file, the tensors, the machine."""
        described = {
            "source": inspect.getsource(inspect.getmodule(kernel) or kernel),
            "kernel": kernel.__name__,
            "tensors": [[list(one.shape), list(one.stride()), str(one.dtype)] for one in examples],
            "machine": dict(self._machine),
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


class _Step(nn.Module):
    """A function that changes its arguments, as a module: what torch exports."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._kernel = kernel

    def forward(self, *tensors: Tensor) -> None:
        self._kernel(*tensors)


def _loaded(folder: Path) -> Kernel:
    try:
        with _quietly():
            program: Kernel = torch._inductor.aoti_load_package(str(folder / _FILE))
    except _REFUSALS as cause:
        raise _refused(cause) from cause
    return program


def _compile(folder: Path, kernel: Kernel, examples: Sequence[Tensor], key: str) -> None:
    with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
        made = Path(scratch) / _FILE
        try:
            with _quietly(), _working_in(scratch), torch.no_grad():
                exported = torch.export.export(_Step(kernel), tuple(examples))
                torch._inductor.aoti_compile_and_package(
                    exported, package_path=str(made), inductor_configs=dict(_OPTIONS)
                )
        except _REFUSALS as cause:
            raise _refused(cause) from cause
        ensure_folder(folder.parent)
        if _is_whole(folder):  # another run was first
            return
        write_folder(
            folder, lambda target: copy_file(made, target / _FILE), config_sha256=key, replace=True, what=folder.name
        )


def _is_whole(folder: Path) -> bool:
    try:
        verify_folder(folder)
    except InputError:
        return False
    return True


def _refused(cause: BaseException) -> CannotCompile:
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return CannotCompile(f"{type(cause).__name__}: {lines[0] if lines else ''}"[:160])


@contextmanager
def _working_in(scratch: str) -> Iterator[None]:
    """Have torch work in a folder of ours, and not in one for temporary files of everybody."""
    before = os.environ.get(_SCRATCH)
    os.environ[_SCRATCH] = scratch
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SCRATCH]
        else:
            os.environ[_SCRATCH] = before


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep to oneself what torch says of other devices while it compiles for the CPU."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
