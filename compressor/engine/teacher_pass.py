"""The teacher's pass, recorded once for each shape of its answer and repeated, where the device can."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from compressor.distiller import ModelOutput
from compressor.engine.capture import Recorder
from compressor.engine.repeated import Repeated
from compressor.models.taps import TappedModel, Wanted

Pass = Callable[[Tensor, Wanted], ModelOutput]
"""Images (B, C, H, W), normalised, and what is wanted of the answer to them."""


class RecordedPass:
    """Answers as the network does; nobody else's memory is in the answers.

    Args:
        tapped: frozen and in eval mode. warn: takes a line where it goes on without a recording.
    """

    def __init__(self, tapped: TappedModel, recorder: Recorder, warn: Callable[[str], None]) -> None:
        self._tapped = tapped
        self._recorder = recorder
        self._warn = warn
        self._repeated: dict[Wanted, Repeated] = {}
        self._answers: dict[Wanted, ModelOutput] = {}

    def __call__(self, images: Tensor, wanted: Wanted) -> ModelOutput:
        """Return what is wanted of the answer to ``images``, without gradient."""
        repeated = self._repeated.setdefault(wanted, Repeated(self._recorder, list, self._unrecordable))

        def work(tensors: Sequence[Tensor]) -> list[Tensor]:
            with torch.no_grad():
                answer: ModelOutput = self._tapped(tensors[0], wanted)
            self._answers[wanted] = answer
            return answer.tensors()

        done = iter(repeated(work, [images]))
        return self._answers[wanted].apply(lambda _: next(done))

    def _unrecordable(self, reason: str) -> None:
        self._warn(f"the teacher's pass is not recorded, going on batch by batch ({reason})")


def pass_of(tapped: TappedModel, recorder: Recorder | None, warn: Callable[[str], None]) -> Pass:
    """Return the teacher's pass, recorded where there is a recorder."""
    return tapped if recorder is None else RecordedPass(tapped, recorder, warn)
