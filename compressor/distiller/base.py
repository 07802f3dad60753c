"""The base class of every method."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, Literal, TypeVar

from torch import nn

from compressor.distiller.batch import Batch
from compressor.distiller.links import Link
from compressor.distiller.needs import Needs
from compressor.distiller.outputs import ModelOutput
from compressor.distiller.phases import Phase, Terms
from compressor.distiller.specs import Pair

CONTRACT_VERSION = 1

ConfigT = TypeVar("ConfigT")


class Distiller(nn.Module, ABC, Generic[ConfigT]):
    """Base of every method. Subclasses set `name` and `Config` and write `terms`.

    Child modules made in ``__init__`` (heads, adapters, banks) are trained as the phases say, saved with every
    checkpoint, and never exported.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    needs: ClassVar[Needs] = Needs()
    contract_version: ClassVar[int] = CONTRACT_VERSION
    exports_extras: ClassVar[bool] = False
    capturable: ClassVar[Literal["no", "epoch", "phase"]] = "no"
    """How long a step stays the same operations, whatever the tensors hold, so that it may be recorded and repeated.

    ``phase``: Python numbers and branches in `terms` and `after_step` hang on settings and shapes alone. ``epoch``: on
    `Batch.epoch` too. ``no``: on anything else, such as `Batch.progress`, or the host is asked for a number. What a
    step changes are tensors, in place.
    """
    zero_when_equal: ClassVar[tuple[str, ...]] = ()
    """Terms that vanish where student and teacher answer alike and every adapter is the identity or absent."""

    def __init__(self, config: ConfigT, pair: Pair) -> None:
        super().__init__()
        self.config = config
        self.pair = pair

    @classmethod
    def needs_for(cls, config: ConfigT) -> Needs:
        """Return what a run with these settings needs; the default is the class's `needs`."""
        return cls.needs

    @classmethod
    def check(cls, config: ConfigT, pair: Pair) -> None:
        """Refuse, before anything is built or trained, a pair the method cannot work on.

        Raises:
            UnsupportedPair: naming what is missing.
        """

    @classmethod
    def memory_bytes(cls, config: ConfigT, pair: Pair) -> int:
        """Estimate the memory of the method's own state and largest intermediates, in bytes."""
        return 0

    @abstractmethod
    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return the weighted terms of the phase in which the student learns.

        Gradient must reach the student and never the teacher, whose output carries none.
        """

    def phases(self) -> Sequence[Phase]:
        """Return the phases in order; the default is one, in which student and all child modules train."""
        children = tuple(name for name, _ in self.named_children())
        return (Phase(name="student", trains=("student", *children), terms=self.terms),)

    def plan(self) -> Sequence[Link]:
        """Return where both networks are joined and by what, for people to read; the default says nothing."""
        return ()

    def after_step(self, batch: Batch) -> None:
        """Move what is not trained (banks, queues). Called once for each micro-batch, after the optimiser's step."""

    def export(self, student: nn.Module) -> nn.Module:
        """Return what is evaluated and published: the student alone.

        A method whose product is more than the student (SimKD's projector and the teacher's classifier) sets
        `exports_extras` and returns the whole, in which the student's parameters are shared, not copied: best an
        `ExtendedStudent`, which says what was added and how it is built again.
        """
        return student
