"""Contrast indices: other classes only, no repetition where that is possible, and the same for every grouping."""

import pytest
import torch

from compressor.data.contrast import ContrastSampler
from compressor.distiller import Negatives
from compressor.errors import InputError

# Uneven classes in no order: 40 of class 0, 20 of class 1, 10 of class 2.
LABELS = torch.tensor([0] * 40 + [1] * 20 + [2] * 10)[torch.randperm(70, generator=torch.Generator().manual_seed(1))]
ALL = torch.arange(70)


@pytest.mark.parametrize("count", [1, 5, 14, 15, 16, 29, 30])  # class 0 has 30 others: from 15 on the rest is drawn
def test_negatives_are_distinct_samples_of_other_classes(count: int) -> None:
    drawn = ContrastSampler(LABELS, Negatives(count), 3).draw(ALL, 2)
    assert drawn.shape == (70, 1 + count)
    assert drawn.dtype == torch.int64
    assert torch.equal(drawn[:, 0], ALL)
    for position, row in enumerate(drawn):
        negatives = row[1:].tolist()
        assert len(set(negatives)) == count
        assert all(LABELS[negative] != LABELS[position] for negative in negatives)


def test_with_more_than_exist_negatives_repeat() -> None:
    drawn = ContrastSampler(LABELS, Negatives(200), 0).draw(ALL, 0)
    for position, row in enumerate(drawn):
        others = (LABELS[position] != LABELS).nonzero().flatten().tolist()
        assert set(row[1:].tolist()) <= set(others)
        assert len(set(row[1:].tolist())) > len(others) // 2


def test_draws_belong_to_seed_epoch_and_position_alone() -> None:
    sampler = ContrastSampler(LABELS, Negatives(9), 4)
    whole = sampler.draw(ALL, 1)
    backwards = torch.cat([sampler.draw(part, 1) for part in ALL.flip(0).split(6)])
    assert torch.equal(backwards, whole.flip(0))
    assert not torch.equal(sampler.draw(ALL, 2), whole)
    assert not torch.equal(ContrastSampler(LABELS, Negatives(9), 5).draw(ALL, 1), whole)


@pytest.mark.parametrize("count", [3, 26])
def test_every_sample_of_another_class_is_equally_likely(count: int) -> None:
    sampler = ContrastSampler(LABELS, Negatives(count), 0)
    position = int((LABELS == 0).nonzero()[0])
    drawn = torch.stack([sampler.draw(torch.tensor([position]), epoch)[0, 1:] for epoch in range(1000)])
    seen = torch.bincount(drawn.flatten(), minlength=70)[LABELS != 0].double()
    share = count / 30
    expected, variance = 1000 * share, 1000 * share * (1 - share)
    # Sum of 30 squared deviations: 29 degrees of freedom after the factor for drawing without repetition.
    chi_squared = float(((seen - expected) ** 2 / variance).sum()) * 29 / 30
    assert seen.sum() == 1000 * count
    assert 9 < chi_squared < 66  # both tails below 1e-4


def test_pairs_of_negatives_are_independent_of_each_other() -> None:
    # Two of four others: each of the six pairs must come up alike.
    labels = torch.tensor([0, 1, 1, 1, 1])
    sampler = ContrastSampler(labels, Negatives(2), 0)
    pairs = [tuple(sorted(sampler.draw(torch.tensor([0]), epoch)[0, 1:].tolist())) for epoch in range(1200)]
    counts = [pairs.count(pair) for pair in sorted(set(pairs))]
    assert len(counts) == 6
    assert all(135 < count < 265 for count in counts)  # 200, five standard deviations of 12.9


def test_a_relaxed_positive_is_any_sample_of_the_class() -> None:
    sampler = ContrastSampler(LABELS, Negatives(2, positive="relaxed"), 0)
    position = int((LABELS == 2).nonzero()[0])
    positives = {int(sampler.draw(torch.tensor([position]), epoch)[0, 0]) for epoch in range(200)}
    assert positives == set((LABELS == 2).nonzero().flatten().tolist())


@pytest.mark.parametrize("labels", [torch.zeros(5, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)])
def test_one_class_has_no_negatives(labels: torch.Tensor) -> None:
    with pytest.raises(InputError, match="fewer than two"):
        ContrastSampler(labels, Negatives(1), 0)


def test_a_class_that_has_no_sample_does_no_harm() -> None:
    drawn = ContrastSampler(torch.tensor([0, 3, 3, 0]), Negatives(2), 0).draw(torch.arange(4), 0)
    assert [sorted(row[1:].tolist()) for row in drawn] == [[1, 2], [0, 3], [0, 3], [1, 2]]
