"""From defaults, recipes, files, environment and options to one `RunConfig`, remembering where each value came from.

A layer is a flat table of dotted keys: ``seed``, ``teacher.name``, ``data.source``, ``training.lr``, ``method.name``,
``method.KEY`` (a setting of whichever method runs) and ``method.NAME.KEY`` (a setting of method NAME only).
Later layers win: defaults < recipes that apply by themselves < ``--recipe`` < user config < ``--config`` files, left
to right < environment < options and ``--set``.
"""

import math
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from compressor.config.places import line_of, lines_of
from compressor.config.recipes import Recipe, automatic, named
from compressor.config.settings import MethodConfig, RunConfig, flatten
from compressor.errors import UsageError, suggestion

SECTIONS = {item.name: item.type for item in fields(RunConfig)}
_PLAIN_KEYS = {
    f"{section}.{item.name}"
    for section, kind in SECTIONS.items()
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__") and kind is not MethodConfig
    for item in fields(kind)
} | {"seed", "method.name"}
_FLAGS = {
    f"{section}.{item.name}"
    for section, kind in SECTIONS.items()
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__")
    for item in fields(kind)
    if item.type is bool
}
_LARGEST_FILE = 1_000_000
_LONGEST_LINE = 2_000
_LONGEST_SHOWN = 100


@dataclass(frozen=True)
class Layer:
    """Values and the place they were written: a file, ``--lr``, ``COMPRESS_LR`` ..."""

    origin: str
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def place(self, key: str) -> str:
        """Return where a key was written: the origin, and the line of a file."""
        return f"{self.origin}:{self.lines[key]}" if key in self.lines else self.origin


@dataclass(frozen=True)
class Resolved:
    """A run's settings, and for each dotted key the origin of its value; keys not named there are defaults."""

    config: RunConfig
    origins: Mapping[str, str]
    recipes: tuple[str, ...]


def read_file(path: Path) -> Layer:
    """Read a TOML file of settings.

    Raises:
        UsageError: no regular file, larger than 1 MB, not UTF-8, not TOML, or an unknown key in it, with its line.
    """
    raw = _read(path)
    try:
        text = raw.decode("utf-8-sig")
        _refuse_long_lines(text, path)
        tree = tomllib.loads(text)
        values = flatten(tree)
    except (ValueError, RecursionError) as cause:  # a broken TOML or UTF-8 file, or a number of thousands of digits
        found = re.search(r"\(at line (\d+), column \d+\)$", str(cause))
        place = f"{path}:{found[1]}" if found else str(path)
        raise UsageError(
            f"{place}: not a TOML file: {cause}", hint="compress init FILE writes a commented one"
        ) from cause
    lines = lines_of(text)
    known = {key: line for key in values if (line := line_of(key, lines)) is not None}
    strange = {
        key: line for key in tree if key not in SECTIONS and (line := lines.get(key)) is not None
    }  # empty ones too
    for key in (*values, *strange):
        checked({key: None}, origin=f"{path}:{line}" if (line := line_of(key, lines)) is not None else str(path))
    return Layer(str(path), values, known)


def parse_assignment(text: str) -> tuple[str, Any]:
    """Read one ``--set a.b=value``; the value is TOML, or else a plain word.

    Raises:
        UsageError: no ``=``, or an unknown key.
    """
    key, equals, value = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"--set {text!r} is not KEY=VALUE", hint="for example --set method.kd_temperature=2")
    checked({key: value}, origin="--set")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except ValueError:
        return key, value.strip()
    except RecursionError as cause:
        raise UsageError(f"--set {key}: the value is nested too deeply") from cause


def checked(values: Mapping[str, Any], *, origin: str) -> Mapping[str, Any]:
    """Return ``values`` if every key can be one.

    Raises:
        UsageError: naming the first unknown key and the nearest known ones.
    """
    for key in values:
        free = key.startswith("method.") and key.count(".") in (1, 2)
        if key not in _PLAIN_KEYS and not free:
            near = suggestion(key, _PLAIN_KEYS)
            hint = near or "compress distill --print-config"
            raise UsageError(f"{origin}: unknown setting {_shown(key)}", hint=hint)
    return values


def resolve(layers: Sequence[Layer], *, recipe: str | None = None) -> Resolved:
    """Merge the layers over defaults and recipes, and check every value.

    Args:
        layers: weakest first: user config, files, environment, options.
        recipe: name given with ``--recipe``.

    Raises:
        UsageError: unknown recipe or key, or a value of the wrong kind or out of range, naming its origin.
    """
    stated = list(layers)
    chosen: tuple[Recipe, ...] = ()
    if recipe is not None:
        chosen = named(recipe)
        stated = [*map(_as_layer, chosen), *layers]
    selection = {key: value for layer in stated for key, value in layer.values.items()}
    applying = automatic(
        {
            "data": str(selection.get("data.source", "digits")),
            "method": str(selection.get("method.name", MethodConfig().name)),
            "teacher": str(selection.get("teacher.name", RunConfig().teacher.name)),
            "student": str(selection.get("student.name", RunConfig().student.name)),
        }
    )
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    places: dict[str, str] = {}
    for layer in [*map(_as_layer, applying), *stated]:
        for key in _overruled(values, layer.values):
            del values[key], origins[key]
        for key, value in layer.values.items():
            values[key] = value
            origins[key] = layer.origin
            places[key] = layer.place(key)
    config = build(values, places)
    return Resolved(config, origins, tuple(item.name for item in (*applying, *chosen)))


def build(values: Mapping[str, Any], origins: Mapping[str, str]) -> RunConfig:
    """Make the settings from dotted keys, every value checked.

    Raises:
        UsageError: naming the key, the value and where it was written.
    """
    for key, value in values.items():
        if fault := _strange(key, value):
            raise UsageError(f"{key} {fault}" + (f" (from {origins[key]})" if key in origins else ""))
    method = str(values.get("method.name", MethodConfig().name))
    tree: dict[str, Any] = {"method": {"name": method, "settings": method_settings(values, method)}}
    for key, value in values.items():
        section, _, name = key.partition(".")
        if section == "method":
            continue
        if name:
            tree.setdefault(section, {})[name] = value
        else:
            tree[key] = value
    try:
        return TypeAdapter(RunConfig).validate_python(tree)
    except ValidationError as cause:
        raise _as_usage_error(cause, origins) from cause


def method_settings(values: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Collect ``method.KEY``, then ``method.NAME.KEY`` of this method, out of dotted keys."""
    general = {key.removeprefix("method."): value for key, value in values.items() if _is_general(key)}
    own = f"method.{method}."
    return general | {key.removeprefix(own): value for key, value in values.items() if key.startswith(own)}


def _is_general(key: str) -> bool:
    return key.startswith("method.") and key.count(".") == 1 and key != "method.name"


def _overruled(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> list[str]:
    """Find ``method.NAME.KEY`` of earlier layers about which a later one speaks for whichever method runs."""
    said = {key.removeprefix("method.") for key in later if _is_general(key)}
    return [
        key for key in earlier if key.startswith("method.") and key.count(".") == 2 and key.rpartition(".")[2] in said
    ]


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_FILE:
            return path.read_bytes()
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise UsageError(f"cannot read the config file {path}: {reason}") from cause
    if not stat.S_ISREG(status.st_mode):
        raise UsageError(f"cannot read the config file {path}: it is not a regular file")
    raise UsageError(f"config file {path} has {status.st_size:,} bytes; more than {_LARGEST_FILE:,} is not a config")


def _refuse_long_lines(text: str, path: Path) -> None:
    """Refuse what would take the parser minutes: its time grows with the square of a dotted key's length."""
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > _LONGEST_LINE:
            raise UsageError(f"{path}:{number}: not a TOML file of settings: a line of {len(line):,} characters")


def _strange(key: str, value: Any) -> str | None:
    """Say why a value can be no setting's, whatever the setting is; None where it may."""
    if isinstance(value, bool) and key in _PLAIN_KEYS and key not in _FLAGS:
        return f"is no switch, got {str(value).lower()}"
    if isinstance(value, bool | str | None):
        return None
    if isinstance(value, int):
        return None if abs(value) < 10**300 else f"must be a number of at most 300 digits, got {_shown(value)}"
    if isinstance(value, float):
        return None if math.isfinite(value) or not key.startswith("method.") else f"must be finite, got {value}"
    if isinstance(value, list | tuple):
        return next((fault for item in value if (fault := _strange(key, item))), None)
    if isinstance(value, dict):
        return next((fault for item in value.values() if (fault := _strange(key, item))), None)
    return f"cannot be a {type(value).__name__}, got {value}"


def _shown(value: Any) -> str:
    """Write a value for a message, not too long."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return f"a number of {value.bit_length():,} bits" if isinstance(value, int) else f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _as_layer(recipe: Recipe) -> Layer:
    return Layer(f"recipe {recipe.name}", checked(recipe.values, origin=f"recipe {recipe.name}"))


def _as_usage_error(cause: ValidationError, origins: Mapping[str, str]) -> UsageError:
    first = cause.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        named_key = text.split(" ", 1)[0]
        key = named_key.replace("training.", "teacher_training.") if key == "teacher_training" else named_key
        text = key + text[len(named_key) :]
    else:
        text = f"{key}: {text[0].lower()}{text[1:]}, given {_shown(first['input'])}"
    while key not in origins and "." in key:  # one item of a list
        key = key.rpartition(".")[0]
    return UsageError(text + (f" (from {origins[key]})" if key in origins else ""))
