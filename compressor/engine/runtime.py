"""Devices, precision and processes. The only file that imports accelerate."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from compressor.config.settings import Precision, RuntimeConfig
from compressor.engine.capture import recorder_for
from compressor.errors import TrainingError, UsageError

_CONNECTIONS = ("gloo", "NCCL")  # named in what their libraries raise
_MIXED = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


class Runtime:
    """Where a run computes.

    Args:
        config: device, processes and threads that were asked for.
        precision: of forward and backward passes.

    Raises:
        UsageError: the device or the precision is not there, or the run was launched with another number of processes.
    """

    def __init__(self, config: RuntimeConfig, precision: Precision = "fp32") -> None:
        self._check_device(config.device)
        self.precision = precision
        self.plain = config.plain
        # Accelerate keeps one precision a process; a second run in the same process may want another.
        AcceleratorState._reset_state(reset_partial_state=True)
        try:
            self._accelerator = Accelerator(
                mixed_precision=_MIXED[precision],
                cpu=config.device == "cpu",
                kwargs_handlers=[_own_buffers()],
            )
        except ValueError as cause:
            raise UsageError(f"no --precision {precision} here: {cause}", hint="--precision fp32") from cause
        if self.world != config.processes:
            raise UsageError(
                f"launched with {self.world} of {config.processes} processes",
                hint=f"torchrun --nproc-per-node {config.processes} -m compressor ... --processes {config.processes}",
            )
        self.device: torch.device = torch.device(config.device) if ":" in config.device else self._accelerator.device
        self.capture = "off" if config.plain else config.capture
        self.recorder = recorder_for(self.device, self.capture, self.world)
        compiling = self.device.type == "cpu" and self.world == 1 and precision == "fp32" and not config.plain
        self.compiles = config.compile_teacher if compiling else "off"
        if self.device.type == "cuda":
            self._set_up_cuda()

    @property
    def fast_device(self) -> str:
        """Kind of device whose fast forms of the same arithmetic are taken; ``cpu`` with ``--plain``."""
        return "cpu" if self.plain else self.device.type

    def _set_up_cuda(self) -> None:
        """Compute float32 products in TF32 as torch's convolutions do, or with ``--plain`` neither of them."""
        if self.device.index is not None:
            torch.cuda.set_device(self.device)
        torch.set_float32_matmul_precision("highest" if self.plain else "high")
        torch.backends.cudnn.allow_tf32 = not self.plain

    @property
    def asynchronous(self) -> bool:
        """Whether the host runs ahead of the device, so that reading a number of it makes the host wait."""
        return self.device.type != "cpu"

    def finish_queued(self) -> None:
        """Return when the device has done all that it was given; for measuring."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    @property
    def world(self) -> int:
        """Number of processes."""
        return int(self._accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self._accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this process writes to the disk."""
        return bool(self._accelerator.is_main_process)

    def prepare(self, module: nn.Module) -> nn.Module:
        """Move a module to the device and, with several processes, make its gradients common."""
        module.to(self.device)
        if self.world == 1:
            return module
        prepared: nn.Module = self._accelerator.prepare_model(module)
        return prepared

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """Run forward passes in the run's precision."""
        if self.precision == "fp32":
            yield
            return
        with self._accelerator.autocast():
            yield

    def gather(self, tensor: Tensor) -> Tensor:
        """Join a tensor's rows over all processes, in rank order; no gradient."""
        if self.world == 1:
            return tensor
        gathered: Tensor = self._accelerator.gather(tensor.contiguous())
        return gathered

    def any_of(self, flag: bool) -> bool:
        """Say whether any process says yes; every process gets the same answer."""
        if self.world == 1:
            return flag
        return bool(self.gather(torch.tensor([flag], device=self.device)).any())

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say in one line that another process has gone, where this one noticed it first.

        Raises:
            TrainingError: in place of what the library that connects the processes raised.
        """
        try:
            yield
        except RuntimeError as cause:
            if self.world == 1 or not any(word in str(cause) for word in _CONNECTIONS):
                raise
            raise TrainingError(
                "another process of this run has ended; its own message tells why",
                hint="the same command goes on from the last checkpoint",
                code="training.process_lost",
            ) from cause

    def wait_for_everyone(self) -> None:
        """Return when every process has come here."""
        self._accelerator.wait_for_everyone()

    @staticmethod
    def _check_device(name: str) -> None:
        kind = name.partition(":")[0]
        known = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        if not known.get(kind, False):
            there = ", ".join(device for device, available in known.items() if available)
            raise UsageError(f"no device {name!r} on this machine", hint=f"--device: {there}")
        if kind == "cuda" and ":" in name and int(name.partition(":")[2]) >= torch.cuda.device_count():
            raise UsageError(f"no device {name!r}: this machine has {torch.cuda.device_count()}")


def _own_buffers() -> DistributedDataParallelKwargs:
    """Leave buffers (batch statistics, memory banks) to each process; accelerate renamed the option in 1.15."""
    names = {item.name for item in fields(DistributedDataParallelKwargs)}
    key = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    return DistributedDataParallelKwargs(find_unused_parameters=True, **{key: False})
