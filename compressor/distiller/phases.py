"""Stretches of training: what trains, on what terms, for how long."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from compressor.distiller.batch import Batch
from compressor.distiller.needs import Needs
from compressor.distiller.outputs import ModelOutput

Terms = dict[str, Tensor]
"""Named 0-d tensors, each already weighted; the trainer adds them up and logs them apart."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a phase trains, where it differs from the run's own settings.

    Args:
        epochs: >= 0; 0 skips the phase.
        lr: > 0, learning rate at the start; None takes the run's own.
        milestones: shares of the phase in (0, 1) at which the rate is multiplied by ``decay``.
    """

    epochs: int
    lr: float | None = None
    milestones: tuple[float, ...] = ()
    decay: float = 0.1


TermsFunction = Callable[[Batch, ModelOutput, ModelOutput], Terms]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training.

    Args:
        name: unique within the method; names checkpoints and metrics.
        trains: ``"student"``, names of the method's own child modules, and ``"teacher"`` where the method declared
            `Needs.own_teacher`; everything else is frozen and in eval mode.
        terms: what is minimised.
        schedule: None takes the run's own settings.
        runs_student: False when the student is not looked at: then ``terms`` gets an empty student output.
        needs: what this phase is served, a part of the method's `Needs`; None for all of it.
        artefact: the product depends on the teacher and the teacher's data alone. It is trained on all of the
            teacher's data, kept in the cache, and shared by every student and seed. Implies ``runs_student=False``.
        artefact_settings: the settings of the method that the product depends on; they go into the cache's key.
    """

    name: str
    trains: tuple[str, ...]
    terms: TermsFunction
    schedule: Schedule | None = None
    runs_student: bool = True
    needs: Needs | None = None
    artefact: bool = False
    artefact_settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.artefact and self.runs_student:
            raise ValueError(f"phase {self.name!r}: an artefact of the teacher cannot depend on the student")
        if not self.trains:
            raise ValueError(f"phase {self.name!r} trains nothing")
