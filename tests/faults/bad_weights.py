"""Weights files that are no good as a teacher, without any harm meant: cut, garbled, or of another network."""

import io
import json
import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

State = dict[str, Tensor]


@dataclass(frozen=True)
class BadFile:
    """A file.

    Args:
        kind: what is wrong. content: its bytes. ending: of its name. key: the first tensor that is at fault, which the
            message must name; empty where the file as a whole is.
    """

    kind: str
    content: bytes
    ending: str
    key: str = ""


def bad_files(number: int, seed: int, state: State, others: Mapping[str, State]) -> list[BadFile]:
    """Return so many files, all kinds in turn.

    Args:
        state: of the network that would be the teacher. others: of other networks.
    """
    chance = random.Random(seed)
    makers = (*_WHOLE, *_OF_A_KEY, _other_network)
    files = []
    for place in range(number):
        maker = makers[place % len(makers)]
        own = random.Random(chance.getrandbits(64))
        files.append(_other_network(own, others) if maker is _other_network else maker(own, dict(state)))
    return files


def pickled(content: Any, *, zipped: bool = True) -> bytes:
    """Return what `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def _packed(chance: random.Random, state: Mapping[str, Tensor]) -> tuple[bytes, str]:
    """Write a state dict in one of the forms in which it is found."""
    form = chance.randrange(4)
    if form == 0:
        return safetensors.torch.save({name: value.contiguous() for name, value in state.items()}), "safetensors"
    content: Any = dict(state) if form == 1 else {"model": dict(state), "epoch": 240}
    return pickled(content, zipped=form != 3), chance.choice(("pth", "pt", "bin", "pth.tar"))


def _random_bytes(chance: random.Random, state: State) -> BadFile:
    start = chance.choice(
        (b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04\x95", b"\x89HDF", b"<!DOCTYPE html>", b"{", b"version")
    )
    content = start + chance.randbytes(chance.choice((0, 1, 7, 8, 9, 100, 4096)))
    return BadFile("random bytes", content, chance.choice(("safetensors", "pth", "pt", "bin", "tar")))


def _cut(chance: random.Random, state: State) -> BadFile:
    content, ending = _packed(chance, state)
    return BadFile("cut", content[: chance.randrange(len(content))], ending)


def _longer(chance: random.Random, state: State) -> BadFile:
    content = safetensors.torch.save(state)
    return BadFile("longer than its header says", content + chance.randbytes(chance.randint(1, 99)), "safetensors")


def _header(chance: random.Random, state: State) -> BadFile:
    """Make a safetensors file with one of the faults that a header can have."""
    content = safetensors.torch.save(state)
    length = int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    body = content[8 + length :]
    kind, edit = chance.choice(_HEADER_FAULTS)
    name, other = chance.sample(sorted(header), 2)
    text = edit(header, name, other)
    encoded = text if isinstance(text, bytes) else json.dumps(header).encode()
    size = {"longer than the file": 2**40, "longer than allowed": 2**63, "empty": 0}.get(kind, len(encoded))
    return BadFile(f"header: {kind}", size.to_bytes(8, "little") + encoded + body, "safetensors")


def _set(key: str, value: Any) -> Callable[[dict[str, Any], str, str], None]:
    return lambda header, name, other: header[name].__setitem__(key, value)


def _shift(begin: int, end: int) -> Callable[[dict[str, Any], str, str], None]:
    def edit(header: dict[str, Any], name: str, other: str) -> None:
        first, last = header[name]["data_offsets"]
        header[name]["data_offsets"] = [first + begin, last + end]

    return edit


def _overlap(header: dict[str, Any], name: str, other: str) -> None:
    header[name] = dict(header[other])


def _twice(header: dict[str, Any], name: str, other: str) -> bytes:
    return json.dumps(header).encode()[:-1] + b"," + json.dumps({name: header[name]}).encode()[1:]


_HEADER_FAULTS: tuple[tuple[str, Callable[[dict[str, Any], str, str], bytes | None]], ...] = (
    ("longer than the file", lambda header, name, other: None),
    ("longer than allowed", lambda header, name, other: None),
    ("empty", lambda header, name, other: None),
    ("no JSON", lambda header, name, other: b"{" + b"x" * 100),
    ("no table", lambda header, name, other: b"[1, 2, 3]"),
    ("not UTF-8", lambda header, name, other: b'{"\xff\xfe": 1}'),
    ("nested too deeply", lambda header, name, other: b'{"a":' * 100_000),
    ("a name twice", _twice),
    ("unknown type", _set("dtype", "F33")),
    ("no type", _set("dtype", None)),
    ("another type", _set("dtype", "U8")),
    ("shape too large", _set("shape", [2**40, 2**40])),
    ("shape negative", _set("shape", [-1])),
    ("shape of floats", _set("shape", [1.5])),
    ("shape is text", _set("shape", "3")),
    ("offsets the wrong way", _set("data_offsets", [100, 0])),
    ("offsets negative", _set("data_offsets", [-4, 0])),
    ("offsets far away", _set("data_offsets", [2**50, 2**50 + 4])),
    ("offsets missing", lambda header, name, other: header[name].pop("data_offsets") and None),
    ("begins earlier", _shift(-4, 0)),
    ("ends later", _shift(0, 4)),
    ("overlapping", _overlap),
    ("a hole", lambda header, name, other: header.pop(name) and None),
    ("entry is no table", lambda header, name, other: header.__setitem__(name, 3)),
    ("metadata is no text", lambda header, name, other: header.__setitem__("__metadata__", {"a": [1]})),
)


def _no_state(chance: random.Random, state: State) -> BadFile:
    value = state[chance.choice(sorted(state))]
    content = chance.choice(
        (
            None,
            3,
            "text",
            [],
            [value],
            {},
            {"epoch": 3},
            {"state_dict": []},
            {"model": None},
            {3: value},
            {"state_dict": {}},
        )
    )
    return BadFile("no state dict", pickled(content), "pth")


def _bomb(chance: random.Random, state: State) -> BadFile:
    """Make a small file that claims to be a large one: compressed records, or strides of 0."""
    if chance.random() < 0.5:
        return BadFile("larger than the file", pickled({"a": torch.ones(1).expand(10**12)}), "pth")
    packed, buffer = zipfile.ZipFile(io.BytesIO(pickled({"a": torch.zeros(10_000)}))), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for record in packed.namelist():
            archive.writestr(record, packed.read(record))
    return BadFile("compressed records", buffer.getvalue(), "pth")


def _not_finite(chance: random.Random, state: State) -> BadFile:
    name = chance.choice([key for key, value in state.items() if value.is_floating_point()])
    kind = chance.choice((torch.float32, torch.float16, torch.bfloat16, torch.float64))
    value = state[name].to(kind).clone()
    value.view(-1)[chance.randrange(value.numel())] = chance.choice((float("nan"), float("inf"), float("-inf")))
    return BadFile(f"NaN or infinite, {kind}", *_packed(chance, state | {name: value}), name)


def _too_large(chance: random.Random, state: State) -> BadFile:
    name = chance.choice([key for key, value in state.items() if value.is_floating_point()])
    value = state[name].double()
    value.view(-1)[chance.randrange(value.numel())] = chance.choice((1e39, -1e300))
    return BadFile("too large for float32", *_packed(chance, state | {name: value}), name)


def _type(chance: random.Random, state: State) -> BadFile:
    name = chance.choice([key for key, value in state.items() if value.is_floating_point()])
    kind = chance.choice((torch.int64, torch.int8, torch.bool, torch.complex64))
    return BadFile(f"type {kind}", pickled(state | {name: state[name].to(kind)}), "pth", name)


def _counter(chance: random.Random, state: State) -> BadFile:
    name = chance.choice([key for key in state if key.endswith("num_batches_tracked")])
    return BadFile("a counter of floats", *_packed(chance, state | {name: state[name].float()}), name)


def _shape(chance: random.Random, state: State) -> BadFile:
    name = chance.choice([key for key, value in state.items() if value.dim() > 0])
    value = state[name]
    changed = chance.choice((value[None], value[:-1], torch.cat([value, value]), value.reshape(-1)[:0], value.sum()))
    return BadFile("shape", *_packed(chance, state | {name: changed.clone()}), name)


def _missing(chance: random.Random, state: State) -> BadFile:
    needed = [key for key in state if not key.endswith("num_batches_tracked")]
    gone = chance.sample(needed, chance.randint(1, 5))
    first = next(key for key in state if key in gone)
    return BadFile("missing", *_packed(chance, {key: value for key, value in state.items() if key not in gone}), first)


def _extra(chance: random.Random, state: State) -> BadFile:
    name = chance.choice(("fc2.weight", "x", "conv1.weight_orig", "Ä.weight", "a.b.c.d.e.f", "module.conv1.weight"))
    return BadFile("extra", *_packed(chance, state | {name: torch.ones(2)}), name)


def _odd_name(chance: random.Random, state: State) -> BadFile:
    name = chance.choice(
        ("a\nerror: all is well\nb", "\x1b[2J\x9b", "", "x" * 200_000, "\u202etfel", "a\0b", "../../x")
    )
    return BadFile("odd name", *_packed(chance, state | {name: torch.ones(2)}))


def _renamed(chance: random.Random, state: State) -> BadFile:
    name = chance.choice([key for key in state if not key.endswith("num_batches_tracked")])
    changed = {f"net.{key}" if key == name else key: value for key, value in state.items()}
    return BadFile("renamed", *_packed(chance, changed), name)


def _strange_tensor(chance: random.Random, state: State) -> BadFile:
    name = chance.choice([key for key, value in state.items() if value.dim() == 4])
    value = state[name]
    changed = chance.choice(
        (value.to_sparse(), torch.empty(value.shape, device="meta"), value.view(-1)[:1].clone().expand(value.shape))
    )
    return BadFile("no plain tensor", pickled(state | {name: changed}), "pth", "")


def _other_network(chance: random.Random, others: Mapping[str, State]) -> BadFile:
    name = chance.choice(sorted(others))
    return BadFile(f"weights of {name}", *_packed(chance, others[name]))


Maker = Callable[[random.Random, State], BadFile]
_WHOLE: tuple[Maker, ...] = (
    _random_bytes,
    _cut,
    _longer,
    _header,
    _header,
    _no_state,
    _bomb,
    _odd_name,
    _strange_tensor,
)
_OF_A_KEY: tuple[Maker, ...] = (_not_finite, _too_large, _type, _counter, _shape, _missing, _extra, _renamed)
