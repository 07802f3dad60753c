"""One file for each kind of source; each turns what the user named into `compressor.data.stores.RawData`.

Each file is imported when a source of its kind is asked for: torchvision alone takes seconds.
"""

import errno
from importlib import import_module
from pathlib import Path
from typing import Any

from compressor.data.stores import RawData
from compressor.errors import CompressorError, InputError, UsageError, suggestion


def read_source(source: str | tuple[Any, ...], directory: str | None) -> tuple[str, RawData]:
    """Read the source that a user named.

    Args:
        source: a name of `compressor.data.catalogue`, or a tuple of Python datasets.
        directory: where ``torch/`` and ``hfds/`` data lie; None is ``data`` here, and the hub's own cache.

    Returns:
        Its name, as the user wrote it (``python`` for a tuple), and what it holds.

    Raises:
        UsageError, InputError: it is unknown, missing or unusable.
    """
    if not isinstance(source, str):
        return "python", _read("python_sets", source)
    kind, _, rest = source.partition("/")
    path = Path(source).expanduser()
    if source == "digits":
        raw = _read("digits")
    elif kind == "torch" and rest:
        raw = _read("torchvision_sets", rest, Path(directory or "data").expanduser())
    elif kind == "hfds" and rest:
        raw = _read("hfds", rest, directory)
    elif path.suffix == ".npz":
        raw = _read("npz", path)
    elif _is_folder(path):
        raw = _read("folder", path)
    else:
        raise _unknown(source)
    return source, raw


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as cause:
        if cause.errno == errno.ENAMETOOLONG:  # no file system can hold it
            return False
        raise


def _read(kind: str, *arguments: object) -> RawData:
    raw = import_module(f"{__name__}.{kind}").load(*arguments)
    assert isinstance(raw, RawData)
    return raw


def _unknown(source: str) -> CompressorError:
    if source in ("torch", "hfds", "torch/", "hfds/"):
        return UsageError(f"{source!r} is only the kind of a source", hint="torch/cifar100, hfds/ORG/NAME")
    near = suggestion(source, ["digits", "torch/cifar10", "torch/cifar100", "torch/mnist"])
    return InputError(f"no data source, folder or file {source!r}", hint=f"{near} see: compress list data".strip())
