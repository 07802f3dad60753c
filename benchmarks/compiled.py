"""What compiling a teacher's convolutions wins: ``ratio`` is the time of a pass without over that of one with.

Both forms answer the views of one SSKD step in turn, as a run on the command line would have them. ``first_s`` is what
finding out and compiling took on this machine, ``again_s`` what a later run takes for it. Needs a C++ compiler.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks.our_steps import loop_of
from benchmarks.record import Row, asked_of, write
from compressor.cli.process import prepare_process
from compressor.config.settings import RunConfig, RuntimeConfig, TrainingConfig
from compressor.engine.compiled_teacher import compiled
from compressor.engine.runtime import Runtime
from compressor.engine.session import Session, Teacher
from compressor.models.taps import TappedModel, Wanted

TEACHERS = ("resnet32x4", "wrn_40_2", "cifar_vgg13")
_VIEWS = 256  # four of each of 64 images
_WANTED = Wanted(embedding=True)


def measure(name: str, rounds: int, folder: Path) -> Row:
    """Measure one teacher."""
    loop = loop_of(["kd"], f"{name}:resnet8", folder, settings={"runtime.compile_teacher": "off"})
    teacher, session = loop.session.teacher, loop.session
    assert teacher is not None
    session = replace(session, runtime=Runtime(RuntimeConfig(device="cpu", compile_teacher="on")))
    first_s, fast = _timed(teacher, session)
    again_s, _ = _timed(teacher, session)
    images = torch.randn(_VIEWS, 3, 32, 32)
    expected, seen = (_pass(one.tapped, images)[1] for one in (teacher, fast))
    taken = [(_pass(teacher.tapped, images)[0], _pass(fast.tapped, images)[0]) for _ in range(rounds)]
    return {
        "case": f"{name}, {_VIEWS} views",
        "form_s": median(one for one, _ in taken),
        "compiled_s": median(two for _, two in taken),
        "ratio": median(one / two for one, two in taken),
        "lowest": min(one / two for one, two in taken),
        "highest": max(one / two for one, two in taken),
        "difference": float((seen - expected).abs().max() / expected.abs().max()),
        "first_s": first_s,
        "again_s": again_s,
    }


def _timed(teacher: Teacher, session: Session) -> tuple[float, Teacher]:
    began = time.perf_counter()
    fast = compiled(teacher, RunConfig(training=TrainingConfig()), session)
    return time.perf_counter() - began, fast


def _pass(tapped: TappedModel, images: Tensor) -> tuple[float, Tensor]:
    began = time.perf_counter()
    with torch.no_grad():
        answer = tapped(images, _WANTED)
    return time.perf_counter() - began, answer.logits


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the teachers, print a table, write the file."""
    asked = asked_of(__doc__, arguments)
    prepare_process(0)
    with tempfile.TemporaryDirectory() as fresh:  # what was compiled before would count as quickly compiled
        os.environ["XDG_CACHE_HOME"] = fresh
        rows = [measure(teacher, asked.rounds, Path(fresh)) for teacher in TEACHERS]
    write("compiled", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    main()
