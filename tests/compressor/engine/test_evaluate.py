"""Accuracy, calibration, agreement and latency, worked by hand or by a slow loop."""

import math

import pytest
import torch
from torch import Tensor, nn

from compressor.data.resident import ResidentSplit
from compressor.engine.evaluate import Predictions, latencies, predict
from compressor.engine.normalise import Normalisation


def predictions(logits: list[list[float]], labels: list[int]) -> Predictions:
    return Predictions(torch.tensor(logits), torch.tensor(labels))


def test_top1_top5_and_agreement_by_hand() -> None:
    seen = predictions([[3, 2, 1, 0, -1, -2], [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], [0, 0, 4])
    other = predictions([[3, 2, 1, 0, -1, -2], [9, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], [0, 0, 4])
    assert seen.top1 == pytest.approx(100 / 3)
    assert seen.top5 == pytest.approx(200 / 3)
    assert seen.agreement(other) == pytest.approx(200 / 3)
    assert seen.agreement(seen) == 100.0


def test_top5_of_fewer_classes_counts_everything() -> None:
    assert predictions([[1, 0], [0, 1]], [1, 0]).top5 == 100.0


def test_loss_by_hand() -> None:
    assert predictions([[0.0, math.log(3)]], [0]).loss == pytest.approx(math.log(4))


def test_calibration_error_equals_a_slow_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 4, generator=generator) * 2
    labels = torch.randint(4, (500,), generator=generator)
    confidence, predicted = logits.double().softmax(1).max(1)
    slow = 0.0
    for number in range(15):
        inside = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if inside.any():
            accuracy = (predicted[inside] == labels[inside]).double().mean()
            slow += int(inside.sum()) / 500 * float((accuracy - confidence[inside].mean()).abs())
    assert Predictions(logits, labels).calibration_error == pytest.approx(slow, abs=1e-12)


class Mean(nn.Module):
    """Answers with the mean pixel and remembers how it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.BatchNorm2d(3)
        self.rows: list[int] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert not self.training
        self.rows.append(len(images))
        mean = self.inner(images).mean((1, 2, 3))
        return torch.stack([mean, -mean], 1), mean


def test_predict_keeps_order_takes_the_first_head_and_puts_modes_back() -> None:
    pixels = torch.arange(600 * 12, dtype=torch.int64).remainder(256).to(torch.uint8).view(600, 3, 2, 2)
    labels = torch.arange(600) % 2
    split = ResidentSplit(pixels, labels, torch.arange(600))
    net = Mean().train()
    net.inner.eval()
    normalisation = Normalisation((0.5,) * 3, (0.25,) * 3)
    seen = predict(net, split, normalisation)
    assert (net.training, net.inner.training) == (True, False)
    assert sum(net.rows) == 600
    by_hand = (pixels.float() / 255 - 0.5) / 0.25
    assert torch.allclose(seen.logits[:, 0], by_hand.mean((1, 2, 3)) / math.sqrt(1 + 1e-5), atol=1e-5)
    assert torch.equal(seen.labels, labels)


def test_predict_of_a_few_is_spread_evenly() -> None:
    split = ResidentSplit(torch.zeros(100, 3, 2, 2, dtype=torch.uint8), torch.arange(100), torch.arange(100))
    assert predict(Mean(), split, Normalisation((0.0,) * 3, (1.0,) * 3), most=4).labels.tolist() == [0, 33, 66, 99]


def test_latency_is_the_median_of_warm_passes_interleaved() -> None:
    ticks = iter(float(value) for value in range(1000))
    nets = [nn.Conv2d(3, 1, 1), nn.Conv2d(3, 1, 1)]
    measured = latencies(nets, (3, 4, 4), warm_up=1, runs=5, clock=lambda: next(ticks))
    assert [one.median for one in measured] == [1000.0, 1000.0]
    assert [one.runs for one in measured] == [5, 5]
    assert next(ticks) == 2 * (1 + 2 * 5)  # two networks: one reading of the warm pass, two of each that counts
    assert all(net.training for net in nets)


def test_normalisation_by_hand_and_identity() -> None:
    normalise = Normalisation((0.5, 0.0, 0.25), (0.5, 1.0, 0.25))
    images = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    by_hand = torch.tensor([[-1.0, 0.0, -1.0], [1.0, 1.0, 3.0]])
    assert torch.allclose(normalise(images).flatten(1), by_hand)
    ready = torch.randn(2, 3, 1, 1)
    assert normalise(ready) is ready
    assert Normalisation((0.5,), (0.5,), identity=True)(images) is images
