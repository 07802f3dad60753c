"""Kills, states of the disk and bad inputs that were tried, and what came of them, row by row of the faults' catalogue.

Runs ``tests/faults`` and sums what its tests write down; ``--nightly`` asks for the large counts. A test that fails
writes down nothing, and makes this command fail too. Rows are explained in ``tests/faults/CATALOGUE.md``.
``PYTEST_ADDOPTS='-n 2'`` runs two tests at once.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.record import Row, table, where

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "faults"
SUMMED = ("tried", "tracebacks", "executions", "wrong")
CLAIMS: Mapping[str, Sequence[str]] = {
    "kills and signals": ("K4", "K5", "K8", "G1", "N4"),
    "power losses": ("K3",),
    "file operations that died, tore or were refused": ("K1", "K2", "S2"),
    "bad inputs": ("D1", "D2", "D4", "I1", "I2", "I3", "I4", "P1", "C1", "C2", "C3", "F1"),
    "files that want to run something": ("D3",),
}
"""What is claimed, and the rows that are summed for it."""


def run(tests: Sequence[str], figures: Path, *, nightly: bool, seed: int) -> int:
    """Run the tests and return pytest's exit code; their figures go into the file ``figures``, a line a test."""
    known = {"COMPRESSOR_FIGURES": str(figures), "COMPRESSOR_NIGHTLY": str(int(nightly)), "COMPRESSOR_SEED": str(seed)}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "nightly" if nightly else "not nightly", *tests]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **known}, check=False).returncode


def read(figures: Path) -> list[dict[str, Any]]:
    """Return the lines that the tests wrote; none where no test came to its end."""
    return [json.loads(line) for line in figures.read_text().splitlines()] if figures.is_file() else []


def rows_of(lines: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Sum lines by row of the catalogue, and all of them in a last row."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for line in lines:
        grouped.setdefault(str(line["row"]), []).append(line)
    rows = [_sum(name, grouped[name]) for name in sorted(grouped, key=_in_order)]
    return [*rows, _sum("all", [line for group in grouped.values() for line in group])] if rows else []


def claims_of(lines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Sum lines by what is claimed; a claim none of whose rows were run is not in it."""
    chosen = {claim: [line for line in lines if line["row"] in rows] for claim, rows in CLAIMS.items()}
    return [
        {"claim" if key == "row" else key: value for key, value in _sum(claim, found).items()}
        for claim, found in chosen.items()
        if found
    ]


def more_of(lines: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Sum what tests wrote down beyond the columns, such as the kills of a chain, by row."""
    found: dict[str, Counter[str]] = {}
    for line in lines:
        for key, value in line.items():
            if key not in SUMMED and isinstance(value, int | float):
                found.setdefault(str(line["row"]), Counter())[key] += value  # type: ignore[assignment]  # or a float
    return {row: dict(numbers) for row, numbers in found.items()}


def _sum(name: str, lines: Sequence[Mapping[str, Any]]) -> Row:
    exits: Counter[str] = Counter()
    for line in lines:
        exits.update(line["exits"])
    codes = " ".join(f"{code}:{number}" for code, number in sorted(exits.items(), key=lambda item: int(item[0])))
    return {
        "row": name,
        "tests": len(lines),
        **{key: sum(line[key] for line in lines) for key in SUMMED},
        "exits": codes,
    }


def _in_order(name: str) -> tuple[str, int]:
    return name[:1], int(name[1:]) if name[1:].isdecimal() else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the table with the commit, write the file; returns pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", nargs="*", default=[str(TESTS)], help="files or test ids; all of tests/faults")
    parser.add_argument("--nightly", action="store_true", help="the large counts")
    parser.add_argument("--seed", type=int, default=0, help="of moments and inputs")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    began = time.monotonic()
    with TemporaryDirectory() as place:
        figures = Path(place) / "figures.jsonl"
        code = run(asked.tests, figures, nightly=asked.nightly, seed=asked.seed)
        lines = read(figures)
    rows, here, seconds = rows_of(lines), where(), round(time.monotonic() - began)
    print(
        f"commit {here.get('commit')}, {'nightly' if asked.nightly else 'push'} counts, seed {asked.seed}, {seconds} s"
    )
    print(table(rows))
    print(table(claims_of(lines)))
    if asked.json is not None:
        document = {"benchmark": "faults", "nightly": asked.nightly, "seed": asked.seed, "seconds": seconds}
        document |= {"exit": code, "rows": rows, "claims": claims_of(lines), "more": more_of(lines), "where": here}
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
