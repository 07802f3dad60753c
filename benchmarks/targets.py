"""What the measurements are held against, and the reasons for what is not reached."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
REASONS = RESULTS / "reasons.json"


@dataclass(frozen=True)
class Target:
    """One figure to reach.

    Args:
        words: what is measured. benchmark, case, key: where the figure stands, see `measured`.
        bound: to reach. least: whether the figure must be at least the bound, or at most.
        unit: behind the figures.
    """

    words: str
    benchmark: str
    case: str
    bound: float
    key: str = "ratio"
    least: bool = True
    unit: str = ""

    def reached(self, value: float) -> bool:
        """Say whether a measured value reaches the bound, as both are shown: with two digits."""
        value = round(value, 2)
        return value >= self.bound if self.least else value <= self.bound


def _step(case: str, bound: float) -> Target:
    method, pair = case.split()
    return Target(f"{method} step, {pair.replace(':', ' to ')}: official time / ours", "steps", case, bound)


_SSKD = ("resnet32x4:shufflenetv2", "resnet32x4:resnet8x4", "wrn_40_2:wrn_16_2")
_FOUR = "kd,fitnet,crd,sskd"
TARGETS = (
    *(_step(f"sskd {pair}", bound) for pair, bound in zip(_SSKD, (1.9, 2.0, 2.0), strict=True)),
    *(_step(f"{method} {_SSKD[1]}", bound) for method, bound in (("kd", 1.5), ("fitnet", 1.4), ("crd", 2.2))),
    Target(f"{_FOUR} in one loop: four runs of ours / the loop", "lanes", _FOUR, 1.35),
    Target(f"{_FOUR} in one loop: four official runs / the loop", "lanes", _FOUR, 2.4, key="official_ratio"),
    Target("eight single-view methods in one loop: eight runs / the loop", "lanes", "eight single-view methods", 2.1),
    Target(
        "sskd with a pool of 8, 48 epochs: official time / ours",
        "pool",
        f"sskd {_SSKD[0]}, pool 8, 48 epochs",
        4.0,
        key="official_ratio",
    ),
    *(
        Target(
            f"sskd, {pair.replace(':', ' to ')}: data and losses, share of a step",
            "shares",
            f"sskd {pair}",
            1.0,
            key="data and losses %",
            least=False,
            unit=" %",
        )
        for pair in _SSKD
    ),
    *(
        Target(
            f"sskd, {pair.replace(':', ' to ')}: peak memory, ours / official",
            "steps",
            f"sskd {pair}",
            1.0,
            key="memory_ratio",
            least=False,
        )
        for pair in _SSKD
    ),
    Target("`compress --help`", "startup", "compress --help", 0.35, key="seconds", least=False, unit=" s"),
)


def results(folder: Path = RESULTS) -> dict[str, Mapping[str, Any]]:
    """Read what was measured, by benchmark."""
    files = [file for file in sorted(folder.glob("*.json")) if file.name != REASONS.name]
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def reasons(file: Path = REASONS) -> Mapping[str, str]:
    """Read why something was not reached, by the target's words."""
    found: Mapping[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def measured(target: Target, found: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the figure of a target; None where it was not measured."""
    rows = found.get(target.benchmark, {}).get("rows", [])
    values = [row.get(target.key) for row in rows if row["case"] == target.case]
    return float(values[0]) if values and values[0] is not None else None
