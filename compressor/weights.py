"""Weights that others made: read without running anything, checked whole, loaded only when every name and shape fits.

Safetensors files hold tensors and nothing else. Pickled ones (``.pt .pth .bin .tar``) go through torch's weights-only
reader alone; there is no second try and no switch to trust a file.
"""

import hashlib
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressor import storage
from compressor.errors import InputError, UsageError

PICKLED = (".pt", ".pth", ".bin", ".tar")
_SAFETENSORS = ".safetensors"
_FIRST_SAFE_TORCH = "2.10"  # weights_only of earlier releases can be broken out of (CVE-2025-32434, CVE-2026-24747)
_WRAPPERS = ("state_dict", "model")  # where training scripts keep the weights inside their checkpoints
_PARALLEL = "module."
_BACKBONE = "backbone."
_CALLING = frozenset(b"iobcR\x81\x82\x83\x84\x92\x93")  # codes of a pickle that look up or call something
_LONGEST_SHOWN = 150
_COUNTER = "num_batches_tracked"  # of BatchNorm; not in old files, and no output depends on it


@dataclass(frozen=True)
class Weights:
    """The content of a weights file.

    Attributes:
        tensors: Of the network, on the CPU, finite.
        extras: What stood beside a ``backbone.`` in the file, such as ``proj_head.0.weight`` of an SSKD teacher.
        source: The file, for messages.
    """

    tensors: Mapping[str, Tensor]
    extras: Mapping[str, Tensor]
    source: str


def read_weights(path: str | Path, *, unwrap_backbone: bool = True) -> Weights:
    """Read the weights of a network from a file that may be hostile.

    The layouts of RepDistiller and SSKD are understood: a state dict at the top or under ``state_dict`` or ``model``,
    names with ``module.`` in front. When some names begin with ``backbone.``, those are the network, without that
    prefix, and the others are `Weights.extras`.

    Args:
        path: ``.safetensors``, or a pickled file (`PICKLED`) that holds only weights.
        unwrap_backbone: Treat ``backbone.`` as above; otherwise leave all names together.

    Raises:
        InputError: Missing, damaged, of another kind, holding more than weights, no tensors, NaN or infinite values.
        StorageError: The file could not be read.
    """
    path = Path(path)
    content = _read(path)
    tensors = _without_prefix(_check(_state_dict(content), path), _PARALLEL)
    extras: dict[str, Tensor] = {}
    if unwrap_backbone and any(name.startswith(_BACKBONE) for name in tensors):
        extras = {name: tensor for name, tensor in tensors.items() if not name.startswith(_BACKBONE)}
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(_BACKBONE)}
        tensors = _without_prefix(tensors, _BACKBONE)
    return Weights(tensors, extras, str(path))


def load_weights(module: nn.Module, path: str | Path) -> Weights:
    """Read a file and load it into ``module``; a ``backbone.`` that the module itself has stays. Return what was read.

    Raises:
        InputError: As `read_weights` and `load_into`.
    """
    own_backbone = any(name.startswith(_BACKBONE) for name in module.state_dict())
    weights = read_weights(path, unwrap_backbone=not own_backbone)
    load_into(module, weights.tensors, source=weights.source)
    return weights


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy tensors into a module when every name, shape and kind fits; otherwise nothing is changed.

    Args:
        module: May carry ``checkpoint_aliases: dict[str, str]``, names in foreign files to its own names.
        tensors: Names to values. Floating types are converted; an integer never becomes a floating value. BatchNorm's
            ``num_batches_tracked`` may be missing and then keeps its value.
        source: Where they come from, for messages.

    Raises:
        InputError: A missing, unexpected or ill-fitting tensor; counts and the first of each are named.
    """
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    given = _rename(tensors, own, getattr(module, "checkpoint_aliases", {}))
    missing = [name for name in own if name not in given and name.rpartition(".")[2] != _COUNTER]
    unexpected = [name for name in given if name not in own]
    unfit = [text for name, value in given.items() if name in own and (text := _misfit(name, value, own[name]))]
    if missing or unexpected or unfit:
        raise InputError(
            f"{source} does not fit {type(module).__name__}: {_summary(missing, unexpected, unfit)}",
            hint="give weights of the same architecture, trained for the same number of classes",
            code="weights.mismatch",
        )
    with torch.no_grad():
        for name, value in given.items():
            own[name].copy_(value)


def convert(source: str | Path, target: str | Path, *, overwrite: bool = False) -> int:
    """Write the tensors of a foreign weights file as safetensors and return how many there are.

    All tensors are kept, heads beside a backbone too, under the names of the file without ``module.``.

    Raises:
        InputError: As `read_weights`.
        UsageError: ``target`` does not end in .safetensors, or is there and ``overwrite`` is not set.
        StorageError: It could not be written.
    """
    target = Path(target)
    if target.suffix != _SAFETENSORS:
        raise UsageError(f"{target} must end in {_SAFETENSORS}", hint=f"{target.with_suffix(_SAFETENSORS)}")
    if target.exists() and not overwrite:
        raise UsageError(f"{target} is already there", hint="choose another name")
    weights = read_weights(source, unwrap_backbone=False)
    storage.write_tensors(target, weights.tensors)
    return len(weights.tensors)


def state_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 (64 hex digits) of names, types, shapes and values; the order of the names does not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        label = json.dumps([name, str(value.dtype), list(value.shape)])
        digest.update(f"{len(label)}:{label}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read(path: Path) -> Any:
    storage.require_file(path)
    if path.suffix == _SAFETENSORS:
        return storage.read_tensors(path)
    if path.suffix not in PICKLED:
        raise InputError(f"{path} is no weights file; known endings: {' '.join((_SAFETENSORS, *PICKLED))}")
    if torch.__version__ < _FIRST_SAFE_TORCH:
        raise InputError(
            f"{path} is a pickled file, which needs torch >= {_FIRST_SAFE_TORCH} (this is {torch.__version__})",
            hint="upgrade torch, or ask for a .safetensors file",
        )
    return _unpickle(path)


def _unpickle(path: Path) -> Any:
    _refuse_bombs(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch muses about pickle protocols; what matters is raised
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as cause:  # hostile bytes make the reader raise almost any class
        raise _refusal(path, cause) from cause


def _refuse_bombs(path: Path) -> None:
    """Refuse an archive whose records are together larger than itself: compressed, or many names for the same bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(record.file_size for record in archive.infolist())
    except Exception:  # noqa: BLE001  # no archive, or a broken one: the reader that comes next says what is wrong
        return
    if claimed > path.stat().st_size:
        raise InputError(
            f"{path} claims {claimed:,} bytes and has {path.stat().st_size:,}; refused",
            hint="torch.save writes records as they are; ask for a file that nobody packed again",
        )


def _refusal(path: Path, cause: Exception) -> InputError:
    text = str(cause)
    found = re.search(r"GLOBAL (\S+)", text)
    strange = re.search(r"Unsupported operand (\d+)", text)
    garbage = strange is not None and int(strange[1]) not in _CALLING
    if found or ("weights_only" in text and not garbage):
        name = f" ({found[1]})" if found else ""
        return InputError(
            f"{path} holds more than weights{name}; refused",
            hint="ask for a .safetensors file; such a file can run code when loaded",
            code="weights.unsafe",
        )
    reason = "no pickle" if garbage else (text.splitlines() or [""])[0] or type(cause).__name__
    return InputError(f"{path} is damaged or no weights file: {reason}")


def _state_dict(content: Any) -> Any:
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                return content[key]
    return content


def _check(content: Any, path: Path) -> dict[str, Tensor]:
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {name: value.detach() for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{path} holds no state dict; looked at the top and under {' and '.join(_WRAPPERS)}")
    for name, tensor in tensors.items():
        if fault := _fault(tensor):
            raise InputError(f"{path} cannot be used: {_shown(name)} {fault}", code="weights.unusable")
    return tensors


def _fault(tensor: Tensor) -> str | None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        return "is no plain dense tensor"
    # A few bytes can claim to be a tensor of any size through strides of 0.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"claims {tuple(tensor.shape)} values but the file holds fewer"
    if tensor.is_floating_point() or tensor.is_complex():
        wide = tensor.float() if tensor.element_size() == 1 else tensor  # float8 has no isfinite
        if not bool(torch.isfinite(wide).all()):
            return "has values that are NaN or infinite"
    return None


def _without_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    if not all(name.startswith(prefix) for name in tensors):
        return tensors
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def _rename(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], aliases: Mapping[str, str]) -> dict[str, Tensor]:
    def name_of(name: str) -> str:
        alias = aliases.get(name, name)
        return name if name in own or alias in tensors else alias

    return {name_of(name): tensor for name, tensor in tensors.items()}


def _misfit(name: str, given: Tensor, own: Tensor) -> str | None:
    if given.shape != own.shape:
        return f"{name} {tuple(given.shape)} instead of {tuple(own.shape)}"
    if given.is_floating_point() != own.is_floating_point():
        return f"{name} {given.dtype} instead of {own.dtype}"
    if own.is_floating_point() and given.dtype != own.dtype and not bool(torch.isfinite(given.to(own.dtype)).all()):
        return f"{name} too large for {own.dtype}"
    return None


def _shown(name: str) -> str:
    """Return a name out of a file as a message can hold it: one line, not too long."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= _LONGEST_SHOWN else f"{plain[:_LONGEST_SHOWN]}..."


def _summary(missing: list[str], unexpected: list[str], unfit: list[str]) -> str:
    kinds = [("missing", missing), ("unexpected", unexpected), ("of another shape or type", unfit)]
    return ", ".join(f"{len(names)} {kind} (first: {_shown(names[0])})" for kind, names in kinds if names)
