"""Data that are no good: files of one's own that were cut or garbled, and archives that claim what they do not hold."""

import io
import os
import random
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

KINDS = ("png", "jpg", "gif", "bmp", "webp", "tif", "ppm")
Arrays = dict[str, Any]


def picture(chance: random.Random, kind: str) -> bytes:
    """Return a small picture of a format, of one of the modes that the format has."""
    modes = {"jpg": ("RGB", "L", "CMYK"), "bmp": ("RGB", "L", "P"), "webp": ("RGB", "RGBA"), "ppm": ("RGB", "L")}
    mode = chance.choice(modes.get(kind, ("RGB", "RGBA", "L", "P")))
    pixels = np.frombuffer(chance.randbytes(16 * 12 * 3), dtype=np.uint8).reshape(12, 16, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind))
    return buffer.getvalue()


def scrambled(chance: random.Random) -> tuple[str, bytes]:
    """Return the ending and the bytes of a picture after some accident."""
    kind = chance.choice(KINDS)
    data = bytearray(picture(chance, kind))
    accident = chance.randrange(6)
    if accident == 0:
        del data[chance.randrange(len(data)) :]
    elif accident == 1:
        data[chance.randrange(len(data)) :] = chance.randbytes(chance.randint(0, 200))
    elif accident == 2:
        data = bytearray(chance.randbytes(chance.randint(0, 300)))
    elif accident == 3:
        data[4:4] = chance.randbytes(chance.randint(1, 8))
    else:
        for _ in range(chance.randint(1, 12)):
            data[chance.randrange(min(len(data), 120 if accident == 4 else len(data)))] = chance.randrange(256)
    return chance.choice((kind, *KINDS)), bytes(data)


def sound_arrays() -> Arrays:
    """Return arrays that make a data set of three classes."""
    pixels = np.arange(12 * 6 * 5 * 3, dtype=np.uint8).reshape(12, 6, 5, 3)
    labels = np.arange(12) % 3
    return {"x_train": pixels, "y_train": labels, "x_test": pixels[:3], "y_test": labels[:3]}


def bad_archive(chance: random.Random) -> tuple[str, bytes]:
    """Return what was done to an ``.npz`` file, and its bytes."""
    kind, make = chance.choice(_ARCHIVES)
    return kind, make(chance)


def _packed(arrays: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def _records(records: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _garbled(chance: random.Random) -> bytes:
    data = bytearray(_packed(sound_arrays()))
    for _ in range(chance.randint(1, 10)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    return bytes(data)


def _claiming(shape: str) -> bytes:
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head.encode()
    return _records({f"{name}.npy": member for name in sound_arrays()})


def _with(**changes: Any) -> Callable[[random.Random], bytes]:
    return lambda chance: _packed({**sound_arrays(), **changes})


_LABELS = np.arange(12) % 3
_ARCHIVES: tuple[tuple[str, Callable[[random.Random], bytes]], ...] = (
    ("garbled", _garbled),
    ("garbled", _garbled),
    ("cut", lambda chance: (data := _packed(sound_arrays()))[: chance.randrange(len(data))]),
    ("random bytes", lambda chance: chance.randbytes(chance.randint(0, 200))),
    ("no archive but an array", lambda chance: _one_array(sound_arrays()["x_train"])),
    ("objects", _with(y_train=np.array([{}] * 12))),
    ("texts", _with(x_train=np.array(["a"] * 12))),
    ("dates", _with(y_train=np.array(["2020-01-01"] * 12, dtype="datetime64"))),
    ("complex labels", _with(y_train=_LABELS.astype(complex))),
    ("NaN labels", _with(y_train=np.full(12, np.nan))),
    ("labels that are too large", _with(y_train=_LABELS + 2**40)),
    ("negative labels", _with(y_train=_LABELS - 1)),
    ("bool labels", _with(y_train=_LABELS > 0)),
    ("a label", _with(y_train=np.array(1))),
    ("labels of three dimensions", _with(y_train=_LABELS.reshape(3, 2, 2))),
    ("a picture", _with(x_train=np.zeros((6, 5, 3), dtype=np.uint8))),
    ("no pixel", _with(x_train=np.zeros((12, 0, 0, 3), dtype=np.uint8))),
    ("five dimensions", _with(x_train=np.zeros((12, 1, 1, 1, 3), dtype=np.uint8))),
    ("a number", _with(x_train=np.uint8(3))),
    ("records", _with(x_train=np.zeros(12, dtype=[("a", "u1")]))),
    ("odd class names", _with(class_names=np.array([1.5, 2.5, np.nan]))),
    ("one class name", _with(class_names=np.array("a\nb"))),
    ("members that are no arrays", lambda chance: _records({f"{name}.npy": b"text" for name in sound_arrays()})),
    ("members of other names", lambda chance: _records({"../../x_train.npy": b"text", "/y_train.npy": b""})),
    ("claims terabytes", lambda chance: _claiming("(1099511627776, 3)")),
    ("claims less than nothing", lambda chance: _claiming("(-5, 3)")),
    ("claims a call", lambda chance: _claiming("__import__('os').system('touch hostile_token')")),
    ("nothing in it", lambda chance: _records({})),
)


def _one_array(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def image_folder(root: Path, classes: Mapping[str, int], *, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Make a folder of images, so many a class, each with its own grey."""
    for split in splits:
        for number, (name, count) in enumerate(classes.items()):
            folder = root / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                Image.new("RGB", (8, 8), (30 * number + place % 30,) * 3).save(folder / f"{place:03}.png")
    return root


def odd_entries(folder: Path) -> list[str]:
    """Put into a class folder everything that is no image though its name says so; return the names."""
    chance = random.Random(0)
    (folder / "empty.jpg").touch()
    whole = picture(chance, "jpg")
    (folder / "cut.JPG").write_bytes(whole[: len(whole) // 2])
    (folder / "page.jpeg").write_text("<html>Sign in</html>")
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "evil.png").write_bytes(b"cos\nsystem\n(Vtouch hostile_token\ntR.")
    os.mkfifo(folder / "pipe.png")
    return ["empty.jpg", "cut.JPG", "page.jpeg", "folder.png", "link.png", "loop.png", "evil.png", "pipe.png"]


def good_entries(folder: Path) -> int:
    """Put into a class folder what is unusual and fine, and what is no business of ours; return how many images."""
    grey = Image.new("L", (8, 8), 90)
    grey.convert("CMYK").save(folder / "print.jpg")
    Image.new("I;16", (8, 8), 40_000).save(folder / "deep.png")
    grey.convert("P").save(folder / "palette.PNG")
    grey.save(folder / "moving.gif", save_all=True, append_images=[Image.new("L", (8, 8), 20)])
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.convert("RGB").save(folder / "turned.jpg", exif=exif)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    return 5
