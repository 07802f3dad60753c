"""Which networks there are and what a name means. Nothing here imports torch or timm: names must be quick to check."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from compressor.errors import InputError, UsageError, suggestion
from compressor.registry import ARCHITECTURES, Entry, names

Kind = Literal["timm", "plugin", "remote", "factory", "run", "python"]
_REMOTE = ("hf-hub:", "hf_hub:", "local-dir:")
_REGISTERED = re.compile(r"^@register_model\s*\n(?:@[^\n]*\n)*def\s+(\w+)\(", re.MULTILINE)
_FACTORY = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")


@dataclass(frozen=True, kw_only=True)
class ModelName:
    """What a name stands for.

    Args:
        given: as the user wrote it. display: short, for folders and headings.
        registered: as timm knows it, or the path.
        kind: who makes the network: ``timm``, a ``plugin`` that registers with timm, a ``remote`` or local folder
            read by timm, a ``factory`` of the user's, another ``run`` of ours, or a module given from ``python``.
    """

    given: str
    display: str
    registered: str
    kind: Kind


@cache
def timm_names() -> frozenset[str]:
    """Read the architecture names out of the installed timm's sources; it is not imported.

    Raises:
        InputError: timm is not installed.
    """
    spec = find_spec("timm")
    if spec is None or spec.origin is None:
        raise InputError("timm is not installed", hint="pip install timm")
    found: set[str] = set()
    for file in sorted((Path(spec.origin).parent / "models").glob("*.py")):
        found.update(_REGISTERED.findall(file.read_text(encoding="utf-8")))
    return frozenset(found)


def plugin_names() -> Mapping[str, tuple[Entry, ...]]:
    """Return the architectures that packages register with timm under a prefix of their own."""
    return names(ARCHITECTURES)


@cache
def short_names() -> Mapping[str, tuple[str, ...]]:
    """Map a plugin architecture's name without its prefix to the full names it may mean."""
    found: dict[str, tuple[str, ...]] = {}
    for name in sorted(plugin_names()):
        short = name.partition("_")[2]
        if short:
            found[short] = (*found.get(short, ()), name)
    return found


def resolve_name(name: str, *, role: str = "model") -> ModelName:
    """Say what a model's name stands for.

    Args:
        role: ``teacher`` or ``student``, for messages.

    Raises:
        UsageError: nothing of that name, with the nearest ones; or several things, all spelled out.
    """
    if name.startswith("run:"):
        path = name.removeprefix("run:")
        return ModelName(given=name, display=Path(path).name, registered=path, kind="run")
    if name.startswith("python:"):
        return ModelName(given=name, display=name.removeprefix("python:"), registered=name, kind="python")
    if name.startswith(_REMOTE):
        return ModelName(given=name, display=re.split(r"[/:]", name.rstrip("/"))[-1], registered=name, kind="remote")
    if _FACTORY.match(name):
        return ModelName(given=name, display=name.partition(":")[2], registered=name, kind="factory")
    if name.startswith("timm/") and name.removeprefix("timm/").split(".")[0] in timm_names():
        bare = name.removeprefix("timm/")
        return ModelName(given=name, display=bare.split(".")[0], registered=bare, kind="timm")
    if name in plugin_names():
        return ModelName(given=name, display=name.partition("_")[2] or name, registered=name, kind="plugin")
    in_timm = name.split(".")[0] in timm_names()
    plugins = short_names().get(name, ())
    meanings = [*plugins, *([f"timm/{name}"] if in_timm else [])]
    if len(meanings) > 1:
        raise UsageError(
            f"{role} {name!r} is ambiguous: it may mean {' or '.join(meanings)}",
            hint="write one of them in full",
            code="model.ambiguous",
        )
    if plugins:
        return ModelName(given=name, display=name, registered=plugins[0], kind="plugin")
    if in_timm:
        return ModelName(given=name, display=name.split(".")[0], registered=name, kind="timm")
    raise _unknown(name, role)


def timm_version() -> str:
    """Return the installed timm's version."""
    return version("timm")


def _unknown(name: str, role: str) -> UsageError:
    if "/" in name:
        hint = f"hf-hub:{name} for a hub model, local-dir:{name} for a folder"
    else:
        near = suggestion(name, timm_names() | short_names().keys())
        hint = f"{near}  compress list models '{name[:6]}*'".strip()
    kind = "model" if role == "model" else f"{role} model"
    return UsageError(f"no {kind} {name!r}", hint=hint, code="model.unknown")
