"""From what was typed to one `RunConfig`: files, environment and options, with the origin of each value."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.cache import user_config_file
from compressor.cli.options import Setting
from compressor.errors import UsageError

if TYPE_CHECKING:
    from compressor.config.layers import Layer, Resolved


@dataclass(frozen=True, kw_only=True)
class Given:
    """The settings as they were typed.

    Args:
        settings: the options this command knows. options: what followed each of them, in order.
        config: files of ``--config``. assignments: of ``--set``. recipe: of ``--recipe``.
    """

    settings: Sequence[Setting] = ()
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    config: Sequence[str] = ()
    assignments: Sequence[str] = ()
    recipe: str | None = None

    def resolved(
        self, overrides: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
    ) -> "Resolved":
        """Merge all layers; recipes that depend on ``overrides``, which win over everything, are applied anew.

        Raises:
            UsageError: a value that cannot be, an unknown key, or one key given twice with different values.
        """
        from compressor.config.layers import Layer, resolve

        environ = os.environ if environ is None else environ
        layers = [*self._files(environ), *self._environment(environ), *self._command_line()]
        layers += [Layer("the comparison", overrides)] if overrides else []
        fallback = environ.get("COMPRESS_RECIPE") or None
        return resolve(layers, recipe=fallback if self.recipe is None else self.recipe)

    def _files(self, environ: Mapping[str, str]) -> "list[Layer]":
        from compressor.config.layers import read_file

        own = user_config_file()
        given = self.config or [name for name in environ.get("COMPRESS_CONFIG", "").split(os.pathsep) if name]
        return [read_file(path) for path in ([own] if own.is_file() else []) + [Path(name) for name in given]]

    def _environment(self, environ: Mapping[str, str]) -> "list[Layer]":
        told = [
            (setting.key, setting.read(environ[setting.variable], setting.variable), setting.variable)
            for setting in self.settings
            if environ.get(setting.variable)
        ]
        told += [(*_assignment(text), "COMPRESS_SET") for text in environ.get("COMPRESS_SET", "").split(";") if text]
        return _layers(told)

    def _command_line(self) -> "list[Layer]":
        told = [
            (setting.key, setting.read(text, f"--{setting.option}"), f"--{setting.option}")
            for setting in self.settings
            for text in self.options.get(setting.option, ())
        ]
        told += [(*_assignment(text), "--set") for text in self.assignments]
        return _layers(told)


def _assignment(text: str) -> tuple[str, Any]:
    from compressor.config.layers import parse_assignment

    return parse_assignment(text)


def _layers(told: Sequence[tuple[str, Any, str]]) -> "list[Layer]":
    """Make a layer of each value, so that each keeps the origin it was written at.

    Raises:
        UsageError: one key has two different values.
    """
    from compressor.config.layers import Layer

    first: dict[str, tuple[Any, str]] = {}
    for key, value, origin in told:
        known, place = first.setdefault(key, (value, origin))
        if known is not value and known != value:
            raise UsageError(
                f"{key} is given twice: {place} says {known!r}, {origin} says {value!r}",
                hint="leave one of them out",
            )
    return [Layer(origin, {key: value}) for key, (value, origin) in first.items()]
