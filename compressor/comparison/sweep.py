"""A comparison made at several values of one setting: the same methods, seeds and teacher, one folder a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.comparison.budget import Budget
from compressor.comparison.grid import Comparison, ConfigFor, compare
from compressor.comparison.report.sweep import points_of, write_sweep
from compressor.config.settings import BASELINE, RunConfig
from compressor.engine.inputs import Objects
from compressor.engine.names import safe
from compressor.events import Fact, Listener, silent
from compressor.ranks import is_main_process
from compressor.storage import ensure_folder, preflight

_AXES = {
    "shots": "labelled images a class",
    "fraction": "training images used (%)",
    "label-noise": "share of wrong training labels",
    "imbalance": "images of the first class over those of the last",
}


@dataclass(frozen=True)
class Sweep:
    """What came out of it.

    Args:
        option: what was swept, without dashes. values: in the order given. comparisons: one a value, in that order.
        folder: of everything. page: the picture with its numbers, None where no method finished.
    """

    option: str
    values: tuple[float, ...]
    comparisons: tuple[Comparison, ...]
    folder: Path
    page: Path | None

    @property
    def pairs(self) -> list[tuple[float, Comparison]]:
        """Each value with its comparison."""
        return list(zip(self.values, self.comparisons, strict=True))

    @property
    def exit_code(self) -> int:
        """0, or that of the first comparison that failed."""
        return next((made.exit_code for made in self.comparisons if made.exit_code), 0)

    def document(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "schema": 1,
            "status": "failed" if self.exit_code else "done",
            "exit": self.exit_code,
            "option": self.option,
            "values": list(self.values),
            "folder": str(self.folder),
            "page": None if self.page is None else str(self.page),
            "comparisons": [{"value": value, **made.document()} for value, made in self.pairs],
        }


def sweep(
    config_for: ConfigFor,
    *,
    option: str,
    key: str,
    values: Sequence[float],
    methods: Sequence[str],
    seeds: int = 3,
    pairs: Sequence[tuple[str, str]] | None = None,
    baseline: str = BASELINE,
    equal_compute: bool = True,
    out: Path | None = None,
    listener: Listener = silent,
    command: str = "",
    objects: Objects | None = None,
) -> Sweep:
    """Compare methods at each value of one setting, and draw accuracy against it.

    Cells are ordinary runs: the same call again reads the finished ones and goes on with the others.

    Args:
        option: what is swept, as it names folders and the picture's axis. key: the setting, dotted.
        values: of it, at least one. Others as `compressor.comparison.grid.compare`.

    Raises:
        UsageError: a value is out of range; checked for all of them before anything is trained. Others as `compare`.
    """
    configs = [config_for({key: value}) for value in values]
    folder = out or Path(_name(configs[0], pairs, option))
    preflight(folder, create_parents=True)
    listed = ", ".join(f"{value:g}" for value in values)
    listener(Fact(title="Sweep", text=f"{option} {listed}: a comparison for each, in {folder}"))
    made = []
    budget = Budget(configs[0].runtime.time_budget)
    for value in values:
        listener(Fact(title="Value", text=f"{option} {value:g}"))
        made.append(
            compare(
                _at(config_for, key, value),
                methods=methods,
                seeds=seeds,
                pairs=pairs,
                baseline=baseline,
                equal_compute=equal_compute,
                out=folder / f"{option}-{value:g}",
                listener=listener,
                command=command,
                objects=objects,
                budget=budget,
            )
        )
    points = [point for value, each in zip(values, made, strict=True) for point in points_of(value, each.rows)]
    page = None
    if points and is_main_process():
        page = write_sweep(ensure_folder(folder), points, value_name=_AXES.get(option, option), command=command)
    return Sweep(option, tuple(values), tuple(made), folder, page)


def _at(config_for: ConfigFor, key: str, value: float) -> ConfigFor:
    def at_value(overrides: Mapping[str, Any]) -> RunConfig:
        return config_for({**overrides, key: value})

    return at_value


def _name(config: RunConfig, pairs: Sequence[tuple[str, str]] | None, option: str) -> str:
    both = list(pairs or [(config.teacher.name, config.student.name)])
    more = f"-and-{len(both) - 1}" if len(both) > 1 else ""
    return f"compare-{safe(config.data.source)}-{'-'.join(map(safe, both[0]))}{more}-by-{option}"
