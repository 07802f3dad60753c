"""One micro-batch as a lane gets it, and the tensors in it as a flat list and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from compressor.distiller import Batch, ModelOutput


@dataclass(frozen=True, kw_only=True)
class Part:
    """One micro-batch as a lane gets it.

    Args:
        images: (N * V, C, H, W), normalised for the student, view fastest. batch: what the method sees.
        teacher: the shared teacher's answer, restricted to what was declared.
        weight: share of the step's images, in (0, 1].
        own_teacher_images: as ``images``, normalised for the lane's own teacher, where it has one.
    """

    images: Tensor
    batch: Batch
    teacher: ModelOutput
    weight: float
    own_teacher_images: Tensor | None = None

    def apply(self, function: Callable[[Tensor], Tensor]) -> "Part":
        """Return the same part with ``function`` applied to every tensor in it, always in the same order."""

        def of(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else function(tensor)

        batch = replace(
            self.batch,
            labels=function(self.batch.labels),
            index_or_none=of(self.batch.index_or_none),
            contrast_or_none=of(self.batch.contrast_or_none),
        )
        return replace(
            self,
            images=function(self.images),
            batch=batch,
            teacher=self.teacher.apply(function),
            own_teacher_images=of(self.own_teacher_images),
        )


def tensors_of(parts: Sequence[Part]) -> list[Tensor]:
    """Return every tensor of some parts, in the order of `Part.apply`."""
    found: list[Tensor] = []

    def take(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    for part in parts:
        part.apply(take)
    return found


def filled(parts: Sequence[Part], tensors: Sequence[Tensor]) -> list[Part]:
    """Return parts with other tensors in place of theirs, given as `tensors_of` lists them."""
    left = iter(tensors)
    return [part.apply(lambda _: next(left)) for part in parts]
