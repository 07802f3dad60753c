"""Training steps on an accelerator, batch 64: ``ratio`` is the time of a step as it stands over that of a recorded one.

Each step is also held against two limits measured on the same device: all its arithmetic at the rate of a large
bfloat16 matrix product, and all its kernels launched one by one. ``--device cpu --steps 2`` does the same on a CPU.
"""

import argparse
import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.device import Limits, Work, forget_peak, limits, name_of, peak_bytes
from benchmarks.our_steps import random_images
from benchmarks.record import Row, write
from compressor.config.layers import Layer, resolve
from compressor.engine.rehearsal import last_phase
from compressor.engine.repeated import CHECKS, WARM_UP
from compressor.engine.trainer import PhaseLoop

PAIRS = ("resnet32x4:shufflenetv2", "resnet32x4:resnet8x4", "wrn_40_2:wrn_16_2")
CASES = (("teacher", "resnet32x4:resnet32x4"), *((method, pair) for pair in PAIRS for method in ("kd", "sskd")))
BATCH, IMAGES_OF_A_RUN, EPOCHS = 64, 50_000, 240
STEPS_OF_A_RUN = -(-IMAGES_OF_A_RUN // BATCH) * EPOCHS


def loop_of(method: str, pair: str, source: Path, settings: dict[str, Any]) -> PhaseLoop:
    """Set up the loop that trains a pair's student, or under ``teacher`` a network without a teacher."""
    teacher, student = pair.split(":")
    given = {
        "data.source": str(source),
        "data.val_split": 0.0,
        "teacher.name": teacher,
        "student.name": student,
        "training.batch_size": BATCH,
        "method.name": "scratch" if method == "teacher" else method,
        **settings,
    }
    return last_phase([resolve([Layer("benchmark", given)]).config])


def work_of(method: str, pair: str, source: Path, settings: dict[str, Any]) -> Work:
    """Count the arithmetic and the kernels of one step, data among them."""
    loop, work = loop_of(method, pair, source, {**settings, "runtime.capture": "off"}), Work()
    loop.rehearse(2)
    with work:
        loop.rehearse(1)
    return work


def measure(
    method: str, pair: str, source: Path, settings: dict[str, Any], work: Work, most: Limits, steps: int
) -> Row:
    """Measure one case in one form."""
    loop = loop_of(method, pair, source, settings)
    device = loop.session.runtime.device
    forget_peak(device)
    seconds = loop.seconds_a_step(WARM_UP + CHECKS + 1, steps)
    images = BATCH * loop.seats[0].lane.needs.views.count
    return {
        "case": f"{method} {pair}",
        "precision": settings["training.precision"],
        "recorded": loop.seats[0].lane.recorded,
        "ms_a_step": 1000 * seconds,
        "images_per_s": BATCH / seconds,
        "views_per_s": images / seconds,
        "of_arithmetic": work.flops / most.flops_per_second / seconds,
        "of_launches": work.kernels * most.seconds_per_launch / seconds,
        "kernels": work.kernels,
        "peak_gib": peak_bytes(device) / 2**30,
        "s_for_240_epochs": STEPS_OF_A_RUN * seconds,
    }


def rows_of(method: str, pair: str, source: Path, device: str, most: Limits, steps: int) -> tuple[list[Row], float]:
    """Measure a case in every form, as it stands first; return the rows, and the lowest ratio of the two forms."""
    rows, ratios = [], []
    for precision in ("fp32",) if device == "cpu" else ("fp32", "bf16"):
        settings = {"runtime.device": device, "training.precision": precision}
        work = work_of(method, pair, source, settings)
        for capture in ("off", "on"):
            gc.collect()  # graphs and their memory go when nobody holds them
            rows.append(measure(method, pair, source, {**settings, "runtime.capture": capture}, work, most, steps))
            print(rows[-1], flush=True)
        ratios.append(rows[-2]["ms_a_step"] / rows[-1]["ms_a_step"])
    return rows, min(ratios)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases asked for, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--images", type=int, default=IMAGES_OF_A_RUN)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    device = torch.device(asked.device)
    most = limits(device)
    rate, launch = most.flops_per_second / 1e12, 1e6 * most.seconds_per_launch
    print(f"{name_of(device)}: {rate:.3g} TFLOP/s, {launch:.1f} us a launch")
    rows: list[Row] = []
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = random_images(Path(folder), images=asked.images, size=32, classes=100)
        for method, pair in CASES:
            if asked.only in (case := f"{method} {pair}"):
                measured, ratios[case] = rows_of(method, pair, source, asked.device, most, asked.steps)
                rows += measured
    write("gpu", rows, asked.json, ratios=ratios)


if __name__ == "__main__":
    main()
