"""Optimiser and learning rate: timm's, as functions of the settings and the epoch alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from timm.optim._optim_factory import create_optimizer_v2, list_optimizers
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import Tensor, nn

from compressor.config.settings import TrainingConfig
from compressor.distiller import Schedule
from compressor.errors import UsageError, suggestion


def make_optimizer(
    parameters: Sequence[nn.Parameter], training: TrainingConfig, lr: float, *, device: str = "cpu"
) -> torch.optim.Optimizer:
    """Make the optimiser that the settings name, over all parameters alike (no exception for biases or norms).

    Args:
        device: kind of device whose fast forms are taken: on ``cuda`` SGD in one sweep, Adam without asking the host.

    Raises:
        UsageError: timm knows no optimiser of that name.
    """
    name = training.optimizer.lower()
    if name == "sgd" and not training.nesterov:
        name = "momentum"  # timm's word for SGD without Nesterov's correction
    elif name not in (known := [str(item) for item in list_optimizers()]):
        raise UsageError(f"no optimizer {name!r}", hint=suggestion(name, known))
    options: dict[str, Any] = {}
    if name in ("momentum", "sgd"):
        options = {"fused": True} if device == "cuda" else {"foreach": True}
    elif name in ("adam", "adamw") and device == "cuda":
        options = {"capturable": True}
    made: torch.optim.Optimizer = create_optimizer_v2(
        list(parameters), opt=name, lr=lr, weight_decay=training.weight_decay, momentum=training.momentum, **options
    )
    return made


def is_recordable(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether a step, with its rate in a tensor, is the same operations each time and asks nothing of the host.

    torch's SGD is where it goes in one sweep, and on a CPU in any form; others are where they were made capturable.
    """
    group = optimizer.param_groups[0]
    if isinstance(optimizer, torch.optim.SGD):
        return bool(group["fused"]) or group["params"][0].device.type == "cpu"
    return bool(group.get("capturable"))


class LearningRate:
    """The rate of an epoch, a pure function of it: nothing to save, nothing to restore.

    Args:
        optimizer: whose rate is set. training: the run's settings. schedule: what a phase has of its own.
        device: where the rate lies in a tensor that is filled anew, so that recorded steps read it; None for a number.

    Attributes:
        now: the rate that was set last.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        training: TrainingConfig,
        schedule: Schedule,
        *,
        device: torch.device | None = None,
    ) -> None:
        kind: str = "multistep" if schedule.milestones else training.schedule
        milestones = [max(1, round(share * schedule.epochs)) for share in schedule.milestones]
        if kind == "multistep":
            # timm applies a milestone m from epoch m - 1 on; the papers and torch from epoch m on (counted from 0).
            later = [milestone + 1 for milestone in milestones]
            options: dict[str, Any] = {"decay_milestones": later, "decay_rate": schedule.decay}
        elif kind == "cosine":
            options = {"min_lr": training.min_lr}
        else:
            kind, options = "step", {"decay_epochs": schedule.epochs + 1, "decay_rate": 1.0}
        self._optimizer = optimizer
        self._scheduler, _ = create_scheduler_v2(
            optimizer,
            sched=kind,
            num_epochs=max(1, schedule.epochs),
            warmup_epochs=min(training.warmup_epochs, max(0, schedule.epochs - 1)),
            warmup_lr=0.0
            if training.warmup_epochs == 0
            else (schedule.lr or training.lr) / (training.warmup_epochs + 1),
            **options,
        )
        groups = optimizer.param_groups
        self.now = float(groups[0]["lr"])
        self._tensors: list[Tensor] = [] if device is None else [torch.zeros((), device=device) for _ in groups]

    def set_for(self, epoch: int) -> float:
        """Set the rate of ``epoch`` (from 0) and return it."""
        self._scheduler.step(epoch)
        groups = self._optimizer.param_groups
        self.now = float(groups[0]["lr"])
        for group, tensor in zip(groups, self._tensors, strict=False):
            group["lr"] = tensor.fill_(group["lr"])
        return self.now


def schedule_of(training: TrainingConfig, own: Schedule | None) -> Schedule:
    """Return a phase's own schedule, or the run's."""
    if own is not None:
        return replace(own, lr=training.lr) if own.lr is None else own
    milestones = training.milestones if training.schedule == "multistep" else ()
    return Schedule(epochs=training.epochs, lr=training.lr, milestones=milestones, decay=training.decay)
