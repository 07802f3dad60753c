"""Pure tensor functions that methods share. They compute in the precision of their inputs, float32 at least."""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

_COSINE_EPSILON = 1e-8
_SHORTEST = 1e-12


def soft_target_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, *, keep: Tensor | None = None
) -> Tensor:
    """Measure how far the student's softened prediction lies from the teacher's.

    ``T**2 * KL(softmax(teacher / T) || softmax(student / T))``, mean over the rows that are kept. The factor ``T**2``
    keeps the gradient at about the same size whatever ``T`` is.

    Args:
        student_logits: (B, K) scores before softmax.
        teacher_logits: (B, K) scores before softmax; detached, no gradient reaches the teacher.
        temperature: T > 0, no unit, or one for each row (B, 1); 1 leaves both distributions as they are.
        keep: (B,) bool, rows that count; None for all.

    Returns:
        0-d tensor, nats times T**2, >= 0; 0 when the two distributions agree, or no row is kept.

    Raises:
        ValueError: the shapes differ, or ``temperature`` <= 0.

    Source: Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 2.
    """
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(f"logits differ in shape: {tuple(student_logits.shape)}, {tuple(teacher_logits.shape)}")
    if isinstance(temperature, (int, float)) and not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    student = F.log_softmax(wide(student_logits) / temperature, dim=1)
    teacher = F.log_softmax(wide(teacher_logits.detach()) / temperature, dim=1)
    rows = F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
    if isinstance(temperature, Tensor):
        return mean_of_kept(temperature[:, 0].detach() ** 2 * rows, keep)
    return temperature**2 * mean_of_kept(rows, keep)


def mean_of_kept(rows: Tensor, keep: Tensor | None) -> Tensor:
    """Average (B,) values over the rows that ``keep`` (B,) bool marks, whatever stands in the others.

    0 when it marks none; over all rows when it is None.
    """
    if keep is None:
        return rows.mean()
    return torch.where(keep, rows, torch.zeros_like(rows)).sum() / keep.sum().clamp(min=1)


def cosine_matrix(rows: Tensor, columns: Tensor) -> Tensor:
    """Compare every row with every column vector by their cosine, in one matrix product.

    Args:
        rows: (R, D). columns: (N, D). Gradient reaches both.

    Returns:
        (R, N) cosines in [-1, 1]; a vector shorter than 1e-8 counts as that long, as in torch's `cosine_similarity`.
    """
    first = F.normalize(wide(rows), dim=1, eps=_COSINE_EPSILON)
    second = F.normalize(wide(columns), dim=1, eps=_COSINE_EPSILON)
    return first @ second.T


def rank_of_target(scores: Tensor, targets: Tensor) -> Tensor:
    """Say at which place of each row's descending order its target stands.

    Args:
        scores: (R, N), any order-preserving transform of it gives the same. targets: (R,) int64 columns.

    Returns:
        (R,) int64 ranks, 0 when the target scores highest; of equal scores the one with the lower column comes first.
    """
    own = scores.gather(1, targets[:, None])
    columns = torch.arange(scores.shape[1], device=scores.device)
    ahead = (scores > own) | ((scores == own) & (columns < targets[:, None]))
    return ahead.sum(1)


def select_by_error_level(ranks: Tensor, ratio: float) -> Tensor:
    """Keep every right row and the least wrong share of the others.

    All rows of rank 0, and of the W others the ``floor(ratio * W)`` of lowest rank; equal ranks are taken in row order.
    The result has a fixed shape, and nothing waits for the device.

    Args:
        ranks: (R,) integers >= 0. ratio: in [0, 1].

    Returns:
        (R,) bool.

    Raises:
        ValueError: ``ratio`` is outside [0, 1].

    Source: Xu et al. 2020, arXiv:2006.07114, section 3.3 (selective transfer by error level).
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio must be in [0, 1], got {ratio}")
    wrong = (ranks > 0).sum()
    kept = ranks.numel() - wrong + _quotas(ranks.numel(), ratio, ranks.device).index_select(0, wrong.view(1))
    order = torch.argsort(ranks, stable=True)
    place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=ranks.device))
    return place < kept


@lru_cache(maxsize=64)
def _quotas(rows: int, ratio: float, device: torch.device) -> Tensor:
    """Tabulate how many of 0 .. ``rows`` wrong rows are kept; once, as a copy to the device makes the host wait.

    The host's float64 gives the authors' rounding on every device, on those without float64 too.
    """
    return torch.tensor([int(ratio * wrong) for wrong in range(rows + 1)], device=device)


def averaged_alike(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Bring two feature maps to one size by averaging, on each axis, the one that is larger there.

    Args:
        student_map: (B, C, H, W). teacher_map: (B, C', H', W'). Gradient passes through both: detach the teacher's.

    Returns:
        (B, C, h, w) and (B, C', h, w) with h = min(H, H') and w = min(W, W'); a map of that size is returned as it is.

    Source: the CIFAR-100 benchmark RepDistiller (Tian et al. 2020, arXiv:1910.10699), for square maps.
    """
    height, width = (min(student_map.shape[axis], teacher_map.shape[axis]) for axis in (-2, -1))
    student, teacher = (
        one if one.shape[-2:] == (height, width) else F.adaptive_avg_pool2d(one, (height, width))
        for one in (student_map, teacher_map)
    )
    return student, teacher


def unit_vectors(vectors: Tensor) -> Tensor:
    """Divide vectors (..., D) by their length; those not longer than 1e-12 become zero and get no gradient.

    torch's `normalize` would send such a vector 1e12 times what arrives.
    """
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    divided: Tensor = vectors / length.masked_fill(length <= _SHORTEST, math.inf)
    return divided


def risen_share(epoch: int, warmup_epochs: int) -> float:
    """Return the share of a weight that is in force in ``epoch`` (from 0), rising in equal steps: 1/n, 2/n, ... to 1.

    Args:
        warmup_epochs: n >= 0; 0 gives the whole weight at once.
    """
    return min((epoch + 1) / warmup_epochs, 1.0) if warmup_epochs else 1.0


def wide(tensor: Tensor) -> Tensor:
    """Return half-precision tensors as float32, others as they are: losses are computed in nothing less."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
