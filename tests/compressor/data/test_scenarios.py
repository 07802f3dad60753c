"""Few, uneven and wrongly labelled training images: how many, which, and that small choices are part of large ones."""

from itertools import pairwise

import pytest
import torch

from compressor.data.scenarios import Scenario, choose, flip_labels, fraction_counts, imbalanced_counts
from compressor.errors import UsageError

LABELS = torch.tensor([0] * 50 + [1] * 30 + [2] * 10)
NAMES = ("a", "b", "c")
CIFAR = torch.full((100,), 500)
CIFAR_NAMES = tuple(map(str, range(100)))


def counts_of(scenario: Scenario, seed: int = 0) -> list[int]:
    return torch.bincount(LABELS[choose(LABELS, scenario, NAMES, seed=seed)], minlength=3).tolist()


def test_without_a_scenario_all_images_are_chosen() -> None:
    assert choose(LABELS, Scenario(), NAMES, seed=0).tolist() == list(range(90))
    assert choose(LABELS, Scenario(label_noise=0.5), NAMES, seed=0).tolist() == list(range(90))


def test_shots_take_as_many_of_each_class() -> None:
    assert counts_of(Scenario(shots=2)) == [2, 2, 2]


def test_a_fraction_takes_the_same_share_of_each_class_rounded_half_up_and_one_at_least() -> None:
    assert counts_of(Scenario(fraction=25)) == [13, 8, 3]
    assert fraction_counts(torch.tensor([50, 10, 3]), 1).tolist() == [1, 1, 1]
    assert fraction_counts(CIFAR, 25).tolist() == [125] * 100


def test_smaller_parts_lie_in_larger_ones_whichever_option_made_them() -> None:
    steps = [Scenario(shots=2), Scenario(fraction=25), Scenario(fraction=50), Scenario(fraction=75), Scenario()]
    chosen = [set(choose(LABELS, scenario, NAMES, seed=3).tolist()) for scenario in steps]
    assert all(one < other for one, other in pairwise(chosen))


def test_the_choice_belongs_to_the_seed() -> None:
    first, same, other = (choose(LABELS, Scenario(fraction=25), NAMES, seed=seed).tolist() for seed in (0, 0, 1))
    assert first == same != other


@pytest.mark.parametrize(("ratio", "total", "last"), [(100, 10_847, 5), (50, 12_608, 10), (10, 19_573, 50)])
def test_the_long_tailed_profile_of_cifar_100_has_its_known_counts(ratio: float, total: int, last: int) -> None:
    counts = imbalanced_counts(CIFAR, ratio, CIFAR_NAMES).tolist()
    assert sum(counts) == total
    assert (counts[0], counts[-1]) == (500, last)
    assert counts == sorted(counts, reverse=True)


def test_a_ratio_as_large_as_the_smallest_class_leaves_the_last_one_image() -> None:
    for size in range(2, 200):  # 49 / 49 comes out below 1 in floating point
        assert int(imbalanced_counts(torch.tensor([size, size]), size, NAMES[:2])[-1]) == 1


def test_an_imbalance_starts_from_what_other_options_leave() -> None:
    assert counts_of(Scenario(imbalance=9)) == [10, 3, 1]
    assert counts_of(Scenario(fraction=50, imbalance=4)) == [5, 2, 1]
    assert counts_of(Scenario(shots=8, imbalance=4)) == [8, 4, 2]


def test_an_imbalance_that_empties_the_last_class_is_refused_with_the_most_that_is_possible() -> None:
    with pytest.raises(UsageError, match=r"imbalance 11 leaves the last class no image: class 'c'.* has 10") as caught:
        counts_of(Scenario(imbalance=11))
    assert caught.value.hint == "--imbalance 10, or less"


def test_more_shots_than_some_class_has_are_refused_with_the_most_that_is_possible() -> None:
    with pytest.raises(UsageError, match="class 'c' has 10 training images") as caught:
        counts_of(Scenario(shots=11))
    assert caught.value.hint == "--shots 10, or fewer"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shots": 0}, "shots must be >= 1, got 0"),
        ({"fraction": 0.25}, "fraction must be 1 to 100 percent, got 0.25"),
        ({"fraction": 101}, "fraction must be 1 to 100 percent, got 101"),
        ({"fraction": float("nan")}, "fraction must be 1 to 100 percent, got nan"),
        ({"fraction": 50, "shots": 3}, "shots and fraction both say"),
        ({"imbalance": 0.5}, "imbalance must be >= 1, got 0.5"),
        ({"imbalance": float("inf")}, "imbalance must be >= 1, got inf"),
        ({"label_noise": 1.0}, r"label_noise must be in \[0, 1\), got 1.0"),
        ({"label_noise": 20}, r"label_noise must be in \[0, 1\), got 20"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Scenario(**values)  # type: ignore[arg-type]  # wrong on purpose


def test_a_scenario_says_what_it_changes() -> None:
    assert Scenario().describe() == ""
    told = Scenario(fraction=25, imbalance=10, label_noise=0.2).describe()
    assert told == "25 % of each class, imbalance 10, 20 % wrong labels"
    assert Scenario(shots=3).describe() == "3 a class"


def test_the_asked_share_of_the_students_labels_is_wrong_and_no_other() -> None:
    rows = torch.arange(10, 90)
    flipped = flip_labels(LABELS, rows, 0.3, 3, seed=0)
    wrong = (flipped != LABELS).nonzero().flatten()
    assert len(wrong) == 24
    assert int(wrong.min()) >= 10
    assert flipped.min() >= 0
    assert flipped.max() <= 2
    assert LABELS[0] == 0  # the given ones are left alone
    assert len((flip_labels(LABELS, rows, 0.0, 3, seed=0) != LABELS).nonzero()) == 0


def test_wrong_labels_are_spread_evenly_over_the_other_classes() -> None:
    labels = torch.zeros(9000, dtype=torch.int64)
    flipped = flip_labels(labels, torch.arange(9000), 0.9, 10, seed=0)
    counts = torch.bincount(flipped, minlength=10).tolist()
    assert counts[0] == 900
    # 8100 over nine classes: 900 each, deviation sqrt(8100 * 1/9 * 8/9) = 28; five of them bound it.
    assert all(abs(count - 900) < 142 for count in counts[1:])


def test_more_noise_keeps_what_less_noise_did_and_an_image_keeps_its_wrong_label() -> None:
    rows = torch.arange(90)
    less, more = (flip_labels(LABELS, rows, share, 3, seed=5) for share in (0.2, 0.6))
    changed = less != LABELS
    assert torch.equal(less[changed], more[changed])
    part = choose(LABELS, Scenario(fraction=50), NAMES, seed=5)
    few = flip_labels(LABELS, part, 0.6, 3, seed=5)
    both = (few != LABELS) & (more != LABELS)
    assert int(both.sum()) > 20
    assert torch.equal(few[both], more[both])


def test_wrong_labels_belong_to_the_seed() -> None:
    first, same, other = (flip_labels(LABELS, torch.arange(90), 0.4, 3, seed=seed).tolist() for seed in (0, 0, 1))
    assert first == same != other
