"""What decides a teacher's answer to a numbered picture, as names of folders: any difference makes another one."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from compressor.data.scenarios import Scenario
from compressor.data.types import Split, ViewSlot
from compressor.engine.names import safe
from compressor.engine.session import Session, Teacher
from compressor.models.taps import Wanted

_FORMAT = 1
_PARTS = ("embedding", "stages", "preacts")


def described(session: Session, teacher: Teacher, split: Split) -> dict[str, Any]:
    """Return all that decides the answers, but for the view and the parts wanted of it, as plain JSON values."""
    data, runtime = session.data, session.runtime
    whole = split is data.teacher_train or data.scenario == Scenario()
    return {
        "format": _FORMAT,
        "teacher": teacher.sha256,
        "normalisation": [list(teacher.normalisation.mean), list(teacher.normalisation.std)],
        "normalised": teacher.normalisation.identity,
        "form": {
            "network": form_sha256(teacher.tapped.form),
            "precision": runtime.precision,
            "device": runtime.device.type,
            "plain": runtime.plain,
            "torch": torch.__version__,
        },
        "data": data.teacher_sha256 if whole else data.sha256,
        "images": len(split),
        "image_size": list(data.image_size),
        "pipeline": data.pipeline,
        "augmentation": session.augmentation.described(),
    }


def key_of(description: Mapping[str, Any]) -> str:
    """Hash a description, 64 hex digits."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def slot_name(slot: ViewSlot) -> str:
    """Name a view: the same for every method that asks for the same picture, and for no other."""
    if slot.view == 0:
        return "plain"
    kind = type(slot.views)
    settings = {**asdict(slot.views), "view": slot.view}
    told = f"{kind.__module__}.{kind.__qualname__} {settings}"
    return f"{safe(slot.views.family)}-{slot.view}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def parts_name(wanted: Wanted) -> str:
    """Name the parts of an answer that are kept: ``logits``, ``logits+embedding`` ..."""
    return "+".join(["logits", *(part for part in _PARTS if getattr(wanted, part))])


def names_of_more(wanted: Wanted) -> list[str]:
    """Return `parts_name` of all combinations that hold what is wanted and more."""
    flags = [(False, True) if not getattr(wanted, part) else (True,) for part in _PARTS]
    every = [Wanted(embedding=e, stages=s, preacts=p) for e in flags[0] for s in flags[1] for p in flags[2]]
    return [parts_name(each) for each in every if parts_name(each) != parts_name(wanted)]


def wanted_by(name: str) -> Wanted:
    """Undo `parts_name`."""
    parts = name.split("+")
    return Wanted(**{part: part in parts for part in _PARTS})


def expected_new(images: int, each: int, epochs: int, known: int, *, pool: bool) -> int:
    """Return how many pictures of a view a run will see for the first time, where ``known`` of them are known.

    A pool is seen draw by draw; of ``each`` pictures of an image fresh draws are likely to hit some more than once.
    """
    if pool or each == 1:
        return max(0, images * min(each, epochs) - known)
    hit = -math.expm1(epochs * math.log1p(-1 / each))
    return round(hit * max(0, images * each - known))


def form_sha256(net: nn.Module) -> str:
    """Hash the modules that run and the types of their numbers: folded layers answer with other last bits."""
    lines = [f"{name} {type(module).__module__}.{type(module).__qualname__}" for name, module in net.named_modules()]
    lines += [f"{name} {value.dtype}" for name, value in net.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
