"""Training without a teacher: cross-entropy by hand, with and without smoothing."""

import math

import pytest
import torch
from made_up import batch, network, nothing, pair

from compressor.distiller import ModelOutput
from compressor_plugins.scratch import Scratch, ScratchConfig


def scratch(smoothing: float = 0.0) -> Scratch:
    return Scratch(ScratchConfig(label_smoothing=smoothing), pair(network(classes=2), None))


# Logits (ln 3, 0) are the probabilities (3/4, 1/4); smoothing by 0.2 makes the target of class 0 (0.9, 0.1).
@pytest.mark.parametrize(
    ("smoothing", "by_hand"),
    [(0.0, -math.log(0.75)), (0.2, -0.9 * math.log(0.75) - 0.1 * math.log(0.25))],
)
def test_the_term_equals_a_value_worked_by_hand(smoothing: float, by_hand: float) -> None:
    logits = torch.tensor([[math.log(3), 0.0]])
    terms = scratch(smoothing).terms(batch(torch.tensor([0])), ModelOutput(logits=logits), nothing())
    assert terms["ce"].item() == pytest.approx(by_hand)
    assert set(terms) == {"ce"}


def test_no_teacher_is_needed() -> None:
    assert not Scratch.needs_for(ScratchConfig()).teacher


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, math.nan])
def test_smoothing_outside_its_range_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match=r"scratch.label_smoothing must be in \[0, 1\), got"):
        ScratchConfig(label_smoothing=smoothing)
