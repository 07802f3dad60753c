"""Counts what would make the host wait for an accelerator, while everything runs on a CPU."""

from collections import Counter
from contextlib import ExitStack
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_WAITING = {
    torch.ops.aten._local_scalar_dense: "a number is read",  # item(), float(), bool(), int()
    torch.ops.aten.nonzero: "positions are listed",
    torch.ops.aten.masked_select: "positions are listed",
    torch.ops.aten.lift_fresh: "numbers are sent",  # torch.tensor(), an index of Python numbers
}
_INDEXING = (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_)
_LINEAR_ALGEBRA = ("linalg_", "_linalg_", "geqrf", "ormqr")
_FETCHING = ("cpu", "numpy", "tolist", "__array__")


class _Operations(TorchDispatchMode):
    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = func.overloadpacket
        if packet in _WAITING:
            self.seen[_WAITING[packet]] += 1
        if packet in _INDEXING and any(one is not None and one.dtype == torch.bool for one in args[1]):
            self.seen["positions are listed"] += 1
        if str(packet).removeprefix("aten.").startswith(_LINEAR_ALGEBRA) and "vector_norm" not in str(packet):
            self.seen["a decomposition is checked"] += 1
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Copies to the host cannot be seen below: on a CPU nothing is copied."""

    def __init__(self, seen: Counter[str]) -> None:
        super().__init__()
        self.seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _FETCHING and isinstance(args[0], Tensor):
            self.seen["a tensor is fetched"] += 1
        return func(*args, **(kwargs or {}))


class HostWaits:
    """Counts, by kind, what happens inside: ``seen`` is empty when the host never waits."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(_Calls(self.seen))
        self._stack.enter_context(_Operations(self.seen))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
