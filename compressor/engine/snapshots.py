"""A lane as tensors and plain values, and back: all that a resumed run needs to give the same bits."""

from typing import Any

import torch
from torch import Tensor

from compressor.engine.lanes import Lane, Position
from compressor.engine.meters import Meter
from compressor.errors import InputError, TrainingError


def snapshot(lane: Lane) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a lane's tensors, named by what they are of (``student/``, ``method/`` ...), and its numbers.

    Raises:
        TrainingError: the student's weights are not finite; such a state is nothing to go on from.
    """
    tensors = {f"student/{key}": value for key, value in lane.module.student.net.state_dict().items()}
    tensors |= {f"method/{key}": value for key, value in lane.method_state().items()}
    tensors |= {f"best/{key}": value for key, value in lane.best.weights.items()}
    if lane.ema is not None:
        tensors |= {f"ema/{key}": value for key, value in lane.ema.module.state_dict().items()}
    if lane.module.own_teacher is not None:
        tensors |= {f"teacher/{key}": value for key, value in lane.module.own_teacher.net.state_dict().items()}
    if lane.meter.total is not None:
        tensors["meter"] = lane.meter.total
    tensors |= {f"notes/{name}": total for name, total in lane.notes.totals.items()}
    numbers: dict[str, Any] = {}
    for index, values in lane.optimizer.state_dict()["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            elif value is not None:
                numbers[f"{index}/{key}"] = value
    plain = {
        "phase": lane.position.phase,
        "phase_name": lane.phase.name,
        "step": lane.position.step,
        "best_top1": lane.best.top1,
        "best_epoch": lane.best.epoch,
        "history": lane.history,
        "seconds": lane.seconds,
        "meter_names": list(lane.meter.names),
        "meter_weight": lane.meter.weight,
        "notes": dict(lane.notes.counts),
        "optimizer": numbers,
        "scaler": None if lane.scaler is None else lane.scaler.state_dict(),
    }
    kept = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    _refuse_lost_weights(lane, kept)
    return kept, plain


def restore(lane: Lane, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Put a lane back where `snapshot` saw it.

    Raises:
        InputError: the state belongs to another network, method or phase.
    """
    try:
        _restore(lane, tensors, plain)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as cause:
        reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise InputError(f"checkpoint of {lane.name} is damaged: {reason}", hint="--fresh starts again") from cause


def _restore(lane: Lane, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    lane.position = Position(int(plain["phase"]), int(plain["step"]))
    if min(lane.position.phase, lane.position.step) < 0:
        raise ValueError(f"{lane.position} lies before the start")
    if lane.position.phase >= len(lane.phases) or lane.phase.name != plain["phase_name"]:
        raise InputError(f"checkpoint is in phase {plain['phase_name']!r}, which {lane.name} does not have")
    lane.begin()
    _load(lane.module.student.net, _under("student/", tensors), "student")
    _load(lane.module.distiller, lane.module.distiller.state_dict() | _under("method/", tensors), "method")
    if lane.module.own_teacher is not None:
        _load(lane.module.own_teacher.net, _under("teacher/", tensors), "network in the teacher's place")
    if lane.ema is not None:
        _load(lane.ema.module, _under("ema/", tensors), "moving average")
    lane.best.top1, lane.best.epoch = plain["best_top1"], plain["best_epoch"]
    lane.best.weights = _under("best/", tensors)
    lane.history = list(plain["history"])
    lane.seconds = float(plain["seconds"])
    lane.meter.names, lane.meter.weight = tuple(plain["meter_names"]), float(plain["meter_weight"])
    lane.meter.total = tensors["meter"].to(lane.runtime.device) if "meter" in tensors else None
    if not lane.runtime.is_main:  # what was saved are the sums of all processes, and the first one has them
        lane.meter = Meter()
    lane.notes.counts = {name: int(count) for name, count in plain.get("notes", {}).items()}
    lane.notes.totals = {key: value.to(lane.runtime.device) for key, value in _under("notes/", tensors).items()}
    _restore_optimizer(lane, _under("optimizer/", tensors), plain["optimizer"])
    if lane.scaler is not None:
        lane.scaler.load_state_dict(plain["scaler"])


def _refuse_lost_weights(lane: Lane, tensors: dict[str, Tensor]) -> None:
    for key, value in tensors.items():
        if key.startswith(("student/", "ema/")) and value.is_floating_point() and not value.isfinite().all():
            raise TrainingError(
                f"{lane.name}: weights became NaN or infinite at step {lane.position.step} ({key.partition('/')[2]})",
                hint=f"{lane.rate_option}{lane.rate.now / 4:g}",
                code="training.not_finite",
            )


def _restore_optimizer(lane: Lane, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
    parameters = [parameter for group in lane.optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in (tensors | numbers).items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = _laid_out(value, parameters[int(index)])
    current = lane.optimizer.state_dict()
    lane.optimizer.load_state_dict({"state": state, "param_groups": current["param_groups"]})


def _laid_out(value: Any, parameter: Tensor) -> Any:
    """Order a moment's numbers in memory as its parameter's are: a fused step takes both in one sweep."""
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value).detach()


def _load(module: torch.nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as cause:
        raise InputError(f"checkpoint does not fit the {what}: {str(cause).splitlines()[-1].strip()}") from cause


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
