"""Cost of a step against what a user may enlarge; ``ratio`` is the cost over that of the smallest, per unit of size.

1 is linear growth, less is better, more needs a reason.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.record import Row, write
from benchmarks.workers import Worker

PAIR = "resnet20:resnet8"
SERIES: dict[str, tuple[str, tuple[tuple[int, list[str]], ...]]] = {
    "training images (crd)": (
        "crd",
        tuple((count, ["--images", str(count)]) for count in (5_000, 20_000, 50_000)),
    ),
    "classes (kd)": ("kd", tuple((count, ["--classes", str(count)]) for count in (10, 100, 1_000))),
    "pixels a side, squared (kd)": ("kd", tuple((side**2, ["--size", str(side)]) for side in (32, 48, 64))),
    "lanes (kd)": ("kd", ((1, []), (2, []), (4, []))),
}


def measure(series: str, rounds: int) -> list[Row]:
    """Measure one series."""
    method, points = SERIES[series]
    rows: list[Row] = []
    for size, options in points:
        methods = "+".join([method] * size) if series.startswith("lanes") else method
        few = [] if "--images" in options else ["--images", "2000"]
        same = ["--compile-teacher", "off"]  # by itself it hangs on the number of images
        with Worker("benchmarks.our_steps", methods, PAIR, *options, *few, *same) as worker:
            worker.step()
            taken = median(worker.step() for _ in range(rounds))
        first = rows[0] if rows else None
        growth = 1.0 if first is None else (taken / float(first["seconds"])) / (size / float(first["size"]))
        rows.append({"case": f"{series} {size:,}", "size": size, "seconds": taken, "ratio": growth})
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every series, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="series whose name contains this")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    rows = [row for series in SERIES if asked.only in series for row in measure(series, asked.rounds)]
    write("growth", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    main()
