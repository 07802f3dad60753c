"""How a comparison was made: commands, versions, machine, hashes, settings, and where each run lies."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.comparison.columns import NONE, Number
from compressor.comparison.report.svg import NumberTable
from compressor.comparison.table import CellRecord
from compressor.config.settings import flatten
from compressor.publishing.facts import public_command

_ENVIRONMENT = ("compressor", "python", "torch", "timm", "machine", "threads")


@dataclass(frozen=True)
class Made:
    """The last part of the page.

    Args:
        commands: that made the runs, and the comparison. facts: name and value, such as versions and hashes.
        settings: those that all runs share. methods: each method's settings that differ from its defaults.
        runs: a line a run. failures: method, seed, reason and folder of each that did not finish.
    """

    commands: Sequence[str]
    facts: Sequence[tuple[str, str]]
    settings: Sequence[tuple[str, str]]
    methods: Sequence[tuple[str, str]]
    runs: NumberTable
    failures: Sequence[tuple[str, int, str, str]]


def how_made(cells: Sequence[CellRecord], command: str, folder: Path) -> Made:
    """Collect it from the runs; absolute paths are shortened, so that the page can be shown to others."""
    runs = [cell.evidence.run for cell in cells if cell.evidence is not None]
    given = [command, *(str(run.get("command") or "") for run in runs)]
    return Made(
        commands=[public_command(text) for text in dict.fromkeys(given) if text],
        facts=_facts(runs),
        settings=_shared([_flat(run) for run in runs]),
        methods=_methods(cells),
        runs=_runs(cells, folder),
        failures=[
            (cell.method, cell.seed, cell.reason, _place(cell.folder, folder)) for cell in cells if cell.result is None
        ],
    )


def _facts(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    facts = [(name, _every((run.get("environment") or {}).get(name) for run in runs)) for name in _ENVIRONMENT]
    facts += [
        ("data SHA-256", _every(run.get("data_sha256") for run in runs)),
        ("teacher SHA-256", _every(run.get("teacher_sha256") for run in runs)),
        ("begun", _every(sorted(str(run["began"]) for run in runs if run.get("began"))[:1])),
    ]
    return [(name, value) for name, value in facts if value]


def _every(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))


def _flat(run: Mapping[str, Any]) -> dict[str, Any]:
    return flatten({key: value for key, value in run.get("config", {}).items() if key not in ("seed", "method")})


def _shared(settings: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the settings that all runs have alike; the others are told with the methods and pairs."""
    if not settings:
        return []
    first = settings[0]
    alike = [key for key in sorted(first) if all(key in own and own[key] == first[key] for own in settings)]
    return [(key, public_command(str(first[key]))) for key in alike if first[key] is not None]


def _methods(cells: Sequence[CellRecord]) -> list[tuple[str, str]]:
    lines: dict[str, str] = {}
    for cell in cells:
        if cell.evidence is None or cell.method in lines:
            continue
        config = cell.evidence.run.get("config", {})
        own = config.get("method", {}).get("settings", {})
        words = [f"{key} {value}" for key, value in sorted(own.items())]
        lines[cell.method] = public_command(", ".join(words)) or "its defaults"
    return list(lines.items())


def _runs(cells: Sequence[CellRecord], folder: Path) -> NumberTable:
    rows = []
    for cell in cells:
        if cell.result is None:
            continue
        top1 = float(cell.result["metrics"]["top1"])
        rows.append(
            (
                (cell.pair,),
                (cell.method,),
                (str(cell.seed),),
                (Number("top1", top1, f"{top1:.2f}"),),
                (str(cell.result.get("config_sha256") or NONE)[:12],),
                (str(cell.result["student"].get("sha256") or NONE)[:12],),
                (_place(cell.folder, folder),),
            )
        )
    return NumberTable(("pair", "method", "seed", "top-1 %", "settings", "weights", "run"), rows)


def _place(run: str, folder: Path) -> str:
    """Return where a run lies, seen from the page; nothing of the way there where it lies elsewhere."""
    path = Path(os.path.relpath(run, folder))
    return path.name if ".." in path.parts else str(path)
