"""The cells of a grid: for each contender and seed the settings of an ordinary run, and where it lies."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.comparison.contenders import EQUAL_COMPUTE, VIEWS, Contender, contenders
from compressor.config.settings import MethodConfig, RunConfig, differing_keys
from compressor.engine.folders import default_folder
from compressor.engine.inputs import Objects, object_names
from compressor.engine.jobs import Cell
from compressor.engine.methods import known_settings, prepared
from compressor.errors import CompressorError, PluginError, UsageError, suggestion

ConfigFor = Callable[[Mapping[str, Any]], RunConfig]
"""Settings with some dotted keys overridden; recipes that depend on them are applied anew."""


def line_up(config_for: ConfigFor, methods: Sequence[str], *, equal_compute: bool) -> list[Contender]:
    """Return the rows of a grid: the methods, and baselines of equal compute where the settings give cause for them."""

    def views_of(method: str) -> int:
        config = config_for({"method.name": method})
        mine = {key: value for key, value in config.method.settings.items() if key in _settings_of(method)}
        try:
            kind, settings = prepared(MethodConfig(name=method, settings=mine))
        except CompressorError:  # its cell says so when it is run
            return 1
        return kind.needs_for(settings).views.count

    possible = equal_compute and VIEWS in _settings_of(EQUAL_COMPUTE)
    return contenders(methods, views_of, equal_compute=possible)


def plan_cells(
    config_for: ConfigFor, rows: Sequence[Contender], place: tuple[str, str, int], folder: Path, objects: Objects
) -> list[Cell]:
    """Return the cells of one teacher, student and seed, which share a loop.

    Args:
        place: teacher, student, seed. folder: below which the runs lie.

    Raises:
        UsageError: a setting that no compared method has, or recipes that give one method other data or networks.
    """
    teacher, student, seed = place
    common = {"teacher.name": teacher, "student.name": student, "seed": seed}
    configs = [object_names(objects, config_for({**common, **_overrides(row)})) for row in rows]
    _refuse_unknown(configs, [row.method for row in rows])
    cells = []
    for row, config in zip(rows, configs, strict=True):
        known = _settings_of(row.method)
        mine = {key: value for key, value in config.method.settings.items() if key in known}
        own = config.with_method(row.method, mine)
        cells.append(Cell(own, default_folder(own, folder / "cells"), "" if row.label == row.method else row.label))
    _same_loop(cells)
    return cells


def _overrides(row: Contender) -> dict[str, Any]:
    own = {f"method.{row.method}.{key}": value for key, value in row.settings.items()}
    return {"method.name": row.method, **own}


def _refuse_unknown(configs: Sequence[RunConfig], methods: Sequence[str]) -> None:
    everything = {setting for method in methods for setting in _settings_of(method)}
    for key in sorted({key for config in configs for key in config.method.settings}):
        if key not in everything:
            raise UsageError(f"no compared method has a setting {key!r}", hint=suggestion(key, everything) or None)


def _settings_of(method: str) -> frozenset[str]:
    """Return a method's settings; one that is not there or broken has none, and says so when its cell is run."""
    try:
        return known_settings(method)
    except (PluginError, UsageError):
        return frozenset()


def _same_loop(cells: Sequence[Cell]) -> None:
    """Cells of a group differ in their method and how it trains, in nothing else."""
    first = cells[0].config
    for cell in cells[1:]:
        keys = [text.split(" ")[0] for text in differing_keys(first, cell.config)]
        odd = [key for key in keys if not key.startswith(("method.", "training."))]
        if odd:
            raise UsageError(
                f"recipes give {cell.config.method.name} another {', '.join(odd)} than {first.method.name}"
            )
