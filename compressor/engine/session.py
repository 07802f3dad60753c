"""What all lanes of one loop share: data, teacher, device, who listens, who may stop it."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from compressor.data.types import Augmentation, DataSet, ViewSlot
from compressor.engine.checkpoint import Checkpoints
from compressor.engine.history import RunLog
from compressor.engine.interrupts import StopRequest
from compressor.engine.lanes import Lane
from compressor.engine.normalise import Normalisation
from compressor.engine.runtime import Runtime
from compressor.events import Event, Listener
from compressor.models.taps import TappedModel

if TYPE_CHECKING:
    from compressor.engine.replay import Replay


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained teacher, frozen and in eval mode.

    Args:
        name: as it is shown. tapped: the network with taps. normalisation: what it was trained with.
        sha256: of its weights. top1: its accuracy on held-out images when it was scored, in percent.
        origin: where the weights came from.
    """

    name: str
    tapped: TappedModel
    normalisation: Normalisation
    sha256: str
    top1: float | None = None
    origin: str = ""


@dataclass(frozen=True, kw_only=True)
class Session:
    """The common ground of a loop.

    Args:
        save_every: seconds between checkpoints at most. fail_fast: an error of a lane ends everything.
        watch_test: see `compressor.config.settings.RuntimeConfig`.
        replay: where the teacher's answers are kept; None computes every one.
    """

    data: DataSet
    teacher: Teacher | None
    augmentation: Augmentation
    runtime: Runtime
    listener: Listener
    stop: StopRequest
    save_every: float = 600.0
    fail_fast: bool = True
    watch_test: bool = False
    replay: "Replay | None" = None


@dataclass
class Seat:
    """A lane's place in a loop: its folder's checkpoints and log, how its student sees images, whether it failed."""

    lane: Lane
    normalisation: Normalisation
    checkpoints: Checkpoints | None
    log: RunLog
    failure: Exception | None = None
    warnings: list[str] = field(default_factory=list)

    def tell(self, session: Session, event: Event) -> None:
        """Tell whoever listens, and the lane's own log."""
        self.log.tell(event)
        if session.runtime.is_main:
            session.listener(event)


class Prepared:
    """One batch's pixels (N, S, C, H, W), normalised once for each network that sees them differently."""

    def __init__(self, images: Tensor, slots: tuple[ViewSlot, ...]) -> None:
        self._raw = images
        self._done: dict[Normalisation, Tensor] = {}
        self.slots = slots

    def for_network(self, normalisation: Normalisation) -> Tensor:
        """Return the images as one network wants them, float32."""
        if normalisation not in self._done:
            self._done[normalisation] = normalisation(self._raw)
        return self._done[normalisation]
