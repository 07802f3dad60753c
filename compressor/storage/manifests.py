"""Folders with a manifest: complete when it is there, trusted when every byte agrees with it.

The folder is filled under a temporary name, every file is synced, ``manifest.json`` (sizes, SHA-256 of each file,
format version, config hash) is written last, then the folder takes its name. Without its manifest it does not exist.
"""

import errno
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.errors import InputError
from compressor.storage.documents import encode_json, read_json, write_json
from compressor.storage.failures import storage_error
from compressor.storage.files import sha256_file
from compressor.storage.folders import names_in, replace_folder, sync_tree
from compressor.storage.names import join_inside

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """What the manifest says of one file: bytes and SHA-256 (64 hex digits)."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``; the names are relative, parts joined by ``/``."""

    files: Mapping[str, FileEntry]
    format_version: int = FORMAT_VERSION
    config_sha256: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def write_folder(
    path: str | Path,
    fill: Callable[[Path], None],
    *,
    config_sha256: str | None = None,
    extra: Mapping[str, Any] | None = None,
    replace: bool = False,
    what: str | None = None,
) -> Manifest:
    """Commit a folder with its manifest, whole or not at all.

    Args:
        path: The final name; its parent must exist.
        fill: Called with the temporary folder; writes the files into it (sub-folders are fine, links are not).
        config_sha256: Of the settings that made the content.
        extra: Plain values kept in the manifest.
        replace: Put it in place of what has the name; the old one goes only when the new one has its name.
        what: How messages name it; the folder's name by default.

    Returns:
        The manifest that was written.

    Raises:
        StorageError: The name is taken, ``fill`` made a link, or the disk refuses; what was there is untouched.
    """
    path = Path(path)

    def fill_and_list(folder: Path) -> None:
        fill(folder)
        sync_tree(folder)
        manifest = Manifest(_list(folder), FORMAT_VERSION, config_sha256, dict(extra or {}))
        write_json(folder / MANIFEST, _as_json(manifest), what=what)

    replace_folder(path, fill_and_list, replace=replace, what=what)
    return read_manifest(path)


def verify_folder(path: str | Path) -> Manifest:
    """Check a committed folder byte by byte and return its manifest.

    Raises:
        InputError: No manifest, a manifest of another format or edited by hand, a file missing, added, cut, longer or
            different, or a link.
        StorageError: A file could not be read.
    """
    path = Path(path)
    manifest = read_manifest(path)
    for name, entry in manifest.files.items():
        file = join_inside(path, name)
        if not file.is_file():
            raise InputError(f"{path} is damaged: {name} is missing")
        if (size := file.stat().st_size) != entry.size:
            raise InputError(f"{path} is damaged: {name} has {size} bytes, not {entry.size}")
        if sha256_file(file) != entry.sha256:
            raise InputError(f"{path} is damaged: the content of {name} has changed")
    if extra := sorted(set(_names(path)) - set(manifest.files) - {MANIFEST}):
        raise InputError(f"{path} is damaged: {extra[0]} does not belong to it")
    return manifest


def read_manifest(path: str | Path) -> Manifest:
    """Return the manifest of a committed folder without reading its other files; errors as `verify_folder`."""
    path = Path(path)
    file = join_inside(path, MANIFEST)
    if not file.is_file():
        raise InputError(f"{path} is not complete: it has no {MANIFEST}")
    value = read_json(file)
    try:
        return _from_json(value)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as cause:
        raise InputError(f"{file} is damaged: {cause}") from cause


def is_complete(path: str | Path) -> bool:
    """Tell whether a folder has its manifest; the content is not checked."""
    return (Path(path) / MANIFEST).is_file()


def _names(path: Path) -> list[str]:
    try:
        return names_in(path)
    except OSError as cause:
        if cause.errno == errno.ELOOP:
            raise InputError(f"{path} is damaged: {cause.filename} is a link") from cause
        raise storage_error(cause, "checking", path) from cause


def _list(folder: Path) -> dict[str, FileEntry]:
    return {name: FileEntry((folder / name).stat().st_size, sha256_file(folder / name)) for name in names_in(folder)}


def _as_json(manifest: Manifest) -> dict[str, Any]:
    value: dict[str, Any] = {
        "files": {name: {"size": entry.size, "sha256": entry.sha256} for name, entry in manifest.files.items()},
        "format_version": manifest.format_version,
        "config_sha256": manifest.config_sha256,
        "extra": dict(manifest.extra),
    }
    return {**value, "sha256": hashlib.sha256(encode_json(value)).hexdigest()}


def _from_json(value: Any) -> Manifest:
    if (version := value["format_version"]) != FORMAT_VERSION:
        raise ValueError(f"format version {version!r}, this program reads {FORMAT_VERSION}")
    content = {key: value[key] for key in ("files", "format_version", "config_sha256", "extra")}
    if value["sha256"] != hashlib.sha256(encode_json(content)).hexdigest() or len(value) != len(content) + 1:
        raise ValueError("it does not agree with its own checksum")
    files = {name: FileEntry(entry["size"], entry["sha256"]) for name, entry in value["files"].items()}
    if any(type(entry.size) is not int or not _SHA256.fullmatch(entry.sha256) for entry in files.values()):
        raise ValueError("a size or a checksum is malformed")
    if not isinstance(value["extra"], dict):
        raise TypeError("extra is no table")
    return Manifest(files, version, value["config_sha256"], value["extra"])
