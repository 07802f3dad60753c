"""Are a method's phases well formed? What they train, are served, and for how long; nothing is run."""

from dataclasses import fields

from compressor.distiller import Needs, Owner, Phase, Schedule, Views
from compressor.testing.subject import AnyDistiller, Broken, Subject, guarded


def checked_phases(subject: Subject, distiller: AnyDistiller) -> list[Phase]:
    """Return the phases, every fault of theirs told.

    Raises:
        Broken: they cannot be run at all.
    """
    with guarded("phases", subject.tell):
        phases = list(distiller.phases())
    if not phases or "student" not in phases[-1].trains:
        subject.tell("the last phase does not train the student", "end phases() with one whose trains has 'student'")
        raise Broken
    names = [phase.name for phase in phases]
    if len(set(names)) < len(names):
        subject.tell(f"phases share a name: {', '.join(names)}", "give each its own")
    for phase in phases:
        _look_at_trains(subject, distiller, phase)
        _look_at_needs(subject, phase)
        _look_at_settings(subject, phase)
        _look_at_schedule(subject, phase)
    return phases


def _look_at_trains(subject: Subject, distiller: AnyDistiller, phase: Phase) -> None:
    children = {name for name, _ in distiller.named_children()}
    there = {"student", *children} | ({"teacher"} if subject.needs.own_teacher else set())
    if "teacher" in phase.trains and not subject.needs.own_teacher:
        subject.tell(
            f"phase {phase.name!r} trains the teacher, which others may share", "declare Needs(own_teacher=True)"
        )
        raise Broken
    unknown = sorted(set(phase.trains) - there)
    if unknown:
        subject.tell(
            f"phase {phase.name!r} trains {', '.join(unknown)}: no such module",
            f"there are: {', '.join(sorted(there))}",
        )
        raise Broken
    own = [distiller.get_submodule(name) for name in phase.trains if name in children]
    if set(phase.trains) <= children and not any(list(module.parameters()) for module in own):
        subject.tell(f"phase {phase.name!r} trains nothing: its modules have no parameters", "leave the phase out")
        raise Broken
    if "student" in phase.trains and not phase.runs_student:
        subject.tell(f"phase {phase.name!r} trains the student and does not run it", "leave runs_student=True")
        raise Broken


def _look_at_needs(subject: Subject, phase: Phase) -> None:
    if phase.needs is None:
        return
    beyond = exceeding(phase.needs, subject.needs)
    if beyond:
        subject.tell(
            f"phase {phase.name!r} needs {', '.join(beyond)}, which the method did not declare",
            "let Phase.needs be a part of the method's Needs",
        )
        raise Broken
    if subject.needs.own_teacher and phase.needs.teacher and not phase.needs.own_teacher:
        subject.tell(
            f"phase {phase.name!r} needs a teacher of somebody else's", "add own_teacher=True to its Phase.needs"
        )
        raise Broken


def exceeding(part: Needs, whole: Needs) -> list[str]:
    """Name what ``part`` asks for beyond ``whole``; a part may do with fewer views, but not with other ones."""
    owners: tuple[Owner, ...] = ("student", "teacher")
    sides = [(part.of(owner), whole.of(owner)) for owner in owners]
    beyond = [
        item.name
        for item in fields(Needs)
        if any(getattr(asked, item.name) is True and not getattr(given, item.name) for asked, given in sides)
    ]
    if part.views not in (Views(), whole.views):
        beyond.append("views")
    if part.negatives not in (None, whole.negatives):
        beyond.append("negatives")
    return beyond


def _look_at_settings(subject: Subject, phase: Phase) -> None:
    known = {item.name for item in fields(subject.config)}
    strange = sorted(set(phase.artefact_settings) - known)
    if strange:
        subject.tell(f"phase {phase.name!r} names settings {', '.join(strange)}", "name fields of Config")


def _look_at_schedule(subject: Subject, phase: Phase) -> None:
    plan = phase.schedule
    if plan is not None and not _fine(plan):
        subject.tell(
            f"phase {phase.name!r} has schedule {plan}", "epochs >= 0, lr > 0 or None, milestones as shares in (0, 1)"
        )


def _fine(plan: Schedule) -> bool:
    rate = plan.lr is None or plan.lr > 0
    return plan.epochs >= 0 and rate and all(0 < share < 1 for share in plan.milestones)
