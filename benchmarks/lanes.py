"""Several students in one loop against one run each: ``ratio`` is the sum of the runs' steps over the loop's step."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.record import Row, write
from benchmarks.workers import Worker

PAIR = "resnet32x4:resnet8x4"
GROUPS = {
    "kd,fitnet,crd,sskd": ("kd", "fitnet", "crd", "sskd"),
    "eight single-view methods": ("kd", "fitnet", "at", "sp", "rkd", "pkt", "dkd", "dist"),
    "kd, three first weights": ("kd", "kd", "kd"),
}


def measure(name: str, methods: Sequence[str], rounds: int) -> Row:
    """Let the loop and the single runs step in turn; the median over the rounds of each."""
    alone = {method: Worker("benchmarks.our_steps", method, PAIR) for method in dict.fromkeys(methods)}
    together = Worker("benchmarks.our_steps", "+".join(methods), PAIR)
    with together:
        times: list[tuple[float, float]] = []
        for number in range(rounds + 1):
            single = {method: worker.step() for method, worker in alone.items()}
            loop = together.step()
            if number:  # the first round warms up
                times.append((sum(single[method] for method in methods), loop))
        for worker in alone.values():
            worker.finish()
    return {
        "case": name,
        "separate_s": median(separate for separate, _ in times),
        "loop_s": median(loop for _, loop in times),
        "ratio": median(separate / loop for separate, loop in times),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every group, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="groups whose name contains this")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    rows = [measure(name, methods, asked.rounds) for name, methods in GROUPS.items() if asked.only in name]
    write("lanes", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    main()
