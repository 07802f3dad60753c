"""Held-out parts and the first images of each class: by class, by their own seed."""

import pytest
import torch

from compressor.data.splits import first_of_each_class, hold_out, validation_split
from compressor.errors import InputError, UsageError

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 4 + [3])


def test_each_class_gives_its_share_rounded_half_up() -> None:
    kept, held = hold_out(LABELS, 0.1, seed=0, purpose="x")
    assert torch.bincount(LABELS[held], minlength=4).tolist() == [5, 3, 0, 0]
    assert torch.bincount(LABELS[hold_out(LABELS, 0.125, seed=0, purpose="x")[1]], minlength=4).tolist() == [6, 4, 1, 0]
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(85))
    assert kept.tolist() == sorted(kept.tolist())
    assert held.tolist() == sorted(held.tolist())


def test_a_class_always_keeps_an_image() -> None:
    kept, _ = hold_out(LABELS, 0.999, seed=0, purpose="x")
    assert torch.bincount(LABELS[kept], minlength=4).tolist() == [1, 1, 1, 1]


def test_the_choice_belongs_to_the_seed() -> None:
    chosen = [hold_out(LABELS, 0.3, seed=seed, purpose="x")[1].tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_no_share_holds_nothing_out() -> None:
    kept, held = validation_split(LABELS, 0, seed=0)
    assert kept.tolist() == list(range(85))
    assert held is None


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_outside_its_range_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"val_split must be in \[0, 1\)"):
        validation_split(LABELS, share, seed=0)


def test_a_share_that_holds_nothing_out_is_refused() -> None:
    with pytest.raises(InputError, match="holds no image out of 3"):
        validation_split(torch.tensor([0, 1, 2]), 0.1, seed=0)


def test_the_first_of_each_class_are_as_many_as_asked_and_more_keep_the_fewer() -> None:
    few, many = (first_of_each_class(LABELS, torch.tensor(counts), seed=0) for counts in ([2, 3, 1, 1], [9, 3, 4, 1]))
    assert torch.bincount(LABELS[few]).tolist() == [2, 3, 1, 1]
    assert torch.bincount(LABELS[many]).tolist() == [9, 3, 4, 1]
    assert set(few.tolist()) < set(many.tolist())
    assert few.tolist() == sorted(few.tolist())
    assert first_of_each_class(LABELS, torch.tensor([2, 3, 1, 1]), seed=1).tolist() != few.tolist()
