"""The union of views that lanes share, against loops that go image by image and view by view."""

import pytest
import torch
from torch import Tensor, nn

from compressor.data.types import PLAIN, ViewSlot
from compressor.distiller import Needs, Rotations, Views
from compressor.engine.views import SlotPlan, wanted_of
from compressor.errors import PluginError
from compressor.models.taps import TappedModel, Wanted

FOUR = Rotations(4)


class Counting(nn.Module):
    """A network whose answer names its input, and which counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.classifier = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.classifier(images.mean((-1, -2)))
        return logits


def slots_of_images(images: int = 3, slots: int = 4) -> Tensor:
    return torch.randn(images, slots, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def test_families_share_the_plain_slot_and_nothing_else_twice() -> None:
    plan = SlotPlan.of([Needs(), Needs(views=FOUR), Needs(views=FOUR, embedding=True), Needs(teacher=False)])
    assert plan.slots == (PLAIN, ViewSlot(FOUR, 1), ViewSlot(FOUR, 2), ViewSlot(FOUR, 3))


def test_teacher_is_shown_what_some_lane_wants_of_each_slot_and_no_more() -> None:
    needs = [Needs(stages=True), Needs(views=FOUR, embedding=True), Needs(teacher=False, views=Rotations(2))]
    plan = SlotPlan.of(needs)
    assert plan.teacher[0] == Wanted(stages=True, embedding=True)
    assert [plan.teacher[slot] for slot in (1, 2, 3)] == [Wanted(embedding=True)] * 3
    assert len(plan.slots) == 5
    assert 4 not in plan.teacher  # another family's view, of a lane without a teacher


def test_teacher_is_not_asked_for_what_is_read_of_the_student_alone() -> None:
    needs = Needs(stages="student", preacts="teacher", embedding="student")
    plan = SlotPlan.of([needs])
    assert plan.teacher[0] == wanted_of(needs, "teacher") == Wanted(preacts=True)
    assert wanted_of(needs, "student") == Wanted(stages=True, embedding=True)
    in_company = SlotPlan.of([needs, Needs(embedding=True)])
    teacher = TappedModel(Counting(), owner="teacher").eval()
    answers = {0: teacher(slots_of_images()[:, 0], Wanted(embedding=True))}
    with pytest.raises(PluginError, match="embedding of the teacher were read but not served"):
        _ = in_company.answer_for(needs, answers).embedding


def test_one_teacher_pass_a_slot_whatever_the_number_of_lanes() -> None:
    teacher = Counting()
    plan = SlotPlan.of([Needs(views=FOUR)] * 3 + [Needs()] * 2)
    plan.answers(TappedModel(teacher, owner="teacher").eval(), slots_of_images())
    assert teacher.calls == 4


def test_selected_views_are_image_major_and_view_fastest() -> None:
    images = slots_of_images()
    plan = SlotPlan.of([Needs(views=FOUR)])
    rows = [images[image, view] for image in range(3) for view in range(4)]
    assert torch.equal(plan.select(images, FOUR), torch.stack(rows))
    assert torch.equal(plan.select(images, Views()), images[:, 0])


def test_teacher_rows_stand_beside_the_student_rows() -> None:
    teacher = TappedModel(Counting(), owner="teacher").eval()
    images = slots_of_images()
    needs = Needs(views=FOUR, embedding=True)
    plan = SlotPlan.of([Needs(), needs])
    answer = plan.answer_for(needs, plan.answers(teacher, images))
    slow = torch.stack([teacher.net(images[i, v][None])[0] for i in range(3) for v in range(4)])
    assert torch.allclose(answer.logits, slow, atol=1e-6)
    assert torch.allclose(answer.embedding, plan.select(images, FOUR).mean((-1, -2)), atol=1e-6)


def test_answers_of_the_teacher_carry_no_gradient() -> None:
    plan = SlotPlan.of([Needs()])
    answers = plan.answers(TappedModel(Counting(), owner="teacher"), slots_of_images(slots=1))
    assert not answers[0].logits.requires_grad


def test_answer_for_a_lane_is_bit_equal_alone_and_in_company() -> None:
    teacher = TappedModel(Counting(), owner="teacher").eval()
    images = slots_of_images(images=7)
    alone = SlotPlan.of([Needs()])
    together = SlotPlan.of([Needs(views=FOUR, embedding=True), Needs()])
    first = alone.answer_for(Needs(), alone.answers(teacher, images[:, :1])).logits
    second = together.answer_for(Needs(), together.answers(teacher, images)).logits
    assert torch.equal(first, second)
