"""What holds for the terms of every method: their kind, their gradients, their precision, what they may hang on."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from compressor.distiller import Phase, Terms
from compressor.testing.scenes import IMAGES, Scene
from compressor.testing.subject import AnyDistiller, Broken, Subject

_HALF = (torch.bfloat16, torch.float16)
_ZERO = 1e-6  # of a weighted term in float64
_VANISHING = 1e-3  # of what the term is between networks that differ: some divide by a length plus a small number


def look_at_phase(subject: Subject, phase: Phase) -> None:
    """Run one step of a phase: values, gradients, and tensors that others read too."""
    _look_for_overwriting(subject, phase)
    distiller = subject.build()
    scene = subject.scene(phase, seed=1).apart(gradient=True)
    terms = subject.terms(distiller, phase, scene)
    _look_at_values(subject, phase, terms)
    subject.backward(phase, terms)
    _look_at_gradients(subject, phase, distiller, scene)
    subject.after_step(distiller, scene)


def look_at_precision(subject: Subject, phase: Phase) -> None:
    """Let both networks answer in half precision: as the core hands it on, in float32, and as it is.

    A method may refuse half-precision answers, which the core never gives; it may not return what is not finite.
    """
    for dtype in _HALF:
        scene = subject.scene(phase, seed=1).rounded(dtype)
        seen = f"terms of phase {phase.name!r} where the networks answer in {_name(dtype)}"
        for name, value in subject.terms(subject.build(), phase, scene).items():
            if not torch.isfinite(value):
                subject.tell(f"{seen}: {name!r} is {value.item()}", "keep it finite for rounded answers")
            elif value.dtype in _HALF:
                subject.tell(f"{seen}: {name!r} is {_name(value.dtype)}", "leave the precision of its input as it is")
        for name, value in _unwidened(subject, phase, scene.rounded(dtype)).items():
            if not torch.isfinite(value):
                subject.tell(
                    f"{seen} and nobody widens them: {name!r} is {value.item()}",
                    "compute the loss in float32, see compressor.functional.wide",
                )


def look_at_equals(subject: Subject, phase: Phase) -> set[str]:
    """Let the student answer as the teacher does: the terms in `Distiller.zero_when_equal` all but vanish, in float64.

    Returns:
        the names of this phase's terms.
    """
    scene = subject.scene(phase, seed=7)
    shapes = {name: value.shape for name, value in scene.student.items()}
    if shapes != {name: value.shape for name, value in scene.teacher.items()} or not phase.runs_student:
        return set()
    usual = subject.terms(subject.build().double(), phase, scene.rounded(torch.float64))
    terms = subject.terms(subject.build().double(), phase, scene.alike())
    for name in sorted(terms.keys() & set(subject.method.zero_when_equal)):
        if not abs(terms[name].item()) <= _ZERO + _VANISHING * abs(usual[name].item()):
            subject.tell(
                f"{name!r} is {terms[name].item():.3g} where student and teacher answer alike",
                "mend it, or leave it out of zero_when_equal",
            )
    return set(terms)


def look_at_micro_batches(subject: Subject, phase: Phase) -> None:
    """Let two parts of a batch go through before the method is told of either."""
    distiller = subject.build()
    scenes = [subject.scene(phase, seed=2 + number, step=1) for number in range(2)]
    for scene in scenes:
        subject.backward(phase, subject.terms(distiller, phase, scene))
    for scene in scenes:
        subject.after_step(distiller, scene)


def look_at_order(subject: Subject, phase: Phase) -> None:
    """Give a batch in another order to the same state: the terms are the same, unless the method draws."""
    moved = subject.build()
    subject.step(moved, phase, subject.scene(phase, seed=1))
    scene = subject.scene(phase, seed=5, step=3)
    first, again = (
        subject.terms(subject.build(like=moved), phase, scene.apart(gradient=False), seed=seed) for seed in (0, 1)
    )
    if not all(torch.equal(first[name], again[name]) for name in first):
        return
    order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(6))
    turned = subject.terms(subject.build(like=moved), phase, scene.permuted(order))
    for name, value in first.items():
        if not torch.allclose(value, turned[name], rtol=1e-3, atol=1e-5):
            subject.tell(f"{name!r} depends on the order of the batch", "treat images alike, and rows view fastest")


def _look_for_overwriting(subject: Subject, phase: Phase) -> None:
    scene = subject.scene(phase, seed=1)
    given = scene.apart(gradient=False)
    subject.terms(subject.build(), phase, given)
    before = {f"teacher's {name}": (value, given.teacher[name]) for name, value in scene.teacher.items()}
    before |= {f"student's {name}": (value, given.student[name]) for name, value in scene.student.items()}
    before["labels"] = (scene.batch.labels, given.batch.labels)
    for what, (value, after) in before.items():
        if not torch.equal(value, after):
            subject.tell(f"phase {phase.name!r} overwrites the {what}", "work on a copy: others read them too")
    if any(value.requires_grad for value in given.teacher.values()):
        subject.tell(f"phase {phase.name!r} asks the teacher for gradients", "leave its tensors as they are")


def _look_at_values(subject: Subject, phase: Phase, terms: Any) -> None:
    what = f"terms of phase {phase.name!r}"
    if not isinstance(terms, dict) or not terms:
        subject.tell(f"{what} are {type(terms).__name__} {terms!r:.40}", "return a dict of at least one named tensor")
        raise Broken
    for name, value in terms.items():
        if not isinstance(value, Tensor) or value.dim() != 0 or not value.is_floating_point():
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            subject.tell(f"{what}: {name!r} is {shape}", "return 0-d floating-point tensors")
            raise Broken
        if not torch.isfinite(value):
            subject.tell(f"{what}: {name!r} is {value.item()}", "keep it finite for ordinary answers")
            raise Broken


def _look_at_gradients(subject: Subject, phase: Phase, distiller: AnyDistiller, scene: Scene) -> None:
    """Find gradients where they belong (what the phase trains), and none at a teacher that it does not train."""
    where = f"phase {phase.name!r}"
    if "student" in phase.trains and not _reached(scene.student.values()):
        subject.tell(f"no gradient of {where} reaches the student", "do not detach its answer")
    if "teacher" in phase.trains and not _reached(scene.teacher.values()):
        subject.tell(f"no gradient of {where} reaches the teacher that it trains", "do not detach its answer")
    for name, value in scene.teacher.items():
        if "teacher" not in phase.trains and _reached([value]):
            subject.tell(f"a gradient of {where} reaches the teacher's {name}", f"use {name}.detach()")
    for name in sorted(set(phase.trains) - {"student", "teacher"}):
        parameters = list(distiller.get_submodule(name).parameters())
        if parameters and not _reached(parameters):
            subject.tell(f"{where} trains {name!r}, no gradient reaches it", "use it or do not name it")
    everything = [*scene.student.values(), *scene.teacher.values(), *distiller.parameters()]
    if any(value.grad is not None and not bool(torch.isfinite(value.grad).all()) for value in everything):
        subject.tell(f"a gradient of {where} is not finite", "guard divisions, roots and logarithms at zero")


def _reached(tensors: Iterable[Tensor]) -> bool:
    return any(value.grad is not None and bool(value.grad.any()) for value in tensors)


def _unwidened(subject: Subject, phase: Phase, scene: Scene) -> Terms:
    """Hand half-precision answers to the method as they are; nothing where it raises, as layers in float32 do."""

    def silent(message: str, fix: str) -> None: ...

    quiet = Subject(subject.method, subject.config, subject.case, subject.needs, silent)
    try:
        return quiet.terms(subject.build(), phase, scene, widened=False)
    except Broken:
        return {}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
