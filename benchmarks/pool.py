"""A run with an augmentation pool against the same run without: ``ratio`` is the time without over the time with.

SSKD's step is timed with fresh draws, with a pool whose answers are not yet kept, and with one whose answers are: in
turn, in processes of their own. A run of E epochs with K draws is K epochs of the second kind and E - K of the third.
With ``--sskd`` the authors' own step is timed beside them.

``--accuracy`` trains students on the embedded digits instead, with and without a pool, and tells the paired difference:
fewer draws are another training, and may cost accuracy.
"""

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean, median
from typing import Any

from benchmarks.record import Row, write
from benchmarks.workers import Worker

PAIR = "resnet32x4:shufflenetv2"
METHODS = ("kd", "sskd")
_WARM_UP = 2


def measure(pair: str, pool: int, epochs: int, rounds: int, clone: Path | None) -> Row:
    """Let every kind of step take its turn, and weigh their medians by the epochs of each."""
    pooled = ("benchmarks.pooled_steps", "--pool", str(pool))
    with ExitStack() as stack:
        workers = {
            "fresh": stack.enter_context(Worker("benchmarks.our_steps", "sskd", pair)),
            "empty": stack.enter_context(Worker(pooled[0], "empty", pair, *pooled[1:])),
            "full": stack.enter_context(Worker(pooled[0], "full", pair, *pooled[1:])),
        }
        if clone is not None:
            workers["official"] = stack.enter_context(Worker("benchmarks.official_steps", "sskd", pair, str(clone)))
        times = _in_turn(workers, rounds)
        for worker in workers.values():
            worker.finish()
    weighted = [
        (pool * empty + (epochs - pool) * full) / epochs
        for empty, full in zip(times["empty"], times["full"], strict=True)
    ]
    row: Row = {
        "case": f"sskd {pair}, pool {pool}, {epochs} epochs",
        "fresh_s": median(times["fresh"]),
        "empty_s": median(times["empty"]),
        "full_s": median(times["full"]),
        "pooled_s": median(weighted),
        "ratio": _ratio(times["fresh"], weighted),
    }
    if clone is not None:
        row |= {"official_s": median(times["official"]), "official_ratio": _ratio(times["official"], weighted)}
    return row


def _in_turn(workers: dict[str, Worker], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in workers}
    for number in range(_WARM_UP + rounds):
        names = list(workers) if number % 2 == 0 else list(reversed(workers))
        for name in names:
            seconds = workers[name].step()
            if number >= _WARM_UP:
                times[name].append(seconds)
    return times


def _ratio(first: Sequence[float], second: Sequence[float]) -> float:
    return median(one / other for one, other in zip(first, second, strict=True))


def accuracy(pool: int, seeds: int, settings: dict[str, Any]) -> list[Row]:
    """Train each method with fresh draws and with a pool, from the same weights and in the same order."""
    from compressor.comparison.statistics import differences

    top1: dict[tuple[str, object], dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for draws in ("fresh", pool):
            for seed in range(seeds):
                for method, value in _trained(Path(folder), draws, seed, settings).items():
                    top1.setdefault((method, draws), {})[seed] = value
    rows: list[Row] = []
    for method in METHODS:
        fresh, pooled = top1[method, "fresh"], top1[method, pool]
        found = differences({"pool": pooled}, fresh)["pool"]
        rows.append(
            {
                "case": f"{method} on digits, {seeds} seeds",
                "fresh_top1": fmean(fresh.values()),
                f"pool_{pool}_top1": fmean(pooled.values()),
                "difference": found.mean,
                "low": "none" if found.interval is None else found.interval[0],
                "high": "none" if found.interval is None else found.interval[1],
                "verdict": found.verdict,
            }
        )
    return rows


def _trained(folder: Path, draws: object, seed: int, settings: dict[str, Any]) -> dict[str, float]:
    from compressor.config.layers import Layer, resolve
    from compressor.engine.jobs import Cell
    from compressor.engine.runs import run_cells

    cells = []
    for method in METHODS:
        given = {**settings, "method.name": method, "seed": seed, "data.augmentation_pool": draws}
        cells.append(Cell(resolve([Layer("benchmark", given)]).config, folder / f"{method}-{draws}-{seed}"))
    found = {}
    for method, outcome in zip(METHODS, run_cells(cells, fail_fast=True), strict=True):
        assert outcome.result is not None
        found[method] = float(outcome.result.values["metrics"]["top1"])
        print(f"{method} {draws} seed {seed}: {found[method]:.2f}", flush=True)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sskd", type=Path, help="clone of the SSKD authors' code")
    parser.add_argument("--pair", default=PAIR)
    parser.add_argument("--pool", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--accuracy", action="store_true", help="train on digits with and without the pool")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the trainings on digits")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    if not asked.accuracy and not 0 < asked.rounds <= asked.pool - _WARM_UP:
        parser.error(f"a pool of {asked.pool} is empty for {asked.pool - _WARM_UP} rounds after the first two")
    if asked.accuracy:
        rows = accuracy(asked.pool, asked.seeds, _settings(asked.set))
        write("pool-accuracy", rows, asked.json, ratios={})
        return
    clone = None if asked.sskd is None else asked.sskd.resolve()
    row = measure(asked.pair, asked.pool, asked.epochs, asked.rounds, clone)
    ratios = {str(row["case"]): float(row["ratio"])}
    if clone is not None:
        ratios["against the authors' step"] = float(row["official_ratio"])
    write("pool", [row], asked.json, ratios=ratios)


def _settings(assignments: Sequence[str]) -> dict[str, Any]:
    from compressor.config.layers import parse_assignment

    given = {"data.source": "digits", "teacher.name": "resnet20", "student.name": "resnet8"}
    return given | dict(parse_assignment(text) for text in assignments)


if __name__ == "__main__":
    main()
