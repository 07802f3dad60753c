"""Contrast indices that are drawn ahead are those that are drawn when they are wanted."""

import threading

import pytest
import torch

from compressor.data.ahead import contrast_batches
from compressor.data.contrast import ContrastSampler
from compressor.distiller import Negatives
from compressor.errors import InputError

LABELS = torch.arange(60) % 3
CPU = torch.device("cpu")


def test_both_ways_give_the_same_indices_in_the_same_order() -> None:
    sampler = ContrastSampler(LABELS, Negatives(7), 5)
    positions = list(torch.randperm(60, generator=torch.Generator().manual_seed(1)).split(4))
    ahead = list(contrast_batches(sampler, positions, 2, CPU, ahead=True))
    by_and_by = list(contrast_batches(sampler, positions, 2, CPU, ahead=False))
    assert len(ahead) == len(by_and_by) == 15
    assert all(torch.equal(one, other) for one, other in zip(ahead, by_and_by, strict=True))


def test_loop_that_ends_early_leaves_no_thread_behind() -> None:
    feed = contrast_batches(
        ContrastSampler(LABELS, Negatives(7), 5), list(torch.arange(60).split(2)), 0, CPU, ahead=True
    )
    next(feed)
    feed.close()  # type: ignore[attr-defined]  # a generator
    for thread in threading.enumerate():
        if thread.name.startswith("contrast"):
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_error_of_a_draw_reaches_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> torch.Tensor:
        raise InputError("no negatives left")

    monkeypatch.setattr(ContrastSampler, "draw", refuse)
    sampler = ContrastSampler(LABELS, Negatives(7), 5)
    with pytest.raises(InputError, match="no negatives left"):
        list(contrast_batches(sampler, [torch.arange(2)], 0, CPU, ahead=True))
