"""What a method leaves behind: its state, its plan, its claims of memory, its views, and the network it publishes."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from compressor.distiller import ExtendedStudent, Link, Phase, Views
from compressor.testing.subject import Broken, Subject, guarded, in_words, same_bits


def look_at_state(subject: Subject, phase: Phase) -> None:
    """Save the state amid a phase and load it into another build: from there both go on alike, bit for bit."""
    first = subject.build()
    subject.step(first, phase, subject.scene(phase, seed=1))
    state: dict[str, Any] = first.state_dict()
    loose = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if loose:
        subject.tell(f"{', '.join(loose)} of its state is no tensor", "keep state in modules and buffers")
        raise Broken
    other = subject.build(seed=1)
    try:
        other.load_state_dict({name: value.clone() for name, value in state.items()})
    except Exception as cause:  # a stranger's code may raise anything
        subject.tell(f"its own state cannot be loaded: {in_words(cause)}", "keep state in modules and buffers")
        raise Broken from cause
    for step in (2, 3):
        scene = subject.scene(phase, seed=2 + step, step=step)
        wanted, got = (subject.step(one, phase, scene.apart(gradient=False)) for one in (first, other))
        _compare(subject, wanted, got)
        _compare(subject, first.state_dict(), other.state_dict())


def _compare(subject: Subject, wanted: dict[str, Tensor], got: dict[str, Tensor]) -> None:
    for name in wanted | got:
        if name not in wanted or name not in got or not same_bits(wanted[name], got[name]):
            subject.tell(
                f"{name!r} differs after its state was saved and loaded", "register buffers for all that moves"
            )


def look_at_memory(subject: Subject) -> None:
    """Ask for the estimate of memory."""
    with guarded("memory_bytes", subject.tell):
        size = subject.method.memory_bytes(subject.config, subject.case.pair(subject.needs))
    if not isinstance(size, int) or size < 0:
        subject.tell(f"memory_bytes returns {size!r}", "return whole bytes, >= 0")


def look_at_plan(subject: Subject) -> None:
    """Ask where the networks are joined: links whose places are named and whose parameters are counted."""
    with guarded("plan", subject.tell):
        links: list[Any] = list(subject.build().plan())
    for link in links:
        if not isinstance(link, Link) or not (link.student and link.teacher and link.adapter):
            subject.tell(f"plan holds {link!r:.60}", "return Link(student=..., teacher=..., adapter=...)")
        elif type(link.parameters) is not int or link.parameters < 0:
            subject.tell(f"a link of plan adds {link.parameters!r} parameters", "count them: a whole number >= 0")


def look_at_views(subject: Subject, views: Views) -> None:
    """Make every view of some square images: view 0 is the images themselves, the others keep kind and shape."""
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.uint8).view(2, 3, 8, 8)
    with guarded("a view", subject.tell):
        made = [views.transform(images.clone(), number) for number in range(views.count)]
    if not made or not same_bits(made[0], images):
        subject.tell(f"view 0 of {views.family} is not the image itself", "let transform return it untouched")
    if any(view.shape != images.shape or view.dtype != images.dtype for view in made):
        subject.tell(f"views of {views.family} change an image's shape or kind", "keep both")


def look_at_export(subject: Subject) -> None:
    """Ask what is published: the student alone, or what `Distiller.exports_extras` adds to it, nothing copied."""
    student, distiller = subject.case.student.real(subject.case.classes), subject.build()
    with guarded("export", subject.tell):
        exported = distiller.export(student)
    if not isinstance(exported, nn.Module):
        subject.tell("export does not return a module", "return the student")
        return
    published = {id(tensor) for tensor in [*exported.parameters(), *exported.buffers()]}
    ours = {id(tensor) for tensor in [*student.parameters(), *student.buffers()]}
    extras = {id(tensor) for tensor in [*distiller.parameters(), *distiller.buffers()]}
    if not subject.method.exports_extras:
        if published & extras or not published <= ours:
            subject.tell("export does not return the student alone", "leave heads, adapters and banks behind")
        return
    if not published & ours or not published <= ours | extras:
        subject.tell("export does not share the student's parameters", "put the student's own modules into the whole")
    _look_at_whole(subject, exported)


def _look_at_whole(subject: Subject, exported: nn.Module) -> None:
    """Use the whole as an evaluation would, and read the words by which it can be built again."""
    height, width = subject.case.student.maps[0][1:]
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with guarded("what export returns", subject.tell), torch.no_grad():
        logits = exported.eval()(images)
    classes = subject.case.classes
    if not isinstance(logits, Tensor) or logits.shape != (2, classes) or not bool(torch.isfinite(logits).all()):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        subject.tell(
            f"what export returns answers {shape} to 2 images of {classes} classes", "answer with finite logits"
        )
    if not isinstance(exported, ExtendedStudent):
        subject.tell("what export returns does not say what was added", "return an ExtendedStudent")
        return
    try:
        json.dumps([exported.architecture, exported.model_args, exported.extras])
    except (TypeError, ValueError):
        subject.tell("architecture or model_args of what export returns are not plain values", "name what builds it")
