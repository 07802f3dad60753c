"""Several students in one loop against one run each: ``ratio`` is the sum of the runs' steps over the loop's step.

With clones of the authors' code ``official_ratio`` is the sum of their steps over it, for methods that they have. What
lanes share is the teacher: the faster its pass, the less there is to save, so the groups are measured with its
convolutions compiled, as long runs have them, and as they stand.
"""

import argparse
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.official_steps import THEIR_WORD
from benchmarks.record import Row, write
from benchmarks.workers import Worker

PAIR = "resnet32x4:resnet8x4"
GROUPS = {
    "kd,fitnet,crd,sskd": ("kd", "fitnet", "crd", "sskd"),
    "eight single-view methods": ("kd", "fitnet", "at", "sp", "rkd", "pkt", "dkd", "dist"),
    "kd, three first weights": ("kd", "kd", "kd"),
}
SMALL = "scratch,kd,crd,sskd"
"""The methods of the ledger's study on CIFAR-100, measured on its pair."""
SMALL_PAIR = "resnet20:resnet8"
OFFICIAL = "kd,fitnet,crd,sskd"
"""The group that the authors' own code is measured beside."""


def measure(
    name: str,
    methods: Sequence[str],
    rounds: int,
    clones: Mapping[str, Path],
    *,
    pair: str = PAIR,
    compiled: bool = True,
) -> Row:
    """Let the loop and the single runs step in turn; the median over the rounds of each."""
    different = list(dict.fromkeys(methods))
    given = [pair, *([] if compiled else ["--compile-teacher", "off"])]
    with ExitStack() as stack:
        alone = {method: stack.enter_context(Worker("benchmarks.our_steps", method, *given)) for method in different}
        theirs = {
            method: stack.enter_context(
                Worker("benchmarks.official_steps", THEIR_WORD.get(method, method), pair, str(clones[method]))
            )
            for method in different
            if method in clones and name == OFFICIAL
        }
        together = stack.enter_context(Worker("benchmarks.our_steps", "+".join(methods), *given))
        times: list[tuple[float, float, float]] = []
        for number in range(rounds + 1):
            single = {method: worker.step() for method, worker in alone.items()}
            loop = together.step()
            official = sum(worker.step() for worker in theirs.values())
            if number:  # the first round warms up
                times.append((sum(single[method] for method in methods), loop, official))
    ratios = [separate / loop for separate, loop, _ in times]
    return {
        "case": ", ".join([name, *([pair] if pair != PAIR else []), *([] if compiled else ["as it stands"])]),
        "separate_s": median(separate for separate, _, _ in times),
        "loop_s": median(loop for _, loop, _ in times),
        "ratio": median(ratios),
        "lowest": min(ratios),
        "highest": max(ratios),
        **({"official_ratio": median(official / loop for _, loop, official in times)} if theirs else {}),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every group, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sskd", type=Path, help="clone of the SSKD authors' code")
    parser.add_argument("--repdistiller", type=Path, help="clone of the benchmark")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="groups whose name contains this")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    clones: dict[str, Path] = {}
    if asked.sskd and asked.repdistiller:
        clones = {method: asked.repdistiller.resolve() for method in ("kd", "fitnet", "crd")}
        clones["sskd"] = asked.sskd.resolve()
    rows = [
        measure(name, methods, asked.rounds, clones, compiled=compiled)
        for name, methods in GROUPS.items()
        if asked.only in name
        for compiled in (True, False)
    ]
    if asked.only in f"{SMALL}, {SMALL_PAIR}":
        rows.append(measure(SMALL, SMALL.split(","), asked.rounds, {}, pair=SMALL_PAIR))
    write("lanes", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    main()
