"""Run folders: their names, who owns them, and whether what lies there is the same run."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from compressor import __version__
from compressor.config.document import to_toml
from compressor.config.settings import RunConfig, flatten
from compressor.engine.history import read_description, read_result
from compressor.engine.names import safe
from compressor.errors import InputError, StorageError, UsageError
from compressor.models.catalogue import resolve_name
from compressor.storage import RunLock, ensure_folder, preflight, set_aside, write_text

RUNS = Path("runs")


def default_folder(config: RunConfig, root: Path = RUNS) -> Path:
    """Return ``runs/<student>-<teacher>-<data>-<method>-s<seed>-<6 hex of the settings' hash>``."""
    parts = [
        safe(resolve_name(config.student.name, role="student").display),
        safe(resolve_name(config.teacher.name, role="teacher").display),
        safe(config.data.source),
        config.method.name,
        f"s{config.seed}",
        config.sha256[:6],
    ]
    return root / "-".join(parts)


def finished(folder: Path, config: RunConfig) -> Mapping[str, Any] | None:
    """Return the result of a run with these settings if it is finished, None if it is not or is not there.

    Raises:
        UsageError: the folder holds a run with other settings; the keys are listed.
    """
    run = read_description(folder)
    if run is None:
        return None
    _same_settings(folder, run, config)
    return read_result(folder)


def open_folder(folder: Path, config: RunConfig, stack: ExitStack, *, fresh: bool, needed_bytes: int) -> Path:
    """Make a run's folder ours until ``stack`` is left.

    Args:
        fresh: set an earlier run in it aside under another name. needed_bytes: what the run will write.

    Raises:
        StorageError: it cannot be written, is in use, or holds something else. UsageError: other settings.
    """
    root = preflight(folder, needed_bytes, create_parents=True)
    described = root / "run.json"
    if fresh and described.is_file():
        with RunLock(root):
            pass  # nobody else is at work in it
        set_aside(root)
    elif root.is_dir() and not described.is_file() and _foreign(root):
        raise StorageError(f"{folder} is not empty and holds no run", hint="choose another folder with --out")
    ensure_folder(root)
    stack.enter_context(RunLock(root))
    run = read_description(root)
    if run is not None:
        _same_settings(folder, run, config)
    write_text(root / "config.toml", to_toml(config, runtime=False))
    return root


def _foreign(folder: Path) -> bool:
    return any(path.name not in ("run.lock", "config.toml") and ".tmp" not in path.name for path in folder.iterdir())


def _same_settings(folder: Path, run: Mapping[str, Any], config: RunConfig) -> None:
    if run["config_sha256"] == config.sha256:
        return
    theirs = flatten(run["config"])
    ours = flatten(config.identity())
    absent = "(default)"
    changed = [
        f"{key.replace('method.settings.', 'method.')} {theirs.get(key, absent)} -> {ours.get(key, absent)}"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key, absent) != ours.get(key, absent)
    ]
    version = _version_of(run)
    if version != __version__:
        raise InputError(
            f"{folder} was begun by version {version}, this is {__version__}, which reads its settings otherwise: "
            + ", ".join(changed[:8]),
            hint=f"go on with version {version}, or --fresh to set the old one aside",
        )
    raise UsageError(
        f"--out {folder} was made with other settings: {', '.join(changed[:8])}",
        hint="drop --out for a new folder, or --fresh to set the old one aside",
    )


def _version_of(run: Mapping[str, Any]) -> str:
    environment = run.get("environment")
    return str(environment.get("compressor", __version__)) if isinstance(environment, dict) else __version__
