"""Power loss, from a record of file operations: states of the disk in which what was not synced is lost or old.

The model promises less than any file system does. The content of a file is what it was at its last sync, or any later
content, or part of that, or zeros where it should be. The names in a folder are those at its last sync, and of what
was done to them since, any part. A file's sync says nothing about its name, nor a folder's about the folder above it.
"""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class _File:
    """Its content at every moment since the last sync, the synced one first."""

    contents: list[bytes] = field(default_factory=lambda: [b""])


@dataclass
class _Folder:
    """Names at the last sync, what was done to names since, and the names now."""

    synced: dict[str, "_Node"] = field(default_factory=dict)
    since: list[dict[str, "_Node | None"]] = field(default_factory=list)
    names: dict[str, "_Node"] = field(default_factory=dict)

    def change(self, **names: "_Node | None") -> None:
        """Do one step: names that appear, change, or (None) go, together."""
        self.since.append(names)
        _apply(self.names, names)


_Node = _File | _Folder


def _apply(names: dict[str, _Node], step: dict[str, _Node | None]) -> None:
    for name, node in step.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Story:
    """What a `fault_disks.RecordingDisk` wrote down below one folder, begun from what is whole there.

    Args:
        root: the folder, as it was before the command. place: where the command ran; its paths begin so.
    """

    def __init__(self, book: Path, root: Path, place: Path) -> None:
        self._place = place
        self._blob = book.with_suffix(".blob").read_bytes()
        self.lines: list[dict[str, Any]] = [json.loads(line) for line in book.read_text().splitlines()]
        self._root = root

    def said_before(self, moment: int) -> int:
        """Return how many words the command had said by a moment; what it said was promised."""
        return int(self.lines[moment - 1]["said"]) if moment else 0

    def build(self, moment: int, chance: random.Random, target: Path) -> None:
        """Write one state that power loss after so many operations may leave to ``target``, a new folder."""
        root = _read(self._root)
        files: dict[int, _File] = {}
        for line in self.lines[:moment]:
            self._do(root, files, line)
        _write(root, target, chance, whole=chance.random() < 0.5)

    def _do(self, root: _Folder, files: dict[int, _File], line: dict[str, Any]) -> None:
        what, number = line["what"], line.get("file")
        path = self._inside(line["path"]) if "path" in line else None
        if "path" in line and path is None:
            return  # beyond the folder that is looked at, such as the system's temporary one
        if what in ("write", "truncate", "sync"):
            file = files.get(-1 if number is None else number)
            if file is not None:
                self._change(file, line)
            return
        assert path is not None
        folder = _at(root, path[:-1])
        name = path[-1] if path else ""
        if what == "create":
            files[number] = _File()
            folder.change(**{name: files[number]})
        elif what == "open":
            self._open(folder, name, files, number)
        elif what == "rename":
            target = self._inside(line["target"])
            assert target is not None, "a rename out of the folder"
            assert target[:-1] == path[:-1], "a rename from one folder to another"
            folder.change(**{name: None, target[-1]: folder.names[name]})
        elif what == "make_folder":
            folder.change(**{name: _Folder()})
        elif what == "remove":
            folder.change(**{name: None})
        elif what == "sync_folder":
            place = _at(root, path)
            place.synced, place.since = dict(place.names), []

    def _open(self, folder: _Folder, name: str, files: dict[int, _File], number: int) -> None:
        there = folder.names.get(name)
        if there is None:
            there = _File()
            folder.change(**{name: there})
        assert isinstance(there, _File)
        files[number] = there

    def _change(self, file: _File, line: dict[str, Any]) -> None:
        now = file.contents[-1]
        if line["what"] == "write":
            file.contents.append(now + self._blob[line["at"] : line["at"] + line["length"]])
        elif line["what"] == "truncate":
            file.contents.append(now[: line["length"]])
        else:
            file.contents = [now]

    def _inside(self, path: str) -> tuple[str, ...] | None:
        try:
            return Path(path).relative_to(self._place).parts
        except ValueError:
            return None


def _at(root: _Folder, parts: tuple[str, ...]) -> _Folder:
    for part in parts:
        node = root.names[part]
        assert isinstance(node, _Folder)
        root = node
    return root


def _read(folder: Path) -> _Folder:
    made = _Folder()
    for path in folder.iterdir():
        made.names[path.name] = _read(path) if path.is_dir() else _File([path.read_bytes()])
    made.synced = dict(made.names)
    return made


def _write(folder: _Folder, target: Path, chance: random.Random, *, whole: bool) -> None:
    """Write what is left of a folder.

    Args:
        whole: what was done to names since the sync is there up to some step; else any part of the steps is.
    """
    target.mkdir()
    names = dict(folder.synced)
    reached = chance.randint(0, len(folder.since))
    for number, step in enumerate(folder.since):
        if number < reached if whole else chance.random() < 0.5:
            _apply(names, step)
    for name, node in names.items():
        if isinstance(node, _Folder):
            _write(node, target / name, chance, whole=whole)
        else:
            (target / name).write_bytes(_left(node.contents, chance))


def _left(contents: list[bytes], chance: random.Random) -> bytes:
    """Return what is left of a file: a content since the last sync, and of the last part perhaps a piece, or zeros."""
    content = chance.choice(contents)
    if content is contents[0]:
        return content
    cut = chance.randint(0, len(content))
    return chance.choice([content, content[:cut], content[:cut] + bytes(len(content) - cut)])
