"""Writes ``docs/ledger_estimates.json``: what a cell of SSKD's table would take on one H200, on paper.

    python docs/estimate_ledger.py

No GPU is used. The operations of one training step of the real networks are counted on tensors without content; their
time follows from assumed rates, which stand in the file beside every figure. It is an estimate and is called so
wherever it is shown.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from compressor.comparison.ledger.published import PublishedPair, find_table, short
from compressor.models.catalogue import resolve_name
from compressor.models.create import build

FILE = Path(__file__).with_name("ledger_estimates.json")
BATCH, IMAGES, EPOCHS, VIEWS, HEAD_EPOCHS = 64, 50_000, 240, 4, 60
STEPS = math.ceil(IMAGES / BATCH)
ASSUMED = {
    "flops_per_second": 395e12,  # TF32 of an H200, dense
    "bytes_per_second": 4.3e12,
    "seconds_per_launch": 6e-6,  # of the host, a kernel, eager
    "optimizer_kernels": 8,  # foreach SGD
    "loss_kernels": 27,  # cross entropy and softened KL
    "sskd_loss_kernels": 171,  # of the authors' code, eager
}
FIRST_EPOCHS = {"ab": 30, "ft": 30}
"""Epochs of a phase before the student's own, with a teacher and as dear as these."""
FORMULA = (
    "seconds a step = max(kernels x seconds_per_launch, sum over operations of max(flops / flops_per_second, "
    "bytes / bytes_per_second)); kernels and operations of the teacher's forward pass and of the student's forward and "
    "backward pass, batch 64, float32 storage; x 782 steps x epochs. sskd: four views, and 60 epochs of its head with "
    "the teacher's forward pass. Not counted: maps, banks and adapters of other methods, evaluation, start-up."
)


@dataclass
class Count:
    """Kernels and seconds of a stretch of work on the assumed device."""

    kernels: int = 0
    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0

    def at(self, views: int) -> "Count":
        """Return the same work on so many times the images: as many kernels, each longer."""
        return Count(self.kernels, self.seconds * views, self.flops * views, self.bytes * views)


class _Counter(TorchDispatchMode):
    """Counts what is computed; views and other changes of shape alone cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.count = Count()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket not in _FREE:
            self._add(func.overloadpacket, args, kwargs or {}, out)
        return out

    def _add(self, packet: Any, args: Any, kwargs: Any, out: Any) -> None:
        results = [item for item in tree_leaves(out) if isinstance(item, Tensor)]
        tensors = [item for item in tree_leaves((args, kwargs)) if isinstance(item, Tensor)] + results
        flops = _flops(packet, args, kwargs, out)
        moved = sum(item.numel() * item.element_size() for item in tensors)
        count = self.count
        count.kernels += len(results) if packet is torch.ops.aten.convolution_backward else 1
        count.seconds += max(flops / ASSUMED["flops_per_second"], moved / ASSUMED["bytes_per_second"])
        count.flops += flops
        count.bytes += moved


def _flops(packet: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Count multiplications and additions; torch's own count of a grouped convolution's backward pass is too high."""
    if packet is torch.ops.aten.convolution_backward:
        gradient, weight = args[0], args[2]
        wanted = sum(item is not None for item in out[:2])  # of the input and of the weights, each as dear as forward
        return 2 * wanted * gradient.numel() * weight[0].numel()
    return int(flop_registry[packet](*args, **kwargs, out_val=out)) if packet in flop_registry else 0


_FREE = {torch.ops.aten.detach, torch.ops.aten._unsafe_view, torch.ops.aten.empty_like, torch.ops.aten.empty}


def count_network(name: str) -> tuple[Count, Count]:
    """Return the work of a forward pass in eval mode, and of a training step's passes, for one batch."""
    net = build(resolve_name(name), num_classes=100, image_size=32, pretrained=False).module.to("meta")
    images = torch.zeros(BATCH, 3, 32, 32, device="meta")
    labels = torch.zeros(BATCH, dtype=torch.int64, device="meta")
    with counting() as forward, torch.no_grad():
        net.eval()(images)
    with counting() as both:
        nn.functional.cross_entropy(net.train()(images), labels).backward()
    return forward, both


@contextmanager
def counting() -> Iterator[Count]:
    """Count what is computed inside."""
    counter = _Counter()
    with counter:
        yield counter.count


def step_seconds(*parts: Count, more_kernels: int) -> float:
    """Return the seconds of a step: the host's launches or the device's work, whichever is longer."""
    kernels = sum(part.kernels for part in parts) + more_kernels
    return max(kernels * ASSUMED["seconds_per_launch"], sum(part.seconds for part in parts))


def minutes(method: str, teacher: Count, student: Count) -> float:
    """Estimate one student's run, its method's own first phase among it, in minutes.

    Args:
        teacher: of a forward pass. student: of a training step's passes.
    """
    optimizer, losses = int(ASSUMED["optimizer_kernels"]), int(ASSUMED["loss_kernels"])
    if method in ("scratch", "teacher"):
        return STEPS * EPOCHS * step_seconds(student, more_kernels=optimizer) / 60
    if method == "sskd":
        more = optimizer + int(ASSUMED["sskd_loss_kernels"])
        own = EPOCHS * step_seconds(teacher.at(VIEWS), student.at(VIEWS), more_kernels=more)
        head = HEAD_EPOCHS * step_seconds(teacher.at(VIEWS), more_kernels=more)
        return STEPS * (own + head) / 60
    epochs = EPOCHS + FIRST_EPOCHS.get(method, 0)
    return STEPS * epochs * step_seconds(teacher, student, more_kernels=optimizer + losses) / 60


def estimates() -> dict[str, Any]:
    """Return the whole file: assumptions, formula, counts and minutes by pair and method."""
    table = find_table("sskd")
    names = dict.fromkeys(name for pair in table.pairs for name in (pair.teacher, pair.student))
    counts = {name: count_network(name) for name in names}
    return {
        "device": "one H200, on paper: nothing of this was measured",
        "assumed": ASSUMED,
        "formula": FORMULA,
        "networks": {short(name): _plain(*both) for name, both in counts.items()},
        "minutes": {pair.name: _of_pair(pair, counts) for pair in table.pairs},
    }


def _of_pair(pair: PublishedPair, counts: Mapping[str, tuple[Count, Count]]) -> dict[str, float]:
    teacher, student = counts[pair.teacher], counts[pair.student]
    found = {"teacher": minutes("teacher", teacher[0], teacher[1])}
    found |= {name: minutes(name, teacher[0], student[1]) for name in pair.published if name != "teacher"}
    return {name: round(value, 1) for name, value in found.items()}


def _plain(forward: Count, both: Count) -> dict[str, Any]:
    return {
        "forward": {"kernels": forward.kernels, "gflop": round(forward.flops / 1e9, 2), "ms": _ms(forward)},
        "forward_and_backward": {"kernels": both.kernels, "gflop": round(both.flops / 1e9, 2), "ms": _ms(both)},
    }


def _ms(count: Count) -> float:
    return round(1000 * count.seconds, 3)


if __name__ == "__main__":
    FILE.write_text(json.dumps(estimates(), indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")
