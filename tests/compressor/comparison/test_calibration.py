"""Temperature scaling on logits whose right temperature is known, and bins counted by hand."""

import numpy as np
import pytest
import torch

from compressor.comparison.calibration import Bin, fit_temperature, reliability


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_temperature_undoes_a_factor(factor: float) -> None:
    # Labels drawn from softmax(logits) are honest at T = 1; logits times a factor are honest at T = factor.
    logits = 2 * torch.randn(20_000, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.04)


def test_student_that_is_always_right_is_never_certain_enough() -> None:
    logits = torch.eye(3)
    assert fit_temperature(logits, torch.arange(3)) == pytest.approx(0.05, rel=0.01)


def test_bins_are_counted_by_hand() -> None:
    confidence = np.array([0.05, 0.1, 0.11, 0.95, 1.0])
    right = np.array([False, True, True, True, False])
    assert reliability(confidence, right, bins=10) == [
        Bin(2, pytest.approx(0.075), 0.5),
        Bin(1, pytest.approx(0.11), 1.0),
        Bin(2, pytest.approx(0.975), 0.5),
    ]
