"""Where the time of a training step goes, and how near it is to what the same cores can multiply and add.

``ratio`` is the share of the limit that is reached: the seconds that the step's multiply-adds would take at the rate of
a large convolution on these cores, over the seconds that the step takes.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.record import Row, write

if TYPE_CHECKING:
    from compressor.engine.trainer import PhaseLoop

CASES = (
    ("sskd", "resnet32x4:shufflenetv2"),
    ("sskd", "resnet32x4:resnet8x4"),
    ("sskd", "wrn_40_2:wrn_16_2"),
    ("kd", "resnet32x4:resnet8x4"),
    ("crd", "resnet32x4:resnet8x4"),
)
PARTS = ("data", "teacher", "student", "losses", "backward", "optimiser")
_BATCH = 64
_BACKWARD = 2  # a backward pass multiplies and adds twice what the forward pass does


class Clock:
    """Adds up seconds by the name of a part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._began: dict[str, float] = {}

    def start(self, part: str) -> None:
        """Begin a stretch of a part."""
        self._began[part] = time.perf_counter()

    def stop(self, part: str) -> None:
        """End it."""
        self.seconds[part] += time.perf_counter() - self._began[part]

    def around(self, part: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """Return the action, timed."""

        def timed(*arguments: Any, **more: Any) -> Any:
            self.start(part)
            try:
                return action(*arguments, **more)
            finally:
                self.stop(part)

        return timed


def watch(loop: "PhaseLoop", clock: Clock) -> None:
    """Hang the clock on a loop's parts; losses are what a lane computes beside its student's pass."""
    lane = loop.seats[0].lane
    module = lane.module
    for name, net in (("student", module.student), ("lane", module)):
        net.register_forward_pre_hook(lambda *_, name=name: clock.start(name))
        net.register_forward_hook(lambda *_, name=name: clock.stop(name))
    images = loop._images

    def timed_images(*arguments: Any) -> Iterator[Any]:
        batches = iter(images(*arguments))
        while True:
            clock.start("data")
            batch = next(batches, None)
            clock.stop("data")
            if batch is None:
                return
            yield batch

    patched: Any = loop
    patched._images = timed_images
    answers: Any = loop.answers
    answers.of = clock.around("teacher", loop.answers.of)
    patched._part = clock.around("data", loop._part)
    own: Any = lane
    own._backward = clock.around("pass", lane._backward)
    own._update = clock.around("optimiser", lane._update)


def parts_of(loop: "PhaseLoop", rounds: int) -> tuple[dict[str, float], float]:
    """Return the median seconds of each part of a step, and of the whole step."""
    taken: dict[str, list[float]] = defaultdict(list)
    clock = Clock()
    watch(loop, clock)
    for number in range(rounds + 1):
        clock.seconds.clear()
        began = time.perf_counter()
        loop.rehearse(1)
        whole = time.perf_counter() - began
        seen = clock.seconds
        values = {
            "data": seen["data"],
            "teacher": seen["teacher"],
            "student": seen["student"],
            "losses": seen["lane"] - seen["student"],
            "backward": seen["pass"] - seen["lane"],
            "optimiser": seen["optimiser"],
            "whole": whole,
        }
        if number:  # the first one warms up
            for part, seconds in values.items():
                taken[part].append(seconds)
    return {part: median(taken[part]) for part in PARTS}, median(taken["whole"])


def loss_backward(loop: "PhaseLoop", rounds: int) -> float:
    """Return the median seconds of the backward pass through the losses alone, down to what the student answered."""
    import torch

    lane = loop.seats[0].lane
    seen: dict[str, Any] = {}
    lane.module.register_forward_pre_hook(lambda _, given: seen.update(part=given[0], phase=given[1]))
    lane.module.student.register_forward_hook(lambda _module, _given, answer: seen.update(answer=answer))
    loop.rehearse(1)
    answer = seen["answer"].apply(lambda tensor: tensor.detach().requires_grad_(tensor.is_floating_point()))
    taken = []
    for _ in range(rounds + 1):
        terms = seen["phase"].terms(seen["part"].batch, answer, seen["part"].teacher)
        loss = torch.stack(list(terms.values())).sum()
        began = time.perf_counter()
        loss.backward()
        taken.append(time.perf_counter() - began)
    return median(taken[1:])


def convolution_rate(rounds: int = 7) -> float:
    """Return the multiply-adds a second of a large dense convolution on these cores, batch 64, channels last."""
    import torch
    from torch import nn

    net = nn.Conv2d(128, 128, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    images = torch.randn(_BATCH, 128, 32, 32).to(memory_format=torch.channels_last)
    taken = []
    with torch.inference_mode():
        for _ in range(rounds + 2):
            began = time.perf_counter()
            net(images)
            taken.append(time.perf_counter() - began)
    return _BATCH * 32 * 32 * 9 * 128 * 128 / min(taken[2:])


def multiply_adds_of(loop: "PhaseLoop", pair_views: int) -> int:
    """Count a step's multiply-adds: the teacher's forward pass, the student's forward and backward pass."""
    from compressor.models.create import multiply_adds

    size = loop.session.data.image_size
    student = multiply_adds(loop.seats[0].lane.module.student.net, size)
    teacher = 0 if loop.session.teacher is None else multiply_adds(loop.session.teacher.tapped.net, size)
    return _BATCH * pair_views * (teacher + (1 + _BACKWARD) * student)


def measure(method: str, pair: str, rounds: int, rate: float) -> Row:
    """Measure one case in this process."""
    from benchmarks.our_steps import loop_of

    with tempfile.TemporaryDirectory() as folder:
        loop = loop_of([method], pair, Path(folder))
        views = loop.seats[0].lane.needs.views.count
        limit = multiply_adds_of(loop, views) / rate
        backward = loss_backward(loop, rounds)
        parts, whole = parts_of(loop, rounds)
    small = parts["data"] + parts["losses"] + backward
    shares = {f"{part} %": 100.0 * parts[part] / whole for part in PARTS}
    return {
        "case": f"{method} {pair}",
        "seconds": whole,
        **shares,
        "data and losses %": 100.0 * small / whole,
        "limit_s": limit,
        "ratio": limit / whole,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cases asked for, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 takes the physical cores")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    from compressor.cli.process import prepare_process

    prepare_process(asked.threads, plain=False)
    rate = convolution_rate()
    print(f"a large convolution: {rate / 1e9:.1f} billion multiply-adds a second")
    wanted = [case for case in CASES if asked.only in " ".join(case)]
    rows = [measure(method, pair, asked.rounds, rate) for method, pair in wanted]
    write("shares", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    sys.exit(main())
