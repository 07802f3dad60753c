"""What a disk, a copy that broke off, or a curious hand may do to the newest checkpoint of a run."""

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path, Path], None]
"""Changes the newest checkpoint; the second argument is the one before it."""

FILES = ("lane.safetensors", "state.json", "manifest.json")
CUTS = 64


def damages(number: int, seed: int) -> list[tuple[str, Damage]]:
    """Return so many kinds of damage: every cut first, then kinds drawn at random."""
    cuts = [_cut(name, place) for place in range(CUTS) for name in FILES]
    chance = random.Random(seed)
    makers = list(_DRAWN)
    drawn = (makers[place % len(makers)](random.Random(chance.getrandbits(64))) for place in range(number))
    spread = max(1, 2 * len(cuts) // number)  # cuts take half of a short row
    return [*cuts[:: max(1, spread)], *drawn][:number]


def _cut(name: str, place: int) -> tuple[str, Damage]:
    def cut(newest: Path, older: Path) -> None:
        os.truncate(newest / name, (newest / name).stat().st_size * place // CUTS)

    return f"cut {name} {place}/{CUTS}", cut


def _flip(chance: random.Random) -> tuple[str, Damage]:
    name, bits = chance.choice(FILES), chance.randint(1, 8)

    def flip(data: bytearray) -> None:
        for _ in range(bits):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)

    return f"flip {bits} bits of {name}", _on_bytes(name, flip)


def _zero(chance: random.Random) -> tuple[str, Damage]:
    name, share = chance.choice(FILES), chance.choice((0.001, 0.1, 1.0))

    def zero(data: bytearray) -> None:
        length = max(1, int(len(data) * share))
        start = chance.randrange(len(data) - length + 1)
        data[start : start + length] = bytes(length)

    return f"zero {share} of {name}", _on_bytes(name, zero)


def _append(chance: random.Random) -> tuple[str, Damage]:
    name, more = chance.choice(FILES), chance.choice((b"\0", b"\n", b"{}", b"x" * 4096, chance.randbytes(100)))
    return f"append {len(more)} bytes to {name}", _on_bytes(name, lambda data: data.extend(more))


def _insert(chance: random.Random) -> tuple[str, Damage]:
    name = chance.choice(FILES)

    def insert(data: bytearray) -> None:
        place = chance.randrange(len(data))
        data[place:place] = chance.randbytes(chance.randint(1, 64))

    return f"insert into {name}", _on_bytes(name, insert)


def _swap(chance: random.Random) -> tuple[str, Damage]:
    one, other = chance.choice(FILES), chance.choice(FILES)

    def swap(newest: Path, older: Path) -> None:
        first, second = newest / one, older / other
        data, theirs = first.read_bytes(), second.read_bytes()
        first.write_bytes(theirs)
        if chance.random() < 0.5:
            second.write_bytes(data)

    return f"{one} from {other} of the step before", swap


def _remove(chance: random.Random) -> tuple[str, Damage]:
    names = chance.sample(FILES, chance.randint(1, len(FILES)))

    def remove(newest: Path, older: Path) -> None:
        for name in names:
            (newest / name).unlink()

    return f"remove {' '.join(names)}", remove


def _header(chance: random.Random) -> tuple[str, Damage]:
    kind = chance.choice(("dtype", "shape", "offset", "name", "length", "twice"))

    def edit(data: bytearray) -> None:
        length = int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + length])
        name = chance.choice([key for key in header if key != "__metadata__"])
        entry = header[name]
        if kind == "dtype":
            entry["dtype"] = {"F32": "I32"}.get(entry["dtype"], "F32")
        elif kind == "shape":
            entry["shape"] = [*entry["shape"][::-1], 1]
        elif kind == "offset":
            entry["data_offsets"][1] += chance.choice((-4, 4, 2**40))
        elif kind == "name":
            header[f"{name}x"] = header.pop(name)
        text = json.dumps(header).encode()
        if kind == "twice":
            text = text[:-1] + b', "x": 1, "x": 2}'
        size = len(text) + (chance.choice((-1, 1, 2**60)) if kind == "length" else 0)
        data[: 8 + length] = size.to_bytes(8, "little") + text

    return f"header's {kind}", _on_bytes("lane.safetensors", edit)


def _manifest(chance: random.Random) -> tuple[str, Damage]:
    key = chance.choice(("files", "format_version", "config_sha256", "extra", "sha256", "size", "digest", "another"))
    value = chance.choice((None, 0, -1, 2**63, "", "x", [], {}, [1], {"a": 1}, True, 1.5, "../x"))

    def edit(newest: Path, older: Path) -> None:
        described = json.loads((newest / "manifest.json").read_text())
        if key in ("size", "digest"):
            name = chance.choice(sorted(described["files"]))
            described["files"][name]["size" if key == "size" else "sha256"] = value
        else:
            described[key] = value
        (newest / "manifest.json").write_text(json.dumps(described))

    return f"manifest's {key} is {value!r}", edit


def _rewritten(chance: random.Random) -> tuple[str, Damage]:
    """Write a document anew with other spaces: of the manifest that is no damage, of the state it is."""
    name = chance.choice(("manifest.json", "state.json"))

    def rewrite(newest: Path, older: Path) -> None:
        (newest / name).write_text(json.dumps(json.loads((newest / name).read_text()), indent=chance.randint(0, 8)))

    return f"{name} in other words", rewrite


def _strange(chance: random.Random) -> tuple[str, Damage]:
    kind = chance.choice(("file", "folder", "link", "pipe", "temporary file"))
    name = ".tmp-00000000-1-1" if kind == "temporary file" else chance.choice(("more", "custom_checkpoint_0.pkl"))

    def add(newest: Path, older: Path) -> None:
        path = newest / name
        if kind == "folder":
            path.mkdir()
            (path / "x").touch()
        elif kind == "link":
            path.symlink_to(older / "state.json")
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.write_bytes(b"x")

    return f"a {kind} more", add


def _other_kind(chance: random.Random) -> tuple[str, Damage]:
    name, kind = chance.choice(FILES), chance.choice(("folder", "link", "pipe"))

    def replace(newest: Path, older: Path) -> None:
        path = newest / name
        if kind == "link":
            path.rename(newest.parent / f"{name}.moved")
            path.symlink_to(newest.parent / f"{name}.moved")
            return
        path.unlink()
        (path.mkdir if kind == "folder" else lambda: os.mkfifo(path))()

    return f"{name} is a {kind}", replace


def _moved(chance: random.Random) -> tuple[str, Damage]:
    """Rename or copy whole checkpoints: what is in them is right."""
    kind = chance.choice(("later", "twice", "odd name", "gone", "link"))
    name = f"moved-{chance.getrandbits(64):x}"

    def move(newest: Path, older: Path) -> None:
        away = newest.parents[2] / name
        if kind == "later":
            newest.rename(newest.with_name("step-0000000011"))
        elif kind == "twice":
            shutil.copytree(newest, newest.with_name("step-0000000011"))
        elif kind == "odd name":
            newest.rename(
                newest.with_name(chance.choice(("step-", "step-²²²²²²²²²²", "step-٠٠٠٠٠٠٠٠٠٩", "step-9", "step-x")))
            )
        elif kind == "gone":
            shutil.rmtree(newest)
        else:
            newest.rename(away)
            newest.symlink_to(away)

    return f"checkpoint {kind}", move


def _both(chance: random.Random) -> tuple[str, Damage]:
    """Damage both checkpoints that a run keeps."""
    name = chance.choice(FILES)

    def damage(newest: Path, older: Path) -> None:
        for folder in (newest, older):
            os.truncate(folder / name, 10)

    return f"cut {name} of both", damage


_DRAWN: tuple[Callable[[random.Random], tuple[str, Damage]], ...] = (
    _flip,
    _zero,
    _append,
    _insert,
    _swap,
    _remove,
    _header,
    _manifest,
    _rewritten,
    _strange,
    _other_kind,
    _moved,
    _both,
)


def _on_bytes(name: str, change: Callable[[bytearray], None]) -> Damage:
    def damage(newest: Path, older: Path) -> None:
        data = bytearray((newest / name).read_bytes())
        change(data)
        (newest / name).write_bytes(bytes(data))

    return damage
