"""Optimiser and learning rate: timm's, as functions of the settings and the epoch alone."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from timm.optim._optim_factory import create_optimizer_v2, list_optimizers
from timm.scheduler.scheduler_factory import create_scheduler_v2
from torch import nn

from compressor.config.settings import TrainingConfig
from compressor.distiller import Schedule
from compressor.errors import UsageError, suggestion


def make_optimizer(parameters: Sequence[nn.Parameter], training: TrainingConfig, lr: float) -> torch.optim.Optimizer:
    """Make the optimiser that the settings name, over all parameters alike (no exception for biases or norms).

    Raises:
        UsageError: timm knows no optimiser of that name.
    """
    name = training.optimizer.lower()
    if name == "sgd" and not training.nesterov:
        name = "momentum"  # timm's word for SGD without Nesterov's correction
    elif name not in (known := [str(item) for item in list_optimizers()]):
        raise UsageError(f"no optimizer {name!r}", hint=suggestion(name, known))
    options: dict[str, Any] = {"foreach": True} if name in ("momentum", "sgd") else {}
    made: torch.optim.Optimizer = create_optimizer_v2(
        list(parameters), opt=name, lr=lr, weight_decay=training.weight_decay, momentum=training.momentum, **options
    )
    return made


class LearningRate:
    """The rate of an epoch, a pure function of it: nothing to save, nothing to restore.

    Args:
        optimizer: whose rate is set. training: the run's settings. schedule: what a phase has of its own.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, training: TrainingConfig, schedule: Schedule) -> None:
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

    def set_for(self, epoch: int) -> float:
        """Set the rate of ``epoch`` (from 0) and return it."""
        self._scheduler.step(epoch)
        return float(self._optimizer.param_groups[0]["lr"])


def schedule_of(training: TrainingConfig, own: Schedule | None) -> Schedule:
    """Return a phase's own schedule, or the run's."""
    if own is not None:
        return replace(own, lr=training.lr) if own.lr is None else own
    milestones = training.milestones if training.schedule == "multistep" else ()
    return Schedule(epochs=training.epochs, lr=training.lr, milestones=milestones, decay=training.decay)
