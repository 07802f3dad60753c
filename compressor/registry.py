"""Names to things that plugins bring: methods, architectures and recipes, found through entry points.

Built-in ones come through the same door as strangers'. Only what is asked for is imported; a plugin that is broken,
contested or unfinished breaks the runs that use it and no others.
"""

import signal
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint
from importlib.metadata import entry_points as installed
from typing import TYPE_CHECKING, Any

from compressor.errors import PluginError, UsageError, suggestion

if TYPE_CHECKING:
    from compressor.distiller import Distiller

IMPORT_SECONDS = 60.0
"""How long the import of a plugin may take; the first import of torch over a network takes a good part of it."""

METHODS = "compressor.methods"
ARCHITECTURES = "compressor.architectures"


@dataclass(frozen=True)
class Entry:
    """One name and who brings it; ``package`` is the distribution with its version."""

    name: str
    value: str
    package: str


@cache
def entry_points(group: str) -> tuple[EntryPoint, ...]:
    """Return the installed entry points of a group, each distribution's once, in name order."""
    unique = {(point.name, point.value, _package(point)): point for point in installed(group=group)}
    return tuple(unique[key] for key in sorted(unique))


def names(group: str) -> Mapping[str, tuple[Entry, ...]]:
    """Return every name of a group with all who claim it; nothing is imported."""
    found: dict[str, list[Entry]] = defaultdict(list)
    for point in entry_points(group):
        found[point.name].append(Entry(point.name, point.value, _package(point)))
    return {name: tuple(entries) for name, entries in found.items()}


def load(group: str, name: str, *, kind: str) -> Any:
    """Import what a name stands for.

    Args:
        kind: the word for it in messages: ``method``, ``architecture``.

    Raises:
        UsageError: nobody brings that name.
        PluginError: several do, or importing it fails; the message names the packages.
    """
    entries = names(group).get(name, ())
    if not entries:
        hint = suggestion(name, names(group)) or f"compress list {kind}s"
        raise UsageError(f"no {kind} named {name!r}", hint=hint, code=f"{kind}.unknown")
    if len(entries) > 1:
        owners = " and ".join(f"{entry.package} ({entry.value})" for entry in entries)
        raise PluginError(f"{kind} {name!r} is claimed by {owners}", hint="uninstall one of them")
    point = next(point for point in entry_points(group) if point.name == name)
    try:
        with _in_time(IMPORT_SECONDS):
            return point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as cause:  # a stranger's module may raise anything, SystemExit too
        reason = str(cause) if isinstance(cause, _TooLong) else f"{type(cause).__name__}: {cause}"
        raise PluginError(
            f"{kind} {name!r} (package {entries[0].package}) cannot be imported: {reason}",
            hint=f"compress plugins check {name}",
        ) from cause


class _TooLong(BaseException):
    """Raised inside an import that does not end; no Exception, for a stranger's module may catch those."""


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """End an import that takes longer; where signals cannot be had (another thread, another timer) it may."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getitimer(signal.ITIMER_REAL)[0]:
        yield
        return

    def stop(*_: object) -> None:
        raise _TooLong(f"it did not end within {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL if before is None else before)


def load_method(name: str) -> "type[Distiller[Any]]":
    """Import a method's class and check that it keeps the contract's outline.

    Raises:
        UsageError, PluginError: see `load`; PluginError also lists every fault of the class.
    """
    method = load(METHODS, name, kind="method")
    faults = outline_faults(method, name)
    if faults:
        package = names(METHODS)[name][0].package
        raise PluginError(
            f"method {name!r} (package {package}) does not keep the contract: " + "; ".join(faults),
            hint=f"compress plugins check {name}",
        )
    return method  # type: ignore[no-any-return]  # outline_faults has made sure


def outline_faults(method: object, name: str) -> list[str]:
    """List everything that keeps an object from being method ``name``, as far as its class shows it."""
    from compressor.distiller import CONTRACT_VERSION, Distiller, Needs

    if not (isinstance(method, type) and issubclass(method, Distiller)):
        return ["it must be a subclass of compressor.distiller.Distiller"]
    faults = []
    if getattr(method, "name", None) != name:
        faults.append(f"its `name` is {getattr(method, 'name', None)!r}, its entry point {name!r}")
    if method.contract_version != CONTRACT_VERSION:
        faults.append(f"it is written for contract {method.contract_version}, this is {CONTRACT_VERSION}")
    config = getattr(method, "Config", None)
    parameters = getattr(config, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        faults.append("its `Config` must be a frozen dataclass")
    if not isinstance(method.needs, Needs):
        faults.append("its `needs` must be a Needs(...)")
    faults += [f"`{missing}` is not written" for missing in sorted(method.__abstractmethods__)]
    return faults


def _package(point: EntryPoint) -> str:
    return "unknown package" if point.dist is None else _label(point.dist)


@cache
def _label(distribution: Distribution) -> str:
    """Read a distribution's name and version once: each reading parses its metadata, and names are asked for often."""
    return f"{distribution.name} {distribution.version}"


def forget() -> None:
    """Look at what is installed anew, after a plugin was installed while this process ran."""
    entry_points.cache_clear()
    sys.path_importer_cache.clear()
