"""Many, medium and few: which classes, and the mean of their accuracies."""

import pytest
import torch

from compressor.data.groups import group_classes, groups_of
from compressor.data.load import load_data


def test_the_bounds_are_those_of_the_field() -> None:
    groups = group_classes(torch.tensor([500, 101, 100, 20, 19, 1]))
    assert groups.rule == "counts"
    assert groups.classes == {"many": (0, 1), "medium": (2, 3), "few": (4, 5)}


def test_a_small_set_is_cut_into_thirds_by_its_counts() -> None:
    groups = group_classes(torch.tensor([5, 100, 50, 2, 2, 30, 9]))
    assert groups.rule == "thirds"
    assert groups.classes == {"many": (1, 2, 5), "medium": (0, 6), "few": (3, 4)}


def test_cifar_100_at_imbalance_100_has_the_known_group_sizes() -> None:
    counts = torch.tensor([int(500 * 100 ** (-label / 99) + 1e-9) for label in range(100)])
    sizes = [len(members) for members in group_classes(counts).classes.values()]
    assert sizes == [35, 35, 30]


def test_a_groups_accuracy_is_the_mean_over_its_classes() -> None:
    groups = group_classes(torch.tensor([300, 200, 50, 10]))
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2])  # no test image of class 3
    predicted = torch.tensor([0, 0, 0, 1, 0, 2, 3])
    # class 0: 3 of 4, class 1: 0 of 1; class 2: 1 of 2
    assert groups.accuracies(predicted, labels) == {"many_top1": pytest.approx(37.5), "medium_top1": 50.0}


def test_groups_follow_the_true_labels_of_the_uneven_part() -> None:
    assert groups_of(load_data("digits")) is None
    assert groups_of(load_data("digits", fraction=20, label_noise=0.2)) is None
    uneven, noisy = (load_data("digits", imbalance=20, label_noise=share) for share in (0.0, 0.4))
    groups = groups_of(uneven)
    assert groups is not None
    assert groups == groups_of(noisy)
    # 110 images, then 20 ** (-k / 9) of them: 110 78 56 40 29 20 14 10 7 5
    assert groups.document() == {"rule": "counts", "many": [0], "medium": [1, 2, 3, 4, 5], "few": [6, 7, 8, 9]}
