"""Whether an accelerator computes what a CPU computes, recorded or not: a minute, before anything is measured there.

The same few steps of five methods on the same random images: on the CPU; on the device as plainly as it can; as a run
does them; recorded; and recorded in bfloat16. Each is held against the one before it. Ends with 1 when two disagree.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.gpu import loop_of
from benchmarks.our_steps import random_images
from benchmarks.record import Row, write
from compressor.engine.capture import recorder_for
from compressor.engine.repeated import CHECKS, WARM_UP

METHODS = ("scratch", "kd", "fitnet", "crd", "sskd")
PAIR = "resnet14:resnet8"
STEPS = WARM_UP + CHECKS + 5
FORMS: Mapping[str, tuple[dict[str, Any], float]] = {
    "cpu": ({"runtime.device": "cpu", "runtime.plain": True}, 0.0),
    "plain": ({"runtime.plain": True}, 2e-3),
    "eager": ({"runtime.capture": "off"}, 2e-2),
    "recorded": ({"runtime.capture": "on"}, 2e-3),
    "recorded bf16": ({"runtime.capture": "on", "training.precision": "bf16"}, 1e-1),
}
"""Settings of each form, and how far, relatively, its mean losses may lie from those of the form before it."""


def losses(method: str, source: Path, device: str, settings: dict[str, Any]) -> tuple[dict[str, float], bool, bool]:
    """Do the steps; return the mean of each term over them, whether they were recorded, whether the host waited."""
    own = {"method.negatives": 512} if method == "crd" else {}
    loop = loop_of(method, PAIR, source, {"runtime.device": device, "training.lr": 0.01, **own, **settings})
    strict = recorder_for(loop.session.runtime.device, "auto", 1)
    waited = False
    with ExitStack() as stack:
        try:
            for number, _ in enumerate(loop.rehearsed(STEPS + 2)):
                if number == STEPS - 1 and strict is not None:
                    stack.enter_context(strict.strict())
        except RuntimeError as cause:
            print(f"{method}: {cause}")
            waited = True
    lane = loop.seats[0].lane
    means = dict(lane.meter.means())
    return means, lane.recorded, waited


def rows_of(method: str, source: Path, device: str, forms: Sequence[str]) -> list[Row]:
    """Hold each form of a method against the one before."""
    rows: list[Row] = []
    before: dict[str, float] = {}
    for form in forms:
        settings, tolerance = FORMS[form]
        means, recorded, waited = losses(method, source, device, settings)
        error = max((abs(means[name] - value) / max(abs(value), 1e-3) for name, value in before.items()), default=0.0)
        well = error <= tolerance and not waited and recorded == form.startswith("recorded")
        rows.append({"method": method, "form": form, "loss": sum(means.values()), "error": error,
                     "allowed": tolerance, "recorded": recorded, "well": well})  # fmt: skip
        before = means
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Check every method, print a table; 1 where two forms disagree."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    forms = [form for form in FORMS if asked.device != "cpu" or "bf16" not in form]
    with tempfile.TemporaryDirectory() as folder:
        source = random_images(Path(folder), images=64 * (STEPS + 4), size=32, classes=10)
        rows = [row for method in METHODS for row in rows_of(method, source, asked.device, forms)]
    write("gpu_check", rows, asked.json, ratios={})
    wrong = [f"{row['method']} {row['form']}" for row in rows if not row["well"]]
    print("everything agrees" if not wrong else f"disagree: {', '.join(wrong)}")
    return min(1, len(wrong))


if __name__ == "__main__":
    sys.exit(main())
