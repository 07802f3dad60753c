"""What HSAKD and HSSAKD share: joint labels, branches off real and made-up networks, their two losses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from made_up import draw, leaf
from made_up_branches import CLASSES, MAPS, looked_at, network, real, without_tails
from torch.nn import functional as F

from compressor.distiller import Rotations
from compressor.errors import UnsupportedPair
from compressor_plugins._branches import (
    VIEWS,
    Branches,
    branch_kl,
    check_branches,
    joint_cross_entropy,
    joint_labels,
    plain_rows,
)


@given(labels=some.lists(some.integers(0, 9), min_size=1, max_size=8), views=some.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_class_and_turn_can_be_read_off_a_joint_label(labels: list[int], views: int) -> None:
    joint = joint_labels(torch.tensor(labels), views).tolist()
    assert [(one // views, one % views) for one in joint] == [(label, v) for label in labels for v in range(views)]


def test_every_class_and_turn_has_a_label_of_its_own() -> None:
    assert sorted(joint_labels(torch.arange(7), 4).tolist()) == list(range(28))


def test_plain_rows_are_those_of_the_first_view() -> None:
    assert plain_rows(torch.arange(8)[:, None], 4).flatten().tolist() == [0, 4]


def test_views_are_turns_of_one_crop() -> None:
    assert Rotations(4, shared_crop=True) == VIEWS


@pytest.mark.parametrize(
    "name", ["cifar_resnet8", "cifar_wrn_16_1", "cifar_shufflenetv2", "cifar_mobilenetv2_half_stride1", "resnet10t"]
)
def test_every_branch_of_a_real_network_answers_with_four_scores_a_class(name: str) -> None:
    tapped, spec = real(name)
    branches = Branches(spec, range(1, len(spec.stages)), CLASSES)
    answers = branches(looked_at(tapped).stages)
    assert [tuple(one.shape) for one in answers] == [(8, 4 * CLASSES)] * (len(spec.stages) - 1)
    torch.stack([one.square().sum() for one in answers]).sum().backward()
    assert all(parameter.grad is not None for parameter in branches.parameters())


def test_branches_can_be_asked_for_one_by_one_and_in_any_order() -> None:
    branches = Branches(network(), (1, 2), CLASSES)
    maps = [draw(4, width, 4, 4).float() for width in MAPS]
    first, second = branches(maps)
    assert torch.equal(branches(maps, [2])[0], second)
    assert [torch.equal(*both) for both in zip(branches(maps, [2, 1]), (second, first), strict=True)] == [True, True]


def test_branches_drawn_anew_are_others_and_start_without_a_bias() -> None:
    _, spec = real("cifar_resnet8")
    branches = Branches(spec, (1, 3), CLASSES)
    before = {key: value.clone() for key, value in branches.named_parameters()}
    for head in branches.heads:
        assert not head.bias.any()
        head.bias.data.fill_(1.0)
    branches.reset_parameters()
    assert not any(head.bias.any() for head in branches.heads)
    for key, value in branches.named_parameters():
        assert value.dim() == 1 or not torch.equal(value, before[key]), key
    wide = branches.tails[0].stages[1][0].conv2.weight  # 64 channels: the family's own spread, not torch's
    assert wide.std().item() == pytest.approx(math.sqrt(2 / (9 * 64)), rel=0.05)


def test_branches_of_tails_that_cannot_draw_themselves_are_drawn_layer_by_layer() -> None:
    branches = Branches(network(), (1,), CLASSES)
    before = branches.tails[0].linear.weight.clone()
    branches.reset_parameters()
    assert not torch.equal(branches.tails[0].linear.weight, before)


def test_joint_cross_entropy_equals_a_sum_over_branches_by_hand() -> None:
    branches, labels = [draw(8, 12, seed=1), draw(8, 12, seed=2)], torch.tensor([2, 0])
    wanted = 0.0
    for logits in branches:
        rows = logits.softmax(1)
        wanted -= sum(math.log(rows[4 * i + v, 4 * int(y) + v]) for i, y in enumerate(labels) for v in range(4)) / 8
    assert joint_cross_entropy(branches, labels, 4).item() == pytest.approx(wanted)


def test_branch_kl_is_the_sum_of_the_branches_and_zero_between_equals() -> None:
    ours, theirs = [draw(4, 12, seed=1), draw(4, 12, seed=2)], [draw(4, 12, seed=3), draw(4, 12, seed=4)]
    wanted = sum(
        9 * F.kl_div((one / 3).log_softmax(1), (other / 3).softmax(1), reduction="batchmean").item()
        for one, other in zip(ours, theirs, strict=True)
    )
    assert branch_kl(ours, theirs, 3.0).item() == pytest.approx(wanted)
    assert branch_kl(ours, ours, 3.0).item() == pytest.approx(0, abs=1e-12)


def test_branch_kl_teaches_the_first_and_not_the_second() -> None:
    ours, theirs = leaf(4, 12, seed=1), leaf(4, 12, seed=2)
    branch_kl([ours], [theirs], 3.0).backward()
    assert ours.grad is not None
    assert theirs.grad is None


def test_branches_that_differ_in_number_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        branch_kl([draw(4, 12), draw(4, 12)], [draw(4, 12)], 3.0)


def test_trial_leaves_the_random_generator_alone_and_tells_what_cannot_be_made() -> None:
    _, spec = real("cifar_resnet8")
    before = torch.get_rng_state()
    check_branches(spec, (1, 2, 3))
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(UnsupportedPair, match="smooth cannot have branches behind stage"):
        check_branches(without_tails(), (1, 2))
