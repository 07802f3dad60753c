"""Which views a group of lanes wants of each image, each made and shown to the teacher once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressor.data.types import PLAIN, ViewSlot
from compressor.distiller import ModelOutput, Needs, Owner, Views
from compressor.models.taps import Wanted


@dataclass(frozen=True)
class SlotPlan:
    """The union of the views that some lanes want; slot 0 is the plain augmented image, which every family begins with.

    Args:
        slots: what the data must deliver, in this order.
        teacher: for each slot, what the teacher must show of it; slots nobody shows the teacher are absent.
    """

    slots: tuple[ViewSlot, ...]
    teacher: Mapping[int, Wanted]

    @staticmethod
    def of(needs: Sequence[Needs]) -> "SlotPlan":
        """Make the plan for lanes with these needs."""
        slots: list[ViewSlot] = [PLAIN]
        teacher: dict[int, Wanted] = {}
        for need in needs:
            for view in range(need.views.count):
                slot = _slot(need.views, view)
                if slot not in slots:
                    slots.append(slot)
                if need.teacher and not need.own_teacher:
                    number = slots.index(slot)
                    teacher[number] = teacher.get(number, Wanted()) | wanted_of(need, "teacher")
        return SlotPlan(tuple(slots), teacher)

    def columns(self, views: Views) -> list[int]:
        """Return the slots of a family's views, view 0 first."""
        return [self.slots.index(_slot(views, view)) for view in range(views.count)]

    def select(self, images: Tensor, views: Views) -> Tensor:
        """Take a family's views out of ``images`` (N, S, C, H, W): (N * V, C, H, W), view fastest."""
        columns = self.columns(views)
        if columns == [0]:
            return images[:, 0]
        if columns == list(range(images.shape[1])):
            return images.flatten(0, 1)
        return torch.stack([images[:, column] for column in columns], dim=1).flatten(0, 1)

    def answers(self, teacher: Callable[[Tensor, Wanted], ModelOutput], images: Tensor) -> Mapping[int, ModelOutput]:
        """Show the teacher every slot that some lane wants of it, one slot at a time.

        Slot by slot a call has the same rows whatever the other lanes want, so a lane's answer is the same alone and
        in company, bit for bit; and activations stay a view's size.

        Args:
            teacher: in eval mode. images: (N, S, C, H, W), normalised for it.
        """
        with torch.no_grad():
            return {slot: teacher(images[:, slot], wanted) for slot, wanted in self.teacher.items()}

    def answer_for(self, needs: Needs, answers: Mapping[int, ModelOutput]) -> ModelOutput:
        """Return what one lane declared of the teacher's answers: rows image-major, view fastest."""
        if not needs.teacher or needs.own_teacher:
            return ModelOutput(owner="teacher")
        return ModelOutput.interleave([answers[slot].only(needs.of("teacher")) for slot in self.columns(needs.views)])


def wanted_of(needs: Needs, owner: Owner) -> Wanted:
    """Translate a method's needs into what a pass of one network must serve."""
    own = needs.of(owner)
    return Wanted(
        stages=bool(own.stages),
        preacts=bool(own.preacts),
        embedding=bool(own.embedding),
        tails=needs.tails,
        classifier=needs.classifier,
    )


def _slot(views: Views, view: int) -> ViewSlot:
    return PLAIN if view == 0 else ViewSlot(views, view)
