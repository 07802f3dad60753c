"""Settings as a TOML document that ``--config`` reads again."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from compressor.config.settings import RunConfig, flatten


def dotted(config: RunConfig, *, runtime: bool = True) -> dict[str, Any]:
    """Return every setting that has a value, under the key that files and ``--set`` use."""
    tree = asdict(config)
    if not runtime:
        del tree["runtime"]
    method = tree.pop("method")
    flat = {key: value for key, value in flatten(tree).items() if value is not None}
    return (
        flat | {"method.name": method["name"]} | {f"method.{key}": value for key, value in method["settings"].items()}
    )


def to_toml(config: RunConfig, origins: Mapping[str, str] | None = None, *, runtime: bool = True) -> str:
    """Write the settings as TOML.

    Args:
        origins: where values come from, by dotted key; each line then says so in a comment, ``default`` where unknown.
    """
    lines: list[str] = []
    section = ""
    for key, value in sorted(dotted(config, runtime=runtime).items(), key=lambda item: "." in item[0]):
        place, _, name = key.rpartition(".")
        if place != section:
            section = place
            lines += ["", f"[{section}]"]
        comment = "" if origins is None else f"  # {_origin(key, config, origins)}"
        lines.append(f"{name} = {_value(value)}{comment}")
    return "\n".join(lines).strip() + "\n"


def _origin(key: str, config: RunConfig, origins: Mapping[str, str]) -> str:
    own = key.replace("method.", f"method.{config.method.name}.", 1) if key.startswith("method.") else key
    return origins.get(own) or origins.get(key) or "default"


def _value(value: Any) -> str:
    """TOML's plain values are JSON's, but for lists with a space and floats without a point."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_value(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML forbids it bare, JSON does not
