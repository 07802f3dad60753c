"""What a device can do at most, and what a step asks of it: for saying how far from its limits a step runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_NO_KERNEL = {torch.ops.aten.detach, torch.ops.aten._unsafe_view, torch.ops.aten.empty, torch.ops.aten.empty_like}


@dataclass(frozen=True)
class Limits:
    """Measured on the device: floating-point operations a second of a large matrix product, seconds a launch."""

    flops_per_second: float
    seconds_per_launch: float


class Work(TorchDispatchMode):
    """Counts, while it is in force, what is computed: floating-point operations, and kernels (about one an operation).

    A fused or foreach operation counts as one kernel, though it may be a few.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if not func.is_view and packet not in _NO_KERNEL:
            self.kernels += 1
            self.flops += _flops(packet, args, kwargs or {}, out)
        return out


def _flops(packet: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Count multiplications and additions; torch's own count of a grouped convolution's backward pass is too high."""
    if packet is torch.ops.aten.convolution_backward:
        gradient, weight = args[0], args[2]
        return 2 * sum(item is not None for item in out[:2]) * gradient.numel() * int(weight[0].numel())
    return int(flop_registry[packet](*args, **kwargs, out_val=out)) if packet in flop_registry else 0


def limits(device: torch.device) -> Limits:
    """Measure a device: a large matrix product (bfloat16 on an accelerator, float32 on a CPU), and empty launches."""
    fast = device.type != "cpu"
    size, dtype = (8192, torch.bfloat16) if fast else (1024, torch.float32)
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    nothing: Tensor = torch.zeros(1, device=device)
    product = best_of(lambda: one @ other, device, times=20 if fast else 2)
    launch = best_of(lambda: nothing.add_(1), device, times=2000 if fast else 200)
    return Limits(2 * size**3 / product, launch)


def best_of(work: Callable[[], object], device: torch.device, *, times: int, rounds: int = 5) -> float:
    """Return the seconds of one piece of work: the best of some rounds, each of many pieces and one wait at its end."""
    taken = []
    for _ in range(rounds):
        wait(device)
        began = time.perf_counter()
        for _ in range(times):
            work()
        wait(device)
        taken.append((time.perf_counter() - began) / times)
    return min(taken)


def wait(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: torch.device) -> int:
    """Return the most device memory that tensors took since `forget_peak`; 0 where that is not counted."""
    return int(torch.cuda.max_memory_allocated(device)) if device.type == "cuda" else 0


def forget_peak(device: torch.device) -> None:
    """Give back what nobody holds, and count anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def name_of(device: torch.device) -> str:
    """Name the device for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
