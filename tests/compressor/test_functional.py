"""Pure functions against hand-worked values, slow loops written from the formulas, and torch's own."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from compressor.functional import (
    averaged_alike,
    cosine_matrix,
    mean_of_kept,
    rank_of_target,
    select_by_error_level,
    soft_target_kl,
    unit_vectors,
    wide,
)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_soft_target_kl_equals_a_value_worked_by_hand() -> None:
    # T = 4 turns the teacher's (4 ln 3, 0) into (3/4, 1/4); the student is undecided: (1/2, 1/2).
    teacher = torch.tensor([[4 * math.log(3), 0.0]])
    by_hand = 16 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_target_kl(torch.zeros(1, 2), teacher, temperature=4.0).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_target_kl_equals_a_slow_loop(temperature: float) -> None:
    student, teacher = draw(5, 7), draw(5, 7, seed=1)
    total = 0.0
    for row in range(5):
        ours = [math.exp(value / temperature) for value in student[row].tolist()]
        theirs = [math.exp(value / temperature) for value in teacher[row].tolist()]
        for one, other in zip(ours, theirs, strict=True):
            p = other / sum(theirs)
            total += p * math.log(p / (one / sum(ours)))
    expected = temperature**2 * total / 5
    assert soft_target_kl(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_soft_target_kl_is_zero_between_equals_and_after_a_shift_of_all_logits() -> None:
    logits = draw(4, 6)
    assert soft_target_kl(logits, logits, 4.0).item() == 0
    assert soft_target_kl(logits + 3, logits, 4.0).item() == pytest.approx(0, abs=1e-14)


def test_soft_target_kl_sends_gradient_to_the_student_alone() -> None:
    student, teacher = draw(4, 6).requires_grad_(), draw(4, 6, seed=1).requires_grad_()
    soft_target_kl(student, teacher, 2.0).backward()
    # d/dz of T^2 KL is T (softmax(z / T) - softmax(t / T)), a B-th of it for the mean over B rows.
    expected = 2.0 * (F.softmax(student / 2, 1) - F.softmax(teacher / 2, 1)) / 4
    assert student.grad is not None
    assert torch.allclose(student.grad, expected)
    assert teacher.grad is None


def test_soft_target_kl_of_kept_rows_is_that_of_these_rows_alone() -> None:
    student, teacher = draw(6, 5), draw(6, 5, seed=1)
    keep = torch.tensor([True, False, True, True, False, False])
    assert torch.equal(
        soft_target_kl(student, teacher, 4.0, keep=keep), soft_target_kl(student[keep], teacher[keep], 4.0)
    )


def test_nothing_kept_is_zero_with_a_gradient_of_zero() -> None:
    student = draw(3, 4).requires_grad_()
    loss = soft_target_kl(student, draw(3, 4, seed=1), 4.0, keep=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_what_stands_in_rows_that_are_not_kept_has_no_part_in_the_mean() -> None:
    rows = torch.tensor([1.0, math.inf, math.nan, 3.0])
    assert mean_of_kept(rows, torch.tensor([True, False, False, True])).item() == 2
    assert mean_of_kept(rows[[0, 3]], None).item() == 2


def test_half_precision_is_computed_in_float32() -> None:
    student, teacher = draw(4, 6, dtype=torch.float32).bfloat16(), draw(4, 6, seed=1, dtype=torch.float32).bfloat16()
    loss = soft_target_kl(student, teacher, 4.0)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, soft_target_kl(student.float(), teacher.float(), 4.0))
    assert cosine_matrix(student, teacher).dtype == torch.float32


def test_soft_target_kl_refuses_other_shapes_and_temperatures() -> None:
    with pytest.raises(ValueError, match=r"differ in shape: \(2, 3\), \(2, 4\)"):
        soft_target_kl(draw(2, 3), draw(2, 4), 4.0)
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature must be > 0, got"):
            soft_target_kl(draw(2, 3), draw(2, 3), temperature)


def test_temperature_of_each_row_is_that_of_the_row_alone() -> None:
    student, teacher, temperature = draw(4, 6), draw(4, 6, seed=1), torch.tensor([[1.0], [2.0], [4.0], [0.5]]).double()
    rows = [
        soft_target_kl(student[row : row + 1], teacher[row : row + 1], float(each))
        for row, each in enumerate(temperature)
    ]
    assert soft_target_kl(student, teacher, temperature).item() == pytest.approx(sum(rows).item() / 4, rel=1e-14)


def test_cosine_matrix_equals_torch_for_every_pair() -> None:
    rows, columns = draw(5, 7), draw(3, 7, seed=1)
    expected = F.cosine_similarity(rows[:, None], columns[None], dim=2, eps=1e-8)
    assert torch.allclose(cosine_matrix(rows, columns), expected, rtol=0, atol=1e-15)


def test_cosine_of_a_zero_vector_is_zero_with_a_finite_gradient() -> None:
    rows = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    similarity = cosine_matrix(rows, draw(2, 3))
    similarity.sum().backward()
    assert similarity.tolist() == [[0, 0]]
    assert rows.grad is not None
    assert torch.isfinite(rows.grad).all()


def test_gradient_of_cosine_matrix_reaches_rows_and_columns() -> None:
    rows, columns = draw(2, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(cosine_matrix, (rows, columns))


def test_rank_of_target_is_its_place_in_a_stable_falling_sort() -> None:
    # Small integers: ties everywhere.
    scores = torch.randint(0, 4, (200, 6), generator=torch.Generator().manual_seed(0)).double()
    targets = torch.randint(0, 6, (200,), generator=torch.Generator().manual_seed(1))
    order = scores.argsort(dim=1, descending=True, stable=True)
    expected = (order == targets[:, None]).nonzero()[:, 1]
    assert torch.equal(rank_of_target(scores, targets), expected)


def test_select_by_error_level_keeps_the_rows_worked_by_hand() -> None:
    # Rows 1 and 4 are right. Of 4 wrong ones 0.75 keeps 3: row 3 (rank 1), row 0 (rank 2), and of the two of rank 5
    # the earlier, row 2.
    ranks = torch.tensor([2, 0, 5, 1, 0, 5])
    assert select_by_error_level(ranks, 0.75).tolist() == [True, True, True, True, True, False]
    assert select_by_error_level(ranks, 0.5).tolist() == [True, True, False, True, True, False]
    assert select_by_error_level(ranks, 0.0).tolist() == [False, True, False, False, True, False]
    assert select_by_error_level(ranks, 1.0).all()


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.29, 0.5, 0.7, 0.75, 0.99, 1.0])
def test_select_by_error_level_equals_a_slow_selection(ratio: float) -> None:
    for seed in range(20):
        ranks = torch.randint(0, 4, (100,), generator=torch.Generator().manual_seed(seed))
        wrong = sorted((rank, row) for row, rank in enumerate(ranks.tolist()) if rank)
        chosen = {row for _, row in wrong[: int(ratio * len(wrong))]}
        expected = [rank == 0 or row in chosen for row, rank in enumerate(ranks.tolist())]
        assert select_by_error_level(ranks, ratio).tolist() == expected


def test_share_is_rounded_as_python_rounds_it_and_not_exactly() -> None:
    # 0.29 * 100 is 28.999999999999996 in float64: 28, as in the authors' int(), where exact arithmetic gives 29.
    assert int(Fraction(29, 100) * 100) == 29
    assert select_by_error_level(torch.ones(100, dtype=torch.int64), 0.29).sum().item() == 28


@pytest.mark.parametrize("ratio", [-0.1, 1.1, math.nan])
def test_share_outside_the_unit_interval_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"ratio must be in \[0, 1\], got"):
        select_by_error_level(torch.zeros(3, dtype=torch.int64), ratio)


def test_selection_runs_without_looking_at_values() -> None:
    # The meta device holds no values: whatever would have to read one raises there.
    scores = torch.empty(9, 3, device="meta")
    ranks = rank_of_target(scores, torch.empty(9, dtype=torch.int64, device="meta"))
    keep = select_by_error_level(ranks, 0.75)
    assert soft_target_kl(scores, scores, 0.5, keep=keep).shape == ()


def test_the_larger_map_is_averaged_down_to_the_smaller() -> None:
    large = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    small = torch.tensor([[[[9.0]], [[2.0]]]])
    student, teacher = averaged_alike(large, small)
    assert student.tolist() == [[[[4.0]]]]
    assert teacher is small
    student, teacher = averaged_alike(small, large)
    assert student is small
    assert teacher.tolist() == [[[[4.0]]]]


def test_oblong_maps_meet_at_the_smaller_side_of_each_axis() -> None:
    student, teacher = averaged_alike(draw(2, 3, 8, 4), draw(2, 5, 4, 6, seed=1))
    assert (student.shape, teacher.shape) == ((2, 3, 4, 4), (2, 5, 4, 4))
    assert torch.allclose(student[0, 0, 0, 0], draw(2, 3, 8, 4)[0, 0, :2, 0].mean())


def test_unit_vectors_have_length_one_whatever_their_scale() -> None:
    vectors = draw(2, 5, 3)
    units = unit_vectors(vectors * torch.tensor([1e-6, 1e6]).double()[:, None, None])
    assert torch.allclose(units.norm(dim=-1), torch.ones(2, 5, dtype=torch.float64))
    assert torch.allclose(units, F.normalize(vectors, dim=-1))


def test_a_zero_vector_stays_zero_and_gets_no_gradient() -> None:
    vectors = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    units = unit_vectors(vectors)
    torch.autograd.backward((units * torch.tensor([1.0, 2.0])).sum())
    assert units.tolist() == [[0.0, 0.0], pytest.approx([0.6, 0.8])]
    assert vectors.grad is not None
    assert vectors.grad[0].tolist() == [0.0, 0.0]
    assert vectors.grad[1].any()


def test_gradient_of_unit_vectors_is_the_derivative() -> None:
    assert torch.autograd.gradcheck(unit_vectors, draw(3, 4).requires_grad_())


def test_only_half_precision_is_widened() -> None:
    assert wide(torch.zeros(1, dtype=torch.float16)).dtype == torch.float32
    assert wide(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert wide(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
