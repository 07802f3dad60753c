"""What a trained network is worth: accuracy, calibration, agreement with its teacher, latency."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.data.types import Split
from compressor.engine.normalise import Normalisation

_BATCH = 256


@dataclass(frozen=True)
class Predictions:
    """Logits (n, K) and labels (n,) of a split, on the CPU, in its order."""

    logits: Tensor
    labels: Tensor

    @property
    def top1(self) -> float:
        """Accuracy in percent."""
        return 100.0 * float((self.logits.argmax(1) == self.labels).double().mean())

    @property
    def top5(self) -> float:
        """Share of images whose label is among the five highest scores, in percent."""
        best = self.logits.topk(min(5, self.logits.shape[1]), dim=1).indices
        return 100.0 * float((best == self.labels[:, None]).any(1).double().mean())

    @property
    def loss(self) -> float:
        """Mean cross entropy, in nats."""
        return float(F.cross_entropy(self.logits.double(), self.labels))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error over 15 bins of equal width, in [0, 1] (Guo et al. 2017, arXiv:1706.04599)."""
        confidence, predicted = self.logits.double().softmax(1).max(1)
        correct = (predicted == self.labels).double()
        bins = (confidence * 15).ceil().clamp(1, 15).long() - 1
        gap = torch.zeros(15, dtype=torch.double).index_add_(0, bins, correct - confidence)
        return float(gap.abs().sum() / len(self.labels))

    def agreement(self, other: "Predictions") -> float:
        """Return how often both choose the same class, in percent."""
        return 100.0 * float((self.logits.argmax(1) == other.logits.argmax(1)).double().mean())


def predict(net: nn.Module, split: Split, normalisation: Normalisation, *, most: int | None = None) -> Predictions:
    """Run a network over a split in eval mode, without gradient; its mode is put back.

    Args:
        most: look at the first so many of an evenly spread selection; None for all.
    """
    count = len(split)
    chosen = torch.arange(count)
    if most is not None and most < count:
        chosen = torch.linspace(0, count - 1, most).long()
    modes = {module: module.training for module in net.modules()}
    net.eval()
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    try:
        with torch.no_grad():
            for batch in split.batches(list(torch.split(chosen, _BATCH))):
                answer = net(normalisation(batch.images[:, 0]))
                logits.append((answer[0] if isinstance(answer, (tuple, list)) else answer).float().cpu())
                labels.append(batch.labels.cpu())
    finally:
        for module, mode in modes.items():
            module.training = mode
    return Predictions(torch.cat(logits), torch.cat(labels))


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one image: median and quartiles of ``runs`` warm passes of batch 1 on ``threads`` threads."""

    median: float
    lower: float
    upper: float
    runs: int
    threads: int


def latencies(
    nets: Sequence[nn.Module],
    image_size: tuple[int, int, int],
    *,
    warm_up: int = 20,
    runs: int = 200,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Latency]:
    """Time single images through several networks, interleaved, in eval mode; their modes are put back.

    Args:
        nets: all on one device. image_size: (C, H, W).
    """
    device = next(nets[0].parameters()).device
    image = torch.zeros(1, *image_size, device=device)
    modes = [{module: module.training for module in net.modules()} for net in nets]
    times: list[list[float]] = [[] for _ in nets]
    try:
        with torch.inference_mode():
            for net in nets:
                net.eval()
            for number in range(warm_up + runs):
                for net, taken in zip(nets, times, strict=True):
                    start = clock()
                    net(image)
                    if device.type == "cuda":
                        torch.cuda.synchronize(device)
                    if number >= warm_up:
                        taken.append(1000 * (clock() - start))
    finally:
        for states in modes:
            for module, mode in states.items():
                module.training = mode
    return [_summary(taken) for taken in times]


def _summary(taken: list[float]) -> Latency:
    quartiles = torch.tensor(taken).quantile(torch.tensor([0.5, 0.25, 0.75]))
    median, lower, upper = quartiles.tolist()
    return Latency(median, lower, upper, runs=len(taken), threads=torch.get_num_threads())
