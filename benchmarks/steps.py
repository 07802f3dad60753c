"""One training step of the authors' own code against ours, in turn, batch 64: ``ratio`` is their time over ours.

Two processes step alternately on the same cores, so that both meet the same machine, and each keeps the memory
allocator that its users would have: theirs the system's default, ours as the command line sets it. What a run compiles
for the machine at its first time (see `benchmarks.compiled`) is there already where ours has run once before.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.official_steps import THEIR_WORD
from benchmarks.record import Row, write
from benchmarks.workers import Worker, paired, ratio

CASES = (
    ("sskd", "resnet32x4:shufflenetv2"),
    ("sskd", "resnet32x4:resnet8x4"),
    ("sskd", "wrn_40_2:wrn_16_2"),
    ("kd", "resnet32x4:resnet8x4"),
    ("fitnet", "resnet32x4:resnet8x4"),
    ("crd", "resnet32x4:resnet8x4"),
)


def measure(method: str, pair: str, clone: Path, rounds: int) -> Row:
    """Measure one case."""
    with (
        Worker("benchmarks.official_steps", THEIR_WORD.get(method, method), pair, str(clone)) as theirs,
        Worker("benchmarks.our_steps", method, pair) as ours,
    ):
        official, own = paired(theirs, ours, rounds)
        peaks = [worker.finish()["peak_bytes"] for worker in (theirs, ours)]
    return {
        "case": f"{method} {pair}",
        "official_s": median(official),
        "ours_s": median(own),
        "ratio": ratio(official, own),
        "lowest": min(one / other for one, other in zip(official, own, strict=True)),
        "highest": max(one / other for one, other in zip(official, own, strict=True)),
        "memory_ratio": peaks[1] / peaks[0],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases asked for, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sskd", type=Path, required=True, help="clone of the SSKD authors' code")
    parser.add_argument("--repdistiller", type=Path, required=True, help="clone of the benchmark")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    rows = []
    for method, pair in CASES:
        if asked.only in f"{method} {pair}":
            clone = asked.sskd if method == "sskd" else asked.repdistiller
            rows.append(measure(method, pair, clone.resolve(), asked.rounds))
            print(rows[-1], flush=True)
    write("steps", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    main()
