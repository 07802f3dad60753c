"""Contrast indices drawn before they are wanted, so that an accelerator never waits for the host's draws."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from compressor.data.contrast import ContrastSampler
from compressor.data.transfer import sent

_MOST_THREADS = 8


def contrast_batches(
    sampler: ContrastSampler,
    positions: Sequence[Tensor],
    epoch: int,
    device: torch.device,
    *,
    ahead: bool,
) -> Iterator[Tensor]:
    """Yield one tensor of contrast indices, (B, 1 + K) int64 on the device, for each tensor of positions.

    Each draw belongs to (seed, epoch, position), so the two ways give the same numbers.

    Args:
        positions: (B,) each, on the CPU.
        ahead: whether threads draw some batches before they are asked for, else each is drawn when it is.
    """
    if not ahead:
        for wanted in positions:
            yield sampler.draw(wanted, epoch).to(device)
        return
    threads = min(_MOST_THREADS, max(1, (os.cpu_count() or 2) - 1))
    pool = ThreadPoolExecutor(threads, thread_name_prefix="contrast")
    waiting: deque[Future[Tensor]] = deque()
    left = iter(positions)
    try:
        for wanted in left:
            waiting.append(pool.submit(sampler.draw, wanted, epoch))
            if len(waiting) > 2 * threads:
                yield sent(waiting.popleft().result(), device)
        while waiting:
            yield sent(waiting.popleft().result(), device)
    finally:  # also when a loop ends amid an epoch
        pool.shutdown(wait=False, cancel_futures=True)
