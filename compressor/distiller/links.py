"""Where a method joins the two networks, for people to read before a run."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Link:
    """One place of the student that learns from one of the teacher.

    Args:
        student, teacher: the places with their shapes, such as ``stage2 128x16x16`` or ``embedding 256``.
        adapter: what stands between them, in words; ``none`` where they are compared as they are.
        parameters: that the adapter adds while training.
    """

    student: str
    teacher: str
    adapter: str = "none"
    parameters: int = 0
