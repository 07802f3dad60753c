"""ReviewKD: the pyramid by a loop, the fusion by hand, the way through the stages, and whose maps are compared."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import batch, draw, leaf, network, pair
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import Batch, ModelOutput, Needs, Pair
from compressor.errors import UnsupportedPair
from compressor_plugins.reviewkd import Fusion, ReviewKD, ReviewKDConfig, pyramid_loss

SMALL = ((4, 8, 8), (6, 8, 8), (8, 4, 4))
LARGE = ((5, 8, 8), (7, 8, 8), (9, 8, 8), (10, 2, 2))


def networks(student: Any = SMALL, teacher: Any = LARGE, *, preacts: tuple[bool, bool] = (True, True)) -> Pair:
    small, large = network("small", maps=student, width=8), network("large", maps=teacher, width=11)
    return pair(replace(small, preacts=preacts[0]), replace(large, preacts=preacts[1]))


def reviewkd(student: Any = SMALL, teacher: Any = LARGE, **chosen: Any) -> ReviewKD:
    torch.manual_seed(0)
    config = ReviewKDConfig(**{"warmup_epochs": 0, **chosen})
    return ReviewKD(config, networks(student, teacher)).double()


def answer(maps: Any, width: int, seed: int) -> ModelOutput:
    preacts = tuple(leaf(5, *shape, seed=seed + number) for number, shape in enumerate(maps))
    stages = tuple(one.detach().relu().requires_grad_() for one in preacts)
    embedding = leaf(5, width, seed=seed + 20)
    return ModelOutput(logits=leaf(5, 3, seed=seed), stages=stages, preacts=preacts, embedding=embedding)


def answers() -> tuple[ModelOutput, ModelOutput]:
    return answer(SMALL, 8, 0), answer(LARGE, 11, 50)


def terms(method: ReviewKD, student: ModelOutput, teacher: ModelOutput) -> dict[str, Tensor]:
    return method.terms(batch(torch.arange(5) % 3), student, teacher)


def test_pyramid_equals_a_value_worked_by_hand() -> None:
    # 2x2 and then 1x1, weights 1 and 1/2: differences (1, 0, 0, 3) and their mean 1.
    difference = torch.tensor([[[[1.0, 0.0], [0.0, 3.0]]]])
    value = (1 * (1 + 9) / 4 + 1 / 2 * 1) / (1 + 1 / 2)
    assert pyramid_loss(difference, torch.zeros_like(difference)).item() == pytest.approx(value)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((8, 8), [(8, 8), (4, 4), (2, 2), (1, 1)]),
        ((4, 4), [(4, 4), (2, 2), (1, 1)]),  # 4 is no smaller: 2 has the weight 1/2 then
        ((3, 3), [(3, 3), (2, 2), (1, 1)]),
        ((1, 1), [(1, 1)]),
        ((8, 2), [(8, 2), (4, 2), (2, 2), (1, 1)]),
        ((1, 6), [(1, 6), (1, 4), (1, 2), (1, 1)]),
    ],
)
def test_pyramid_is_a_weighted_mean_over_the_sizes_that_are_smaller(
    shape: tuple[int, int], sizes: list[tuple[int, int]]
) -> None:
    student, teacher = draw(2, 3, *shape), draw(2, 3, *shape, seed=1)
    total = weights = 0.0
    for number, size in enumerate(sizes):
        ours, theirs = (F.adaptive_avg_pool2d(one, size) for one in (student, teacher))
        total += 2**-number * (ours - theirs).square().mean().item()
        weights += 2**-number
    assert pyramid_loss(student, teacher).item() == pytest.approx(total / weights)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(1, 9), width=st.integers(1, 9), scale=st.floats(0.1, 10))
def test_pyramid_is_zero_for_equal_maps_and_grows_with_the_square(
    seed: int, height: int, width: int, scale: float
) -> None:
    student, teacher = draw(2, 2, height, width, seed=seed), draw(2, 2, height, width, seed=seed + 1)
    value = pyramid_loss(student, teacher).item()
    assert pyramid_loss(teacher, teacher).item() == 0
    assert pyramid_loss(scale * student, scale * teacher).item() == pytest.approx(scale**2 * value)
    assert pyramid_loss(student.mT, teacher.mT).item() == pytest.approx(value)


def test_gradient_of_the_pyramid_is_the_derivative() -> None:
    teacher = draw(1, 2, 5, 3, seed=1)
    assert torch.autograd.gradcheck(lambda student: pyramid_loss(student, teacher), leaf(1, 2, 5, 3))


def test_fusion_weighs_both_maps_at_each_position() -> None:
    torch.manual_seed(0)
    fusion = Fusion(3, 2, 4, deepest=False).double().eval()
    maps, behind = draw(2, 3, 4, 4), draw(2, 2, 2, 2, seed=1)
    said, fused = fusion(maps, behind, (4, 4))
    own = fusion.conv1(maps)
    enlarged = behind.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert fusion.att_conv is not None
    scores = fusion.att_conv(torch.cat([own, enlarged], dim=1))
    assert torch.allclose(fused, own * scores[:, :1] + enlarged * scores[:, 1:])
    assert torch.allclose(said, fusion.conv2(fused))


def test_deepest_fusion_has_nothing_to_fuse() -> None:
    fusion = Fusion(3, 2, 4, deepest=True).double().eval()
    maps = draw(2, 3, 1, 1)
    said, fused = fusion(maps, None, (1, 1))
    assert fusion.att_conv is None
    assert torch.equal(fused, fusion.conv1(maps))
    assert said.shape == (2, 4, 1, 1)


@pytest.mark.parametrize("size", [(8, 8), (2, 2), (8, 2), (3, 5), (4, 4)])
def test_a_fused_map_meets_the_teachers_size_and_goes_on_at_its_own(size: tuple[int, int]) -> None:
    fusion = Fusion(3, 2, 4, deepest=False).double()
    said, fused = fusion(draw(2, 3, 4, 4), draw(2, 2, 8, 2), size)
    assert said.shape == (2, 4, *size)
    assert fused.shape == (2, 2, 4, 4)


def test_larger_maps_of_the_teacher_are_met_by_nearest_values_smaller_ones_by_averages() -> None:
    fusion = Fusion(1, 1, 1, deepest=True).double().eval()
    fusion.conv1, fusion.conv2 = nn.Sequential(nn.Identity()), nn.Sequential(nn.Identity())
    maps = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]], dtype=torch.float64)
    assert fusion(maps, None, (1, 1))[0].item() == 4
    assert fusion(maps, None, (2, 4))[0][0, 0].tolist() == [[1, 1, 3, 3], [5, 5, 7, 7]]


def test_review_goes_from_the_embedding_to_the_first_stage_but_the_stem() -> None:
    method, (student, teacher) = reviewkd(review_weight=2.0).eval(), answers()
    last, middle, first = method.fusions
    as_map, wanted = student.embedding[:, :, None, None], teacher.embedding[:, :, None, None]
    said, fused = last(as_map, None, (1, 1))
    total = pyramid_loss(said, wanted)
    said, fused = middle(student.stages[2], fused, (2, 2))
    total += pyramid_loss(said, teacher.stages[3])
    said, fused = first(student.stages[1], fused, (8, 8))
    total += pyramid_loss(said, teacher.stages[2])
    assert terms(method, student, teacher)["review"].item() == pytest.approx(2 * total.item())
    assert [(link.student, link.teacher) for link in method.plan()] == [
        ("stage1 6x8x8", "stage2 9x8x8"),
        ("stage2 8x4x4", "stage3 10x2x2"),
        ("embedding 8", "embedding 11"),
    ]
    assert sum(link.parameters for link in method.plan()) == sum(value.numel() for value in method.parameters())


def test_the_teachers_maps_are_compared_before_their_activation_where_it_is_set() -> None:
    student, teacher = answers()
    method = reviewkd(teacher_maps="preacts").eval()
    swapped = ModelOutput(logits=teacher.logits, stages=teacher.preacts, embedding=teacher.embedding)
    expected = terms(reviewkd().eval(), student, swapped)["review"].item()
    assert terms(method, student, teacher)["review"].item() == pytest.approx(expected)
    assert terms(reviewkd().eval(), student, teacher)["review"].item() != pytest.approx(expected)


def test_needs_follow_the_settings() -> None:
    assert ReviewKD.needs_for(ReviewKDConfig()) == Needs(stages=True, embedding=True)
    assert ReviewKD.needs_for(ReviewKDConfig(teacher_maps="preacts")).preacts == "teacher"


@pytest.mark.parametrize(("chosen", "middle"), [(512, 8), (3, 3)])
def test_middle_is_no_wider_than_the_students_embedding(chosen: int, middle: int) -> None:
    widths = {fusion.conv1[0].weight.shape[0] for fusion in reviewkd(middle_channels=chosen).fusions}
    assert widths == {middle}


@pytest.mark.parametrize(("epoch", "share"), [(0, 1 / 4), (2, 3 / 4), (3, 1), (9, 1)])
def test_weight_rises_over_the_first_epochs(epoch: int, share: float) -> None:
    method, whole, both = reviewkd(warmup_epochs=4).eval(), reviewkd().eval(), answers()
    seen = Batch(labels=torch.arange(5) % 3, views=1, epoch=epoch, step=0, progress=0.0)
    expected = share * terms(whole, *both)["review"].item()
    assert method.terms(seen, *both)["review"].item() == pytest.approx(expected)


def test_gradient_reaches_student_and_fusions_and_not_the_teacher() -> None:
    method, (student, teacher) = reviewkd(kd_weight=1.0), answers()
    found = terms(method, student, teacher)
    assert set(found) == {"ce", "review", "kd"}
    torch.stack(list(found.values())).sum().backward()
    assert all(value.grad is not None for value in (student.stages[1], student.stages[2], student.embedding))
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert all(value.grad is None for value in (teacher.logits, *teacher.stages, teacher.embedding))


def test_pairs_it_cannot_work_on_are_refused_with_what_to_type() -> None:
    before = ReviewKDConfig(teacher_maps="preacts")
    both = networks(preacts=(True, False))
    message = r"reviewkd\.teacher_maps is preacts, and large shows no pre-activations"
    with pytest.raises(UnsupportedPair, match=message) as caught:
        ReviewKD.check(before, both)
    assert caught.value.hint == "--set method.reviewkd.teacher_maps=stages"
    ReviewKD.check(ReviewKDConfig(), both)
    ReviewKD.check(before, networks(preacts=(False, True)))
    with pytest.raises(UnsupportedPair, match="reviewkd needs feature maps, and small shows none"):
        ReviewKD.check(ReviewKDConfig(), networks(student=()))
    with pytest.raises(UnsupportedPair, match="large has stages 0 to 3, not 4"):
        ReviewKD.check(ReviewKDConfig(stages="1:4"), networks())
    with pytest.raises(UnsupportedPair, match="reviewkd needs a teacher"):
        ReviewKD.check(ReviewKDConfig(), pair(network("small", maps=SMALL, width=8), None))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"review_weight": -1.0}, r"reviewkd.review_weight must be >= 0, got -1.0"),
        ({"warmup_epochs": -1}, r"reviewkd.warmup_epochs must be >= 0, got -1"),
        ({"middle_channels": 0}, r"reviewkd.middle_channels must be >= 1, got 0"),
        ({"review_weight": math.nan}, r"reviewkd.review_weight must be >= 0, got nan"),
        ({"stages": ""}, r"reviewkd.stages must be student:teacher pairs .*, got ''"),
    ],
)
def test_settings_outside_their_range_are_refused(chosen: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReviewKDConfig(**chosen)
